//! Fused kernels over rows: softmax, log-softmax, log-sum-exp, cross entropy.
//!
//! A tensor is seen as `(outer, n, inner)`, contiguous; the rows run along `n`. A kernel reads a
//! row two or three times, from cache after the first.
//!
//! 1. **Shift by the maximum.** With `m = max x`, `softmax(x) = e^(x-m) / Σ e^(x-m)` cannot
//!    overflow, and the sum is at least 1. The maximum skips NaN: the sum then carries it.
//! 2. **Two drivers, one operation.** An operation is a [`RowOp`]: what is summed,
//!    and what an element becomes. One driver runs it along contiguous rows, the other, for
//!    `inner > 1`, down columns with a vector across them.
//! 3. **One shape for all sums.** A row is read in vectors of 32 elements; element `i` of a sum
//!    belongs to lane `i % 32`. Lanes are folded by halves at the end of each block of 4096
//!    elements, and blocks are added in order, by both drivers. So the instruction set, the layout
//!    and the number of threads do not show in the result.
//! 4. **No scalar tail.** The last, shorter vector is padded with values that do not count, so a
//!    row of ten costs one vector.
//! 5. **In place.** A vector is loaded, transformed and stored as a whole, so an output may be the
//!    same memory as an input.
#![allow(unsafe_code)]

mod rows;
#[cfg(test)]
mod tests;

use super::math::Real;
use super::threads::parallel_for;
use crate::alloc;
use crate::bail;
use crate::dtype::{Element, Scalar};
use crate::error::{Error, Kind, Result};
use rows::*;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

/// Elements below which a piece of work is not worth another thread.
const GRAIN: usize = 32 << 10;

/// `(outer, n, inner)`: `outer * inner` rows of `n` elements, `inner` apart.
///
/// Row `o * inner + i` begins at element `o * n * inner + i`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The product of the sizes in front of the dimension.
    pub outer: usize,
    /// The size of the dimension.
    pub n: usize,
    /// The product of the sizes behind it.
    pub inner: usize,
}

impl Rows {
    /// How many rows there are.
    pub fn count(self) -> usize {
        self.outer * self.inner
    }

    /// Where element `k` of a row is.
    fn at(self, row: usize, k: usize) -> usize {
        (row / self.inner * self.n + k) * self.inner + row % self.inner
    }
}

/// What a cross entropy does with class indices.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy<'a, T> {
    /// The class of each row.
    pub targets: &'a [i64],
    /// A factor for each class.
    pub weight: Option<&'a [T]>,
    /// Rows with this class count nothing.
    pub ignore_index: i64,
    /// The share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
}

// ---------------------------------------------------------------------------------------------
// The operations
// ---------------------------------------------------------------------------------------------

/// `y = e^x / Σ e^x` along each row.
///
/// A row with `+∞`, with NaN or of `-∞` alone becomes NaN, as in PyTorch.
///
/// # Safety
/// `x` and `y` point to `rows.count() * rows.n` elements, valid to read and to write; they are the
/// same or do not overlap.
pub unsafe fn softmax<T: Real>(x: *const T, y: *mut T, rows: Rows) {
    // SAFETY: the caller's promise.
    unsafe { run::<T, Softmax>(Memory { x, y: x, out: y, stats: NO_STATS() }, rows) }
}

/// `y = x - ln Σ e^x` along each row.
///
/// # Safety
/// As [`softmax`].
pub unsafe fn log_softmax<T: Real>(x: *const T, y: *mut T, rows: Rows) {
    // SAFETY: the caller's promise.
    unsafe { run::<T, LogSoftmax>(Memory { x, y: x, out: y, stats: NO_STATS() }, rows) }
}

/// The gradient of [`softmax`]: `gx = y (g - Σ g y)`, from its output `y`.
///
/// # Safety
/// As [`softmax`], for `g`, `y` and `gx`.
pub unsafe fn softmax_backward<T: Real>(g: *const T, y: *const T, gx: *mut T, rows: Rows) {
    // SAFETY: the caller's promise.
    unsafe { run::<T, SoftmaxBackward>(Memory { x: g, y, out: gx, stats: NO_STATS() }, rows) }
}

