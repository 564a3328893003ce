//! The loops: one driver for contiguous rows, one for rows side by side, both over any [`RowOp`].
#![allow(unsafe_code)]

use crate::kernels::isa::per_isa;
use crate::kernels::math::{self, Real};
use std::ptr;

/// Elements that one step of a loop handles: two vectors of the widest instruction set in `f32`.
const LANES: usize = 32;
/// Elements after which lanes are folded, to keep their partial sums short.
const BLOCK: usize = 4096;
/// The most rows that [`side_by_side`] takes in one call.
pub const WIDTH: usize = 256;

type Lanes<T> = [T; LANES];

/// Values of a row: the maximum or what was given, the sum or what was given, two more givens.
pub type Stats<T> = [T; 4];

/// What is done with each row: at most a maximum, then at most a sum, then at most a map.
///
/// All methods are `#[inline(always)]`, or nothing vectorises.
pub trait RowOp<T: Real> {
    /// Whether there is a second input `y`.
    const SECOND: bool = false;
    /// Whether the second input is one row, the same for all.
    const PER_CLASS: bool = false;
    /// Whether `stats[0]` is the maximum of `x`.
    const MAX: bool = false;
    /// Whether `stats[1]` is made from a sum. Without, all four are given.
    const SUM: bool = true;
    /// Whether there is an output row.
    const MAP: bool = true;
    /// Whether terms go to the output row, and [`map`](Self::map) sees them in place of `x`.
    const KEEP: bool = false;

    /// What the maximum becomes before it is used.
    #[inline(always)]
    fn shift(max: T) -> T {
        max
    }
    /// What is summed.
    #[inline(always)]
    fn term(x: T, _y: T, _max: T) -> T {
        x
    }
    /// What the sum becomes.
    #[inline(always)]
    fn stat(_max: T, sum: T) -> T {
        sum
    }
    /// An element of the output.
    #[inline(always)]
    fn map(x: T, _y: T, _stats: Stats<T>) -> T {
        x
    }
}

pub struct Softmax;
impl<T: Real> RowOp<T> for Softmax {
    const MAX: bool = true;
    const KEEP: bool = true;
    #[inline(always)]
    fn term(x: T, _: T, max: T) -> T {
        math::exp(x - max)
    }
    #[inline(always)]
    fn stat(_: T, sum: T) -> T {
        T::ONE / sum
    }
    #[inline(always)]
    fn map(e: T, _: T, [_, inverse, ..]: Stats<T>) -> T {
        e * inverse
    }
}

pub struct LogSoftmax;
impl<T: Real> RowOp<T> for LogSoftmax {
    const MAX: bool = true;
    #[inline(always)]
    fn term(x: T, _: T, max: T) -> T {
        math::exp(x - max)
    }
    #[inline(always)]
    fn stat(_: T, sum: T) -> T {
        math::ln(sum)
    }
    #[inline(always)]
    fn map(x: T, _: T, [max, log_sum, ..]: Stats<T>) -> T {
        (x - max) - log_sum
    }
}

/// On `(g, y)`.
pub struct SoftmaxBackward;
impl<T: Real> RowOp<T> for SoftmaxBackward {
    const SECOND: bool = true;
    #[inline(always)]
    fn term(g: T, y: T, _: T) -> T {
        g * y
    }
    #[inline(always)]
    fn map(g: T, y: T, [_, dot, ..]: Stats<T>) -> T {
        y * (g - dot)
    }
}

/// On `(g, y)`.
pub struct LogSoftmaxBackward;
impl<T: Real> RowOp<T> for LogSoftmaxBackward {
    const SECOND: bool = true;
    #[inline(always)]
    fn map(g: T, y: T, [_, sum, ..]: Stats<T>) -> T {
        g - math::exp(y) * sum
    }
}

/// `stats[1] = ln Σ e^x`.
pub struct LogSumExp;
impl<T: Real> RowOp<T> for LogSumExp {
    const MAX: bool = true;
    const MAP: bool = false;
    /// An infinite shift would make NaN of itself.
    #[inline(always)]
    fn shift(max: T) -> T {
        if max.abs() < T::INFINITY { max } else { T::ZERO }
    }
    #[inline(always)]
    fn term(x: T, _: T, shift: T) -> T {
        math::exp(x - shift)
    }
    #[inline(always)]
    fn stat(shift: T, sum: T) -> T {
        shift + math::ln(sum)
    }
}

