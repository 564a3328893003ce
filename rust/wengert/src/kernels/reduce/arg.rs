//! Extrema with their positions.
//!
//! In a contiguous block the extremum is found first, by the lanes of [`fold`](super::fold)'s
//! kind, and its first occurrence after: two fast passes over a block in the cache instead of a
//! slow one that carries positions along. Across columns the position is carried, in a lane of
//! the element's width, because there a lane is a column and needs no search.

#![allow(clippy::needless_range_loop)] // As in `rows`: loops count.

use super::{Method, Routine};
use crate::dtype::{DType, Element};
use std::marker::PhantomData;

/// An extremum and its number among the reduced elements.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Best<T> {
    index: i64,
    value: T,
}

/// What an order is asked: whether the first is strictly better; NaN is the best.
trait Order {
    type Elem: Element + PartialOrd;
    /// As wide as the element or nearly, so that positions and elements share lanes.
    type Index: Copy;
    const WORST: Self::Elem;
    /// The comparison alone; false if either is NaN.
    fn better(a: Self::Elem, b: Self::Elem) -> bool;
    /// The comparison with NaN before everything.
    fn beats(a: Self::Elem, b: Self::Elem) -> bool;
    fn number(i: usize) -> Self::Index;
    fn position(i: Self::Index) -> usize;
}

struct Largest<T>(PhantomData<T>);
struct Smallest<T>(PhantomData<T>);

macro_rules! orders {
    ($($T:ty, $Index:ty: $lowest:expr, $highest:expr;)*) => { $(
        orders!(@ $T, $Index: Largest, $lowest, >);
        orders!(@ $T, $Index: Smallest, $highest, <);
    )* };
    (@ $T:ty, $Index:ty: $Order:ident, $worst:expr, $better:tt) => {
        impl Order for $Order<$T> {
            type Elem = $T;
            type Index = $Index;
            const WORST: $T = $worst;
            #[inline(always)]
            #[allow(clippy::bool_comparison)]
            fn better(a: $T, b: $T) -> bool {
                a $better b
            }
            /// `x != x` is NaN, and never true of anything else.
            #[inline(always)]
            #[allow(clippy::eq_op, clippy::bool_comparison)]
            fn beats(a: $T, b: $T) -> bool {
                (a $better b) | ((a != a) & (b == b))
            }
            #[inline(always)]
            fn number(i: usize) -> $Index {
                i as $Index
            }
            #[inline(always)]
            fn position(i: $Index) -> usize {
                i as usize
            }
        }
    };
}

orders! {
    bool, u16: false, true;
    u8, u16: u8::MIN, u8::MAX;
    i8, u16: i8::MIN, i8::MAX;
    i16, u16: i16::MIN, i16::MAX;
    i32, u32: i32::MIN, i32::MAX;
    i64, u64: i64::MIN, i64::MAX;
    f32, u32: f32::NEG_INFINITY, f32::INFINITY;
    f64, u64: f64::NEG_INFINITY, f64::INFINITY;
}

/// Accumulators of the search for the value; any number gives the same result.
const LANES: usize = 64;

/// The better of the two; only one of the two tests waits for `best`, the accumulator.
#[inline(always)]
#[allow(clippy::eq_op)]
fn better<O: Order>(x: O::Elem, best: O::Elem) -> O::Elem {
    let kept = if O::better(x, best) { x } else { best };
    if x != x { x } else { kept }
}

/// An [`Order`] as a [`Method`].
struct First<O>(PhantomData<O>);

impl<O: Order> Method for First<O> {
    type Elem = O::Elem;
    type State = Best<O::Elem>;
    const SCRATCH: usize = size_of::<O::Elem>() + size_of::<O::Index>();

    fn empty() -> Self::State {
        Best { index: 0, value: O::WORST }
    }

    #[inline(always)]
    fn combine(a: Self::State, b: Self::State) -> Self::State {
        if O::beats(b.value, a.value) { b } else { a }
    }