/// The gradient of [`log_softmax`]: `gx = g - e^y Σ g`, from its output `y`.
///
/// # Safety
/// As [`softmax`], for `g`, `y` and `gx`.
pub unsafe fn log_softmax_backward<T: Real>(g: *const T, y: *const T, gx: *mut T, rows: Rows) {
    // SAFETY: the caller's promise.
    unsafe { run::<T, LogSoftmaxBackward>(Memory { x: g, y, out: gx, stats: NO_STATS() }, rows) }
}

/// `y = ln Σ e^x`, one value per row; `-∞` for an empty row or one of `-∞` alone.
///
/// # Safety
/// `x` points to `rows.count() * rows.n` elements, `y` to `rows.count()`; they do not overlap.
pub unsafe fn logsumexp<T: Real>(x: *const T, y: *mut T, rows: Rows) {
    let null = ptr::null_mut();
    // SAFETY: the caller's promise.
    unsafe {
        run::<T, LogSumExp>(Memory { x, y: x, out: null, stats: [null, y, null, null] }, rows)
    }
}

/// The loss of each row, `-w[t] log_softmax(x)[t]`, mixed with its sum over all classes by label
/// smoothing: `(1-ε) w[t] l[t] + ε/n Σ w l` with `l = -log_softmax(x)`.
///
/// Ignored rows lose 0. `max` and `log_sum` receive `m` and `ln Σ e^(x-m)` of each row, for
/// [`cross_entropy_backward`]; reducing the losses is left to the caller.
///
/// # Errors
/// [`Kind::Index`] for a target that is neither a class nor ignored, and [`Kind::Shape`] if there
/// is not one target per row and one weight per class, before anything is written;
/// [`Kind::Memory`] if label smoothing has no scratch.
///
/// # Safety
/// `x` points to `rows.count() * rows.n` elements; `loss`, `max` and `log_sum` to `rows.count()`
/// each, and no two overlap.
pub unsafe fn cross_entropy<T: Real + Element>(
    x: *const T,
    of: CrossEntropy<'_, T>,
    loss: *mut T,
    (max, log_sum): (*mut T, *mut T),
    rows: Rows,
) -> Result<()> {
    of.check(rows)?;
    let (keep, spread) = of.mixture(rows.n);
    let smoothed = of.label_smoothing != 0.0;
    let null = ptr::null_mut();
    let mut total = T::ZERO;
    // SAFETY: the caller's promise; `loss` serves as scratch before it gets its value.
    unsafe {
        let stats = [max, log_sum, null, null];
        run::<T, MaxLogSum>(Memory { x, y: x, out: null, stats }, rows);
        if smoothed {
            let weight = of.weights(rows.n)?;
            total = weight.iter().fold(T::ZERO, |sum, &w| sum + w);
            let stats = [null, loss, null, null];
            run::<T, WeightedDepth>(Memory { x, y: weight.as_ptr(), out: null, stats }, rows);
        }
    }
    let [x, loss, max, log_sum] = [x.cast_mut(), loss, max, log_sum].map(Shared);
    parallel_for(rows.count(), GRAIN / 8, |range| {
        for row in range {
            // SAFETY: `row` and the class are in range, and only this task has this row.
            unsafe {
                let (max, log_sum) = (*max.get().add(row), *log_sum.get().add(row));
                let place = loss.get().add(row);
                let value = match of.class(row) {
                    None => T::ZERO,
                    Some(class) => {
                        let x = *x.get().add(rows.at(row, class));
                        let hit = keep * of.weight_of(class) * (log_sum - (x - max));
                        // Σ w l = Σ w (log_sum + max - x)
                        if smoothed { hit + spread * (log_sum * total + *place) } else { hit }
                    }
                };
                place.write(value);
            }
        }
    });
    Ok(())
}

