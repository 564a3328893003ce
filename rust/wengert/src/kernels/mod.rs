//! Loops over memory. Nothing here knows tensors, graphs or Python.

pub mod math;
pub mod threads;
