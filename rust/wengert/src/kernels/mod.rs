//! Loops over memory. Nothing here knows tensors, graphs or Python.

pub mod blocks;
pub mod cast;
pub mod engine;
pub mod gemm;
pub mod interrupt;
pub mod isa;
pub mod linalg;
pub mod math;
pub mod reduce;
pub mod rows;
pub mod scan;
pub mod softmax;
pub mod threads;

#[cfg(test)]
mod arrays;
