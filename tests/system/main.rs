//! System tests: behaviour across actors, in virtual time, as one binary.

mod faults;
mod flow;
mod limits;
mod overload;
mod plant;
mod tidy;
