//! Rows M01–M27: the state machine.
