//! Reductions by one operation on two elements: sum, product, extrema, truth values.

#![allow(clippy::needless_range_loop)] // As in `rows`: loops count.

use super::{LANES, Method, Reduction, Routine};
use crate::dtype::{DType, Element};
use std::marker::PhantomData;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// The operation. `combine` must give the same for the same operands, no more: the order in
/// which it meets them is fixed.
trait Fold {
    type Elem: Element;
    /// The result of nothing.
    const EMPTY: Self::Elem;
    fn combine(a: Self::Elem, b: Self::Elem) -> Self::Elem;
    /// What becomes of the result of a block.
    #[inline(always)]
    fn finish(x: Self::Elem) -> Self::Elem {
        x
    }
}

struct Sum<T>(PhantomData<T>);
struct Prod<T>(PhantomData<T>);
struct Max<T>(PhantomData<T>);
struct Min<T>(PhantomData<T>);
struct All;
struct Any;

macro_rules! arithmetic {
    ($($T:ty: $zero:expr, $one:expr, $a:ident $b:ident $add:expr, $mul:expr;)*) => { $(
        impl Fold for Sum<$T> {
            type Elem = $T;
            const EMPTY: $T = $zero;
            #[inline(always)]
            fn combine($a: $T, $b: $T) -> $T {
                $add
            }
            /// A sum starts from zero, so that it is never -0.
            #[inline(always)]
            fn finish(x: $T) -> $T {
                Self::combine(x, $zero)
            }
        }
        impl Fold for Prod<$T> {
            type Elem = $T;
            const EMPTY: $T = $one;
            #[inline(always)]
            fn combine($a: $T, $b: $T) -> $T {
                $mul
            }
        }
    )* };
}

arithmetic! {
    i64: 0, 1, a b a.wrapping_add(b), a.wrapping_mul(b);
    f32: 0.0, 1.0, a b a + b, a * b;
    f64: 0.0, 1.0, a b a + b, a * b;
}

macro_rules! extrema {
    ($($T:ty: $lowest:expr, $highest:expr;)*) => { $(
        impl Fold for Max<$T> {
            type Elem = $T;
            const EMPTY: $T = $lowest;
            /// `b != b` is NaN, which wins. A NaN in `a` loses no comparison, so it stays; only
            /// one of the two tests waits for `a`, the accumulator.
            #[inline(always)]
            #[allow(clippy::eq_op)]
            fn combine(a: $T, b: $T) -> $T {
                let larger = if b > a { b } else { a };
                if b != b { b } else { larger }
            }
        }
        impl Fold for Min<$T> {
            type Elem = $T;
            const EMPTY: $T = $highest;
            #[inline(always)]
            #[allow(clippy::eq_op)]
            fn combine(a: $T, b: $T) -> $T {
                let smaller = if b < a { b } else { a };
                if b != b { b } else { smaller }
            }
        }
    )* };
}

extrema! {
    bool: false, true;
    u8: u8::MIN, u8::MAX;
    i8: i8::MIN, i8::MAX;
    i16: i16::MIN, i16::MAX;
    i32: i32::MIN, i32::MAX;
    i64: i64::MIN, i64::MAX;
    f32: f32::NEG_INFINITY, f32::INFINITY;
    f64: f64::NEG_INFINITY, f64::INFINITY;
}

impl Fold for All {
    type Elem = bool;
    const EMPTY: bool = true;
    #[inline(always)]
    fn combine(a: bool, b: bool) -> bool {
        a & b
    }
}

impl Fold for Any {
    type Elem = bool;
    const EMPTY: bool = false;
    #[inline(always)]
    fn combine(a: bool, b: bool) -> bool {
        a | b
    }
}

/// Folds the first `m` lanes in halves.
#[inline(always)]
fn fold_lanes<F: Fold>(lanes: &mut [F::Elem; LANES], mut m: usize) -> F::Elem {
    let mut half = LANES / 2;
    while half > 0 {
        if m > half {
            for j in 0..half {
                if j < m - half {
                    lanes[j] = F::combine(lanes[j], lanes[j + half]);
                }
            }
            m = half;
        }
        half /= 2;
    }
    F::finish(lanes[0])
}

/// A [`Fold`] as a [`Method`].
struct Folded<F>(PhantomData<F>);

impl<F: Fold> Method for Folded<F> {
    type Elem = F::Elem;
    type State = F::Elem;
    /// Sums of integers wrap, and the best of equals are equal: only floats are particular.
    const ANY_ORDER: bool = F::Elem::DTYPE.is_integral();
    const SCRATCH: usize = LANES * size_of::<F::Elem>();

    fn empty() -> F::Elem {
        F::EMPTY
    }

    #[inline(always)]
    fn combine(a: F::Elem, b: F::Elem) -> F::Elem {
        F::combine(a, b)
    }

