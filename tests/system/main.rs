//! System tests: behaviour across actors, in virtual time, as one binary.

mod alerts;
mod answers;
mod faults;
mod feed;
mod flow;
mod follow_up;
mod health;
mod limits;
mod overload;
mod plant;
mod pools;
mod seeds;
mod settings;
mod spans;
mod status;
mod tidy;