/// `stats = (max x, ln Σ e^(x - max))`.
pub struct MaxLogSum;
impl<T: Real> RowOp<T> for MaxLogSum {
    const MAX: bool = true;
    const MAP: bool = false;
    #[inline(always)]
    fn term(x: T, _: T, max: T) -> T {
        math::exp(x - max)
    }
    #[inline(always)]
    fn stat(_: T, sum: T) -> T {
        math::ln(sum)
    }
}

/// `stats[1] = Σ w (max - x)` on `(x, w)`.
pub struct WeightedDepth;
impl<T: Real> RowOp<T> for WeightedDepth {
    const SECOND: bool = true;
    const PER_CLASS: bool = true;
    const MAX: bool = true;
    const MAP: bool = false;
    #[inline(always)]
    fn term(x: T, w: T, max: T) -> T {
        w * (max - x)
    }
}

/// `softmax(x) factor`, given `(max, log_sum, factor)`.
pub struct ScaledSoftmax;
impl<T: Real> RowOp<T> for ScaledSoftmax {
    const SUM: bool = false;
    #[inline(always)]
    fn map(x: T, _: T, [max, log_sum, factor, _]: Stats<T>) -> T {
        math::exp((x - max) - log_sum) * factor
    }
}

/// `softmax(x) factor - w spread` on `(x, w)`, given `(max, log_sum, factor, spread)`.
pub struct SmoothedSoftmax;
impl<T: Real> RowOp<T> for SmoothedSoftmax {
    const SECOND: bool = true;
    const PER_CLASS: bool = true;
    const SUM: bool = false;
    #[inline(always)]
    fn map(x: T, w: T, [max, log_sum, factor, spread]: Stats<T>) -> T {
        math::exp((x - max) - log_sum) * factor - w * spread
    }
}

/// The memory that a driver works on. Rows and elements of rows are counted from the pointers.
pub struct Memory<T> {
    pub x: *const T,
    /// Unused without [`RowOp::SECOND`].
    pub y: *const T,
    /// Unused without [`RowOp::MAP`].
    pub out: *mut T,
    /// One value per row each. Null is not written, or read as 0.
    pub stats: [*mut T; 4],
}

// ---------------------------------------------------------------------------------------------
// Vectors
// ---------------------------------------------------------------------------------------------

/// Copies fewer than [`LANES`] elements in pieces of constant size, which need no call.
///
/// # Safety
/// Both point to `len` elements and do not overlap.
#[inline(always)]
unsafe fn copy_short<T: Real>(from: *const T, to: *mut T, len: usize) {
    let mut at = 0;
    macro_rules! piece {
        ($($size:literal)*) => { $(
            if len & $size != 0 {
                // SAFETY: `at + $size` is a prefix of the binary digits of `len`, so at most it.
                unsafe {
                    let part = from.add(at).cast::<[T; $size]>().read_unaligned();
                    to.add(at).cast::<[T; $size]>().write_unaligned(part);
                }
                at += $size;
            }
        )* };
    }
    piece!(16 8 4 2 1);
    debug_assert_eq!(at, len);
}

/// The elements `i..i + LANES` of `n`, with `fill` beyond the end.
///
/// # Safety
/// `x` points to `n` elements and `i < n`.
#[inline(always)]
unsafe fn load<T: Real>(x: *const T, i: usize, n: usize, fill: T) -> Lanes<T> {
    // SAFETY: the caller's promise, and nothing is read beyond `n`.
    unsafe {
        if n - i >= LANES {
            return x.add(i).cast::<Lanes<T>>().read_unaligned();
        }
        let mut lanes = [fill; LANES];
        copy_short(x.add(i), lanes.as_mut_ptr(), n - i);
        lanes
    }
}

/// Writes what [`load`] read.
///
/// # Safety
/// `y` points to `n` elements and `i < n`.
#[inline(always)]
unsafe fn store<T: Real>(y: *mut T, i: usize, n: usize, lanes: &Lanes<T>) {
    // SAFETY: the caller's promise, and nothing is written beyond `n`.
    unsafe {
        if n - i >= LANES {
            y.add(i).cast::<Lanes<T>>().write_unaligned(*lanes);
        } else {
            copy_short(lanes.as_ptr(), y.add(i), n - i);
        }
    }
}