    #[inline(always)]
    fn inner(x: &[F::Elem], _base: usize) -> F::Elem {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let Some((first, chunks)) = chunks.split_first() else {
            let mut lanes = [x[0]; LANES];
            #[allow(clippy::manual_memcpy)] // Not inlined here, see above.
            for j in 0..rest.len() {
                lanes[j] = rest[j];
            }
            return fold_lanes::<F>(&mut lanes, rest.len());
        };
        let mut lanes = *first;
        for chunk in chunks {
            for j in 0..LANES {
                lanes[j] = F::combine(lanes[j], chunk[j]);
            }
        }
        // A second array: indexing `lanes` by a variable would push it out of registers above.
        let mut folded = lanes;
        for j in 0..rest.len() {
            folded[j] = F::combine(folded[j], rest[j]);
        }
        fold_lanes::<F>(&mut folded, LANES)
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
        let (mut r, lanes) = (0, scratch.cast::<F::Elem>());
        let dense = (columns * size_of::<F::Elem>()) as isize;
        let row = |r: usize| x.wrapping_offset(r as isize * step).cast::<F::Elem>();
        while r < rows {
            let lane = (position + r) % LANES;
            // SAFETY: the scratch holds `LANES` rows of `columns` elements, apart from `x`; a
            // lane is only read after `position + r < LANES` initialised it.
            unsafe {
                if position + r < LANES {
                    std::ptr::copy_nonoverlapping(row(r), lanes.add(lane * columns), columns);
                    r += 1;
                } else if lane == 0 && rows - r >= LANES && step == dense {
                    // Rows that follow one another: all lanes as one.
                    let n = LANES * columns;
                    merge::<F>(from_raw_parts_mut(lanes, n), from_raw_parts(row(r), n));
                    r += LANES;
                } else if lane == 0 && rows - r >= LANES * DEEP {
                    for lane in 0..LANES {
                        let to = from_raw_parts_mut(lanes.add(lane * columns), columns);
                        merge_deep::<F>(to, row(r + lane), step * LANES as isize);
                    }
                    r += LANES * DEEP;
                } else {
                    let to = from_raw_parts_mut(lanes.add(lane * columns), columns);
                    merge::<F>(to, from_raw_parts(row(r), columns));
                    r += 1;
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(
        scratch: *mut u8,
        columns: usize,
        n: usize,
        _base: usize,
        states: *mut F::Elem,
    ) {
        let mut m = n.min(LANES);
        let mut half = LANES / 2;
        // SAFETY: the first `min(n, LANES)` rows of the scratch are initialised, `states` is
        // valid for `columns` elements.
        unsafe {
            let lanes = scratch.cast::<F::Elem>();
            while half > 0 {
                for j in 0..m.saturating_sub(half) {
                    let a = from_raw_parts_mut(lanes.add(j * columns), columns);
                    let b = from_raw_parts(lanes.add((j + half) * columns), columns);
                    merge::<F>(a, b);
                }
                m = m.min(half);
                half /= 2;
            }
            for c in 0..columns {
                states.add(c).write(F::finish(lanes.add(c).read()));
            }
        }
    }
}

/// `a = combine(a, b)`, element by element.
#[inline(always)]
fn merge<F: Fold>(a: &mut [F::Elem], b: &[F::Elem]) {
    let (n, b) = (a.len(), &b[..a.len()]);
    for i in 0..n {
        a[i] = F::combine(a[i], b[i]);
    }
}

/// Rows that a lane takes at once when there are many, to load and store the lane only once.
const DEEP: usize = 8;

/// Combines `DEEP` rows, `step` bytes apart, into a lane, one after the other.
///
/// # Safety
/// The rows are readable, as long as the lane, and apart from it.
#[inline(always)]
unsafe fn merge_deep<F: Fold>(a: &mut [F::Elem], x: *const F::Elem, step: isize) {
    let n = a.len();
    // SAFETY: by the caller's promise.
    let row = |k: isize| unsafe { from_raw_parts(x.wrapping_byte_offset(k * step), n) };
    let (x0, x1, x2, x3) = (row(0), row(1), row(2), row(3));
    let (x4, x5, x6, x7) = (row(4), row(5), row(6), row(7));
    for c in 0..n {
        let low = F::combine(F::combine(F::combine(a[c], x0[c]), x1[c]), x2[c]);
        let mid = F::combine(F::combine(F::combine(low, x3[c]), x4[c]), x5[c]);
        a[c] = F::combine(F::combine(mid, x6[c]), x7[c]);
    }
}

/// The routine of a reduction; panics where the combination makes no sense.
pub(super) fn routine(kind: Reduction, compute: DType) -> &'static Routine {
    macro_rules! routine {
        ($F:ty) => {
            const { &Routine::of::<Folded<$F>>() }
        };
        ($F:ident on $($dtype:ident $T:ty),+) => {
            match compute {
                $(DType::$dtype => routine!($F<$T>),)+
                _ => panic!("{kind:?} does not work in {compute}"),
            }
        };
    }
    macro_rules! ordered {
        ($F:ident) => {
            routine!($F on Bool bool, UInt8 u8, Int8 i8, Int16 i16, Int32 i32, Int64 i64,
                Float32 f32, Float64 f64)
        };
    }
    match (kind, compute) {
        (Reduction::Sum, _) => routine!(Sum on Int64 i64, Float32 f32, Float64 f64),
        (Reduction::Prod, _) => routine!(Prod on Int64 i64, Float32 f32, Float64 f64),
        (Reduction::Max, _) => ordered!(Max),
        (Reduction::Min, _) => ordered!(Min),
        (Reduction::All, DType::Bool) => routine!(All),
        (Reduction::Any, DType::Bool) => routine!(Any),
        _ => panic!("{kind:?} does not work in {compute}"),
    }
}
