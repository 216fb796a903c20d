//! What a machine can check about the code itself.