/// The gradient of [`cross_entropy`]: for each row, with `A = (1-ε) w[t]` and `b = ε/n w`,
/// `gx = g (softmax(x) (A + Σ b) - A onehot(t) - b)`; 0 for ignored rows.
///
/// `g` is the gradient of each row's loss, with the factor of the reduction in it.
///
/// # Errors
/// As [`cross_entropy`], and [`Kind::Memory`] if there is no scratch for two values per row.
///
/// # Safety
/// As [`cross_entropy`]; `g` points to `rows.count()` elements, `gx` to `rows.count() * rows.n`
/// and may be `x`.
pub unsafe fn cross_entropy_backward<T: Real + Element>(
    g: *const T,
    x: *const T,
    of: CrossEntropy<'_, T>,
    (max, log_sum): (*const T, *const T),
    gx: *mut T,
    rows: Rows,
) -> Result<()> {
    of.check(rows)?;
    let (keep, spread) = of.mixture(rows.n);
    let smoothed = of.label_smoothing != 0.0;
    let weight = if smoothed { of.weights(rows.n)? } else { Scratch::new(0)? };
    let spread_total = spread * weight.iter().fold(T::ZERO, |sum, &w| sum + w);
    let mut given = Scratch::<T>::new(2 * rows.count())?;
    let (factors, spreads) = given.as_mut_slice().split_at_mut(rows.count());
    for row in 0..rows.count() {
        // SAFETY: there is a gradient per row.
        let g = unsafe { *g.add(row) };
        let class = of.class(row);
        let factor = |class| g * (keep * of.weight_of(class) + spread_total);
        factors[row] = class.map_or(T::ZERO, factor);
        spreads[row] = class.map_or(T::ZERO, |_| g * spread);
    }
    let stats = [max.cast_mut(), log_sum.cast_mut(), factors.as_mut_ptr(), spreads.as_mut_ptr()];
    let memory = Memory { x, y: weight.as_ptr(), out: gx, stats };
    // SAFETY: the caller's promise; stats are only read.
    unsafe {
        match smoothed {
            true => run::<T, SmoothedSoftmax>(memory, rows),
            false => run::<T, ScaledSoftmax>(memory, rows),
        }
    }
    let (g, gx) = (Shared(g.cast_mut()), Shared(gx));
    parallel_for(rows.count(), GRAIN / 8, |range| {
        for row in range {
            // SAFETY: `row` and the class are in range, and only this task has this row.
            unsafe {
                match of.class(row) {
                    Some(class) => {
                        let place = gx.get().add(rows.at(row, class));
                        place.write(*place - *g.get().add(row) * (keep * of.weight_of(class)));
                    }
                    // 0 times an infinity would be NaN.
                    None => (0..rows.n).for_each(|k| gx.get().add(rows.at(row, k)).write(T::ZERO)),
                }
            }
        }
    });
    Ok(())
}

impl<T: Real + Element> CrossEntropy<'_, T> {
    fn check(&self, rows: Rows) -> Result<()> {
        let (count, n) = (rows.count(), rows.n);
        let targets = self.targets.len();
        if targets != count {
            bail!(Shape, "cross_entropy", "{targets} targets for {count} rows");
        }
        if let Some(weights) = self.weight.map(<[T]>::len).filter(|&len| len != n) {
            bail!(Shape, "cross_entropy", "{weights} weights for {n} classes");
        }
        let known = |t: i64| t == self.ignore_index || usize::try_from(t).is_ok_and(|t| t < n);
        match self.targets.iter().find(|&&t| !known(t)) {
            None => Ok(()),
            Some(t) => {
                let text = format!("Target {t} is out of bounds: there are {n} classes.");
                Err(Error::plain(Kind::Index, text))
            }
        }
    }

    /// The class of a row, or none if it is ignored. Checked before.
    fn class(&self, row: usize) -> Option<usize> {
        let target = self.targets[row];
        (target != self.ignore_index).then_some(target as usize)
    }

    /// `1 - ε` and `ε / n`.
    fn mixture(&self, n: usize) -> (T, T) {
        let real = |x| T::from_scalar(Scalar::Float(x));
        (real(1.0 - self.label_smoothing), real(self.label_smoothing / n as f64))
    }

    fn weight_of(&self, class: usize) -> T {
        self.weight.map_or(T::ONE, |w| w[class])
    }

    /// All weights, also where all are 1.
    fn weights(&self, n: usize) -> Result<Scratch<T>> {
        let mut weights = Scratch::new(n)?;
        match self.weight {
            Some(given) => weights.as_mut_slice().copy_from_slice(given),
            None => weights.as_mut_slice().fill(T::ONE),
        }
        Ok(weights)
    }
}

