//! The one way to run code in parallel.
