//! Loops over memory. Nothing here knows tensors, graphs or Python.

pub mod gemm;
pub mod math;
pub mod threads;