// ---------------------------------------------------------------------------------------------
// Work for threads
// ---------------------------------------------------------------------------------------------

/// No statistics to keep.
#[allow(non_snake_case)]
const fn NO_STATS<T>() -> [*mut T; 4] {
    [ptr::null_mut(); 4]
}

/// Runs `O` on all rows, in parallel.
///
/// # Safety
/// As [`one_by_one`] and [`side_by_side`], for the whole tensor.
unsafe fn run<T: Real, O: RowOp<T>>(memory: Memory<T>, rows: Rows) {
    let Rows { outer, n, inner } = rows;
    let [x, y, out] = [memory.x.cast_mut(), memory.y.cast_mut(), memory.out].map(Shared);
    let stats = memory.stats.map(Shared);
    // The memory from element `element` and row `row` on.
    let part = |element: usize, row: usize| {
        let skip = |p: Shared<T>, by| match p.get() {
            p if p.is_null() => p,
            // SAFETY: inside the tensor or at its end.
            p => unsafe { p.add(by) },
        };
        Memory {
            x: skip(x, element),
            y: if O::SECOND && !O::PER_CLASS { skip(y, element) } else { y.get() },
            out: skip(out, element),
            stats: stats.map(|s| skip(s, row)),
        }
    };
    // Rows of one element lie one after the other however far apart their elements are.
    if inner == 1 || n <= 1 {
        parallel_for(rows.count(), (GRAIN / n.max(1)).max(1), |range| {
            // SAFETY: the caller's promise; tasks have different rows.
            unsafe { one_by_one::<T, O>(&part(range.start * n, range.start), n, range.len()) }
        });
        return;
    }
    let strips = inner.div_ceil(WIDTH);
    parallel_for(outer * strips, (GRAIN / n.max(1) / inner.clamp(1, WIDTH)).max(1), |range| {
        for strip in range {
            let (o, first) = (strip / strips, strip % strips * WIDTH);
            let memory = part(o * n * inner + first, o * inner + first);
            // SAFETY: the caller's promise; tasks have different rows.
            unsafe { side_by_side::<T, O>(&memory, n, inner, WIDTH.min(inner - first)) }
        }
    });
}

/// A pointer that threads share; they write to different places behind it.
struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<T> {}

// SAFETY: a pointer is only an address; those who dereference it argue for themselves.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// A method, so that closures capture the whole and not the field.
    fn get(self) -> *mut T {
        self.0
    }
}

/// Zeroed memory for `len` numbers.
struct Scratch<T> {
    block: NonNull<u8>,
    len: usize,
    element: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    fn new(len: usize) -> Result<Self> {
        let block = alloc::allocate_zeroed(len.saturating_mul(size_of::<T>()))?;
        Ok(Scratch { block, len, element: PhantomData })
    }

    fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: the block holds `len` numbers, aligned, initialised, and borrowed with `self`.
        unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr().cast(), self.len) }
    }
}

impl<T> std::ops::Deref for Scratch<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: as in `as_mut_slice`.
        unsafe { std::slice::from_raw_parts(self.block.as_ptr().cast(), self.len) }
    }
}

impl<T> Drop for Scratch<T> {
    fn drop(&mut self) {
        // SAFETY: allocated with this size in `new`.
        unsafe { alloc::deallocate(self.block, self.len * size_of::<T>()) };
    }
}