    #[inline(always)]
    #[allow(clippy::eq_op)]
    fn inner(x: &[O::Elem], base: usize) -> Self::State {
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut value = x[0];
        if let Some((first, chunks)) = chunks.split_first() {
            let mut lanes = *first;
            for chunk in chunks {
                for j in 0..LANES {
                    lanes[j] = better::<O>(chunk[j], lanes[j]);
                }
            }
            let mut half = LANES / 2;
            while half > 0 {
                for j in 0..half {
                    lanes[j] = better::<O>(lanes[j + half], lanes[j]);
                }
                half /= 2;
            }
            value = lanes[0];
        }
        for &x in rest {
            value = better::<O>(x, value);
        }
        // The value occurs, so the search ends; if it is NaN, so is what is searched.
        let index = match value == value {
            true => first(x, |x| x == value),
            false => first(x, |x| x != x),
        };
        Best { index: (base + index) as i64, value: x[index] }
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
        // SAFETY: the scratch holds `columns` indices and as many elements, apart from `x`, and
        // the first row initialises both.
        unsafe {
            let index = scratch.cast::<O::Index>();
            let value = index.add(columns).cast::<O::Elem>();
            let mut first = 0;
            if position == 0 {
                std::ptr::copy_nonoverlapping(x.cast::<O::Elem>(), value, columns);
                (0..columns).for_each(|c| index.add(c).write(O::number(0)));
                first = 1;
            }
            let value = std::slice::from_raw_parts_mut(value, columns);
            let index = std::slice::from_raw_parts_mut(index, columns);
            for r in first..rows {
                let x = x.wrapping_offset(r as isize * step).cast::<O::Elem>();
                let x = std::slice::from_raw_parts(x, columns);
                update::<O>(value, index, x, O::number(position + r));
            }
        }
    }

    #[inline(always)]
    unsafe fn finish(
        scratch: *mut u8,
        columns: usize,
        _n: usize,
        base: usize,
        states: *mut Self::State,
    ) {
        // SAFETY: as for `rows`, which saw at least one row.
        unsafe {
            let index = scratch.cast::<O::Index>();
            let value = index.add(columns).cast::<O::Elem>();
            for c in 0..columns {
                let index = (base + O::position(index.add(c).read())) as i64;
                states.add(c).write(Best { index, value: value.add(c).read() });
            }
        }
    }
}

/// The position of the first element that `found` is true of, and there is one.
#[inline(always)]
fn first<T: Copy>(x: &[T], found: impl Fn(T) -> bool) -> usize {
    let mut start = 0;
    for chunk in x.as_chunks::<LANES>().0 {
        let mut any = false;
        for j in 0..LANES {
            any |= found(chunk[j]);
        }
        if any {
            break;
        }
        start += LANES;
    }
    start + x[start..].iter().position(|&x| found(x)).unwrap_or(0)
}

#[inline(always)]
fn update<O: Order>(value: &mut [O::Elem], index: &mut [O::Index], x: &[O::Elem], i: O::Index) {
    let n = value.len();
    let (index, x) = (&mut index[..n], &x[..n]);
    for c in 0..n {
        // Both are computed, then stored: a masked store would be several times slower.
        let wins = O::beats(x[c], value[c]);
        let v = if wins { x[c] } else { value[c] };
        let j = if wins { i } else { index[c] };
        value[c] = v;
        index[c] = j;
    }
}

/// The routine for a type; panics for half precision.
pub(super) fn routine(largest: bool, compute: DType) -> &'static Routine {
    macro_rules! routine {
        ($($dtype:ident $T:ty),+) => {
            match (compute, largest) {
                $(
                    (DType::$dtype, true) => const { &Routine::of::<First<Largest<$T>>>() },
                    (DType::$dtype, false) => const { &Routine::of::<First<Smallest<$T>>>() },
                )+
                _ => panic!("positions are not found in {compute}"),
            }
        };
    }
    routine!(Bool bool, UInt8 u8, Int8 i8, Int16 i16, Int32 i32, Int64 i64, Float32 f32, Float64 f64)
}
