//! `wengert`: reverse-mode automatic differentiation on strided CPU tensors.
//!
//! R. E. Wengert described the tape of reverse-mode differentiation in 1964: the list of
//! operations in the order they ran, walked backwards. This crate is that list. Each layer
//! knows only the ones below it (but for the scheduler in [`graph`], which adds up gradients with
//! operations, because under `create_graph` the sums are recorded too):
//!
//! | module | what it holds |
//! |---|---|
//! | [`ops`] | what an operation means: forward, gradient, signature, documentation |
//! | [`graph`] | the tape: arena, recording, backward |
//! | [`random`], [`mod@format`] | generator streams; printing |
//! | [`kernels`] | loops over memory: no tensor, no graph |
//! | [`profile`] | what ran when |
//! | [`per_thread`] | what each thread has for itself |
//! | [`alloc`] | the caching allocator of tensor memory |
//! | [`dtype`], [`error`] | element types and promotion; the one error type |
#![deny(unsafe_code)]
// Module documentation explains how a module works, which its private items do.
#![allow(rustdoc::private_intra_doc_links)]

pub mod alloc;
pub mod batch;
mod counted;
pub mod dtype;
pub mod error;
pub mod exports;
pub mod format;
pub mod graph;
pub mod kernels;
pub mod layout;
mod lock;
pub mod memory_format;
pub mod ops;
mod per_thread;
pub mod profile;
pub mod random;
pub mod storage;
pub mod tensor;

pub use dtype::{DType, Scalar};
pub use error::{Error, Kind, Result};
pub use tensor::Tensor;
