//! The one way to run code in parallel.

use std::ops::Range;

/// Runs `f` over all of `0..len`, in pieces of about `grain`.
pub fn parallel_for(len: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    parallel_chunks(len, grain, |_, range| f(range));
}

/// Runs `f(index, range)` for every piece of `chunk` elements of `0..len`; the last is shorter.
pub fn parallel_chunks(len: usize, chunk: usize, f: impl Fn(usize, Range<usize>) + Sync) {
    let chunk = chunk.max(1);
    for index in 0..len.div_ceil(chunk) {
        f(index, index * chunk..len.min((index + 1) * chunk));
    }
}