/// Combines lanes by halves.
///
/// Not inlined, or the compiler would arrange the lanes of the loop before it to suit this end.
#[inline(never)]
fn fold<T: Real>(lanes: &Lanes<T>, combine: impl Fn(T, T) -> T) -> T {
    let mut lanes = *lanes;
    let mut half = LANES / 2;
    while half > 0 {
        for l in 0..half {
            lanes[l] = combine(lanes[l], lanes[l + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// The larger one; `a` if `b` is NaN.
#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// Asks for the cache lines of a vector at `p`, which need not exist.
#[inline(always)]
fn prefetch<T>(p: *const T) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..LANES * size_of::<T>()).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch does not fault and changes nothing but the cache.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// `$out[l] = $f` for all lanes. A loop over a range is what the vectoriser knows best.
macro_rules! lanes {
    ($out:ident[$l:ident] = $f:expr) => {
        #[allow(clippy::needless_range_loop)]
        for $l in 0..LANES {
            $out[$l] = $f;
        }
    };
}

// ---------------------------------------------------------------------------------------------
// Drivers
// ---------------------------------------------------------------------------------------------

per_isa! {
    /// `count` contiguous rows of `n` elements, one after the other.
    ///
    /// # Safety
    /// `x`, `y` (one row if per class) and `out` point to `count * n` elements, stats to `count`.
    /// `out` may be `x` or `y`; otherwise what is written overlaps nothing.
    pub unsafe fn one_by_one<T: Real, O: RowOp<T>>(memory: &Memory<T>, n: usize, count: usize) {
        for row in 0..count {
            // SAFETY: the row lies inside, and `i < n`.
            unsafe {
                let x = memory.x.add(row * n);
                let y = if O::PER_CLASS { memory.y } else { memory.y.wrapping_add(row * n) };
                let out = memory.out.wrapping_add(row * n);
                let mut stats = [T::ZERO; 4];
                if O::MAX {
                    let mut max = [-T::INFINITY; LANES];
                    for i in (0..n).step_by(LANES) {
                        let x = load(x, i, n, -T::INFINITY);
                        lanes!(max[l] = larger(max[l], x[l]));
                    }
                    stats[0] = O::shift(fold(&max, larger));
                }
                if O::SUM {
                    let mut total = T::ZERO;
                    for block in (0..n).step_by(BLOCK) {
                        let mut sum = [T::ZERO; LANES];
                        for i in (block..n.min(block + BLOCK)).step_by(LANES) {
                            if O::MAX {
                                // While exponentials are computed, fetch the next row.
                                prefetch(x.wrapping_add(n + i));
                            }
                            let x = load(x, i, n, T::ZERO);
                            let y = if O::SECOND { load(y, i, n, T::ZERO) } else { x };
                            let mut term = [T::ZERO; LANES];
                            lanes!(term[l] = O::term(x[l], y[l], stats[0]));
                            if O::KEEP {
                                store(out, i, n, &term);
                            }
                            // What lies beyond the row does not count.
                            if n - i < LANES {
                                lanes!(term[l] = if l < n - i { term[l] } else { T::ZERO });
                            }
                            lanes!(sum[l] = sum[l] + term[l]);
                        }
                        total = total + fold(&sum, |a, b| a + b);
                    }
                    stats[1] = O::stat(stats[0], total);
                    for (&place, value) in memory.stats.iter().zip(stats) {
                        if !place.is_null() {
                            place.add(row).write(value);
                        }
                    }
                } else {
                    for (&place, value) in memory.stats.iter().zip(&mut stats) {
                        if !place.is_null() {
                            *value = place.add(row).read();
                        }
                    }
                }
                if O::MAP {
                    for i in (0..n).step_by(LANES) {
                        let x = load(if O::KEEP { out.cast_const() } else { x }, i, n, T::ZERO);
                        let y = if O::SECOND { load(y, i, n, T::ZERO) } else { x };
                        let mut v = [T::ZERO; LANES];
                        lanes!(v[l] = O::map(x[l], y[l], stats));
                        store(out, i, n, &v);
                    }
                }
            }
        }
    }

    /// At most [`WIDTH`] rows side by side: element `k` of row `r` is number `k * inner + r`.
    ///
    /// Every vector holds one element each of [`LANES`] rows. A sum still has a lane for each
    /// `k % LANES`, and so the same bits as in [`one_by_one`].
    ///
    /// # Safety
    /// `width <= WIDTH`. `x`, `y` (one row of `n` if per class) and `out` point to the elements
    /// above, stats to `width`. `out` may be `x` or `y`; otherwise what is written overlaps
    /// nothing.
    pub unsafe fn side_by_side<T: Real, O: RowOp<T>>(
        memory: &Memory<T>, n: usize, inner: usize, width: usize,
    ) {
        let mut stats = [[T::ZERO; WIDTH]; 4];
        let columns = || (0..width).step_by(LANES);
        // SAFETY: all of it: `c < width`, `k < n`, and arrays have room for whole vectors.
        unsafe {
            if O::MAX {
                stats[0] = [-T::INFINITY; WIDTH];
                for k in 0..n {
                    for c in columns() {
                        let x = load(memory.x.add(k * inner), c, width, -T::INFINITY);
                        let max = &mut stats[0][c..c + LANES];
                        lanes!(max[l] = larger(max[l], x[l]));
                    }
                }
                for max in &mut stats[0] {
                    *max = O::shift(*max);
                }
            }
            if O::SUM {
                let mut total = [T::ZERO; WIDTH];
                let mut sum = [[T::ZERO; WIDTH]; LANES];
                for block in (0..n).step_by(BLOCK) {
                    let end = n.min(block + BLOCK);
                    let used = LANES.min(end - block);
                    sum[..used].fill([T::ZERO; WIDTH]);
                    for k in block..end {
                        for c in columns() {
                            let x = load(memory.x.add(k * inner), c, width, T::ZERO);
                            let y = second::<T, O>(memory.y, k, inner, c, width, x);
                            let max = &stats[0][c..c + LANES];
                            let mut term = [T::ZERO; LANES];
                            lanes!(term[l] = O::term(x[l], y[l], max[l]));
                            if O::KEEP {
                                store(memory.out.add(k * inner), c, width, &term);
                            }
                            let sum = &mut sum[k % LANES][c..c + LANES];
                            lanes!(sum[l] = sum[l] + term[l]);
                        }
                    }
                    let mut half = LANES / 2;
                    while half > 0 {
                        // Lanes that were not used are zero, and adding them changes nothing.
                        let (low, high) = sum.split_at_mut(half);
                        for (low, high) in low.iter_mut().zip(&high[..half.min(used.saturating_sub(half))]) {
                            for c in 0..WIDTH {
                                low[c] = low[c] + high[c];
                            }
                        }
                        half /= 2;
                    }
                    for c in 0..WIDTH {
                        total[c] = total[c] + sum[0][c];
                    }
                }
                for c in 0..width {
                    stats[1][c] = O::stat(stats[0][c], total[c]);
                }
                for (&place, values) in memory.stats.iter().zip(&stats) {
                    if !place.is_null() {
                        ptr::copy_nonoverlapping(values.as_ptr(), place, width);
                    }
                }
            } else {
                for (&place, values) in memory.stats.iter().zip(&mut stats) {
                    if !place.is_null() {
                        ptr::copy_nonoverlapping(place, values.as_mut_ptr(), width);
                    }
                }
            }
            if O::MAP {
                for k in 0..n {
                    let from = if O::KEEP { memory.out.cast_const() } else { memory.x };
                    for c in columns() {
                        let x = load(from.add(k * inner), c, width, T::ZERO);
                        let y = second::<T, O>(memory.y, k, inner, c, width, x);
                        let [s0, s1, s2, s3] = [0, 1, 2, 3].map(|s| &stats[s][c..c + LANES]);
                        let mut v = [T::ZERO; LANES];
                        lanes!(v[l] = O::map(x[l], y[l], [s0[l], s1[l], s2[l], s3[l]]));
                        store(memory.out.add(k * inner), c, width, &v);
                    }
                }
            }
        }
    }
}

/// The second input of [`side_by_side`]; `x` if there is none.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn second<T: Real, O: RowOp<T>>(
    y: *const T,
    k: usize,
    inner: usize,
    c: usize,
    width: usize,
    x: Lanes<T>,
) -> Lanes<T> {
    // SAFETY: the caller's promise.
    unsafe {
        match (O::SECOND, O::PER_CLASS) {
            (false, _) => x,
            (_, true) => [*y.add(k); LANES],
            _ => load(y.add(k * inner), c, width, T::ZERO),
        }
    }
}
