//! Mean and sum of squared deviations, in one pass.
//!
//! Within a block everything is measured from the block's first element: `s = sum(x - x0)`,
//! `q = sum((x - x0)^2)`, so `mean = x0 + s/n` and `squares = q - s^2/n`. The subtraction is
//! harmless in `f64`: `x0` is one of the elements, so `q` exceeds the true sum of squares by a
//! factor of the block's length at the very most. Blocks are combined by the formula of
//! Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
//! variances" (1979).

#![allow(clippy::needless_range_loop)] // As in `rows`: loops count.

use super::{Method, Routine};

/// Count, mean, and sum of squared deviations from the mean.
///
/// The mean is kept as a distance from the first element until the end: where all elements are
/// large and close together, the difference of two means would have few digits left.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
    shift: f64,
}

/// Turns the distance into the mean and the sum of squares into a variance.
pub(super) fn finish(m: &mut Moments, correction: f64) {
    m.mean += m.shift;
    m.squares /= (m.count - correction).max(0.0);
}

/// Accumulators per block and sum.
const LANES: usize = 8;

enum Variance {}

pub(super) static ROUTINE: Routine = Routine::of::<Variance>();

/// The moments of `n` elements from the sums of their distances to `shift`.
#[inline(always)]
fn moments(shift: f64, n: usize, s: f64, q: f64) -> Moments {
    let count = n as f64;
    let squares = q - s * s / count;
    // Rounding may leave a little below zero; NaN stays.
    let squares = if squares < 0.0 { 0.0 } else { squares };
    Moments { count, mean: s / count, squares, shift }
}

/// Takes a row of columns into one lane of each sum.
#[inline(always)]
fn add(s: &mut [f64], q: &mut [f64], shift: &[f64], x: &[f64]) {
    let n = s.len();
    let (q, shift, x) = (&mut q[..n], &shift[..n], &x[..n]);
    for c in 0..n {
        let d = x[c] - shift[c];
        s[c] += d;
        q[c] = d.mul_add(d, q[c]);
    }
}

impl Method for Variance {
    type Elem = f64;
    type State = Moments;
    /// The shift, and the lanes of two sums.
    const SCRATCH: usize = (1 + 2 * LANES) * size_of::<f64>();

    fn empty() -> Moments {
        Moments { count: 0.0, mean: f64::NAN, squares: 0.0, shift: 0.0 }
    }

    #[inline(always)]
    fn combine(a: Moments, b: Moments) -> Moments {
        let count = a.count + b.count;
        let delta = (b.shift - a.shift) + (b.mean - a.mean);
        let mean = a.mean + delta * (b.count / count);
        let squares = a.squares + b.squares + delta * delta * (a.count * b.count / count);
        Moments { count, mean, squares, shift: a.shift }
    }

    #[inline(always)]
    fn inner(x: &[f64], _base: usize) -> Moments {
        let shift = x[0];
        let (chunks, rest) = x.as_chunks::<LANES>();
        let (mut s, mut q) = ([0.0; LANES], [0.0; LANES]);
        for chunk in chunks {
            for j in 0..LANES {
                let d = chunk[j] - shift;
                s[j] += d;
                q[j] = d.mul_add(d, q[j]);
            }
        }
        // Second arrays: indexing by a variable would push the first out of registers.
        let (mut s, mut q) = (s, q);
        add(&mut s[..rest.len()], &mut q[..rest.len()], &[shift; LANES], rest);
        let mut half = LANES / 2;
        while half > 0 {
            for j in 0..half {
                s[j] += s[j + half];
                q[j] += q[j + half];
            }
            half /= 2;
        }
        moments(shift, x.len(), s[0], q[0])
    }

    #[inline(always)]
    unsafe fn rows(
        scratch: *mut u8,
        columns: usize,
        position: usize,
        x: *const u8,
        step: isize,
        rows: usize,
    ) {
        // SAFETY: the scratch holds the shifts and `2 * LANES` rows of sums, apart from `x`; the
        // first row initialises all of them.
        unsafe {
            let shift = scratch.cast::<f64>();
            if position == 0 {
                std::ptr::copy_nonoverlapping(x.cast::<f64>(), shift, columns);
                shift.add(columns).write_bytes(0, 2 * LANES * columns);
            }
            let shift = std::slice::from_raw_parts(shift, columns);
            for r in 0..rows {
                let lane = (position + r) % LANES;
                let s = scratch.cast::<f64>().add((1 + 2 * lane) * columns);
                let (s, q) = (
                    std::slice::from_raw_parts_mut(s, columns),
                    std::slice::from_raw_parts_mut(s.add(columns), columns),
                );
                let x = x.wrapping_offset(r as isize * step).cast::<f64>();
                add(s, q, shift, std::slice::from_raw_parts(x, columns));
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(
        scratch: *mut u8,
        columns: usize,
        n: usize,
        _base: usize,
        states: *mut Moments,
    ) {
        // SAFETY: as for `rows`.
        unsafe {
            let shift = scratch.cast::<f64>();
            let sums = shift.add(columns);
            // A lane is a row of `s` and a row of `q`, which fold alike.
            let row = 2 * columns;
            let mut half = LANES / 2;
            while half > 0 {
                for i in 0..half * row {
                    let sum = sums.add(i).read() + sums.add(half * row + i).read();
                    sums.add(i).write(sum);
                }
                half /= 2;
            }
            for c in 0..columns {
                let (s, q) = (sums.add(c).read(), sums.add(columns + c).read());
                states.add(c).write(moments(shift.add(c).read(), n, s, q));
            }
        }
    }
}
