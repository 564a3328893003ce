//! Scans: running sums, products and extrema along one axis.
//!
//! The order is the plain one, element after element, as PyTorch has it, so there is nothing to
//! vectorise along the axis; lines are independent, and a register holds one element of each of
//! several lines. Blocks of `rows` (positions on the axis) x `columns` (lines) are read, carried
//! through one row after the other, and written. Lines that are contiguous along the axis are
//! transposed on the way into the block and back on the way out, which costs less than waiting
//! for one addition after the other.

#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // As in `rows`: loops count.

use super::engine::{Block, GRAIN, Operand, load, store};
use super::isa::per_isa;
use super::threads::parallel_for;
use crate::dtype::{DType, Element};
use smallvec::SmallVec;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// What [`scan`] accumulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The sum so far.
    Sum,
    /// The product so far.
    Prod,
    /// The largest element so far, NaN from the first NaN on.
    Max,
    /// The smallest element so far, NaN from the first NaN on.
    Min,
}

/// Bytes of the accumulators and of each tile.
const BUFFER: usize = 4096;

#[repr(align(64))]
struct Buffer(MaybeUninit<[u8; BUFFER]>);

impl Buffer {
    fn new() -> Self {
        Buffer(MaybeUninit::uninit())
    }

    fn ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// Rows of a block: `ptr` is the first element, `step` bytes lead to the next row.
#[derive(Clone, Copy)]
struct Lines {
    ptr: *mut u8,
    step: isize,
}

impl Lines {
    const NONE: Lines = Lines { ptr: std::ptr::null_mut(), step: 0 };

    fn row<T>(self, r: usize) -> *mut T {
        self.ptr.wrapping_offset(r as isize * self.step).cast()
    }
}

/// A scan of elements of one type.
trait Method {
    type Elem: Element;
    /// Bytes of accumulators per column.
    const STATE: usize;
    /// Carries `rows` rows of `columns` elements; `position` rows came before.
    ///
    /// # Safety
    /// `state` holds `columns * STATE` bytes and what earlier rows left there. `x` is readable,
    /// `out` writable and apart from it; so is `indices`, if not null, for `i64`.
    unsafe fn carry(
        state: *mut u8,
        columns: usize,
        position: usize,
        rows: usize,
        x: Lines,
        out: Lines,
        indices: Lines,
    );
}

/// A [`Method`] over bytes.
struct Routine {
    elem: DType,
    state: usize,
    carry: unsafe fn(*mut u8, usize, usize, usize, Lines, Lines, Lines),
}

impl Routine {
    const fn of<M: Method>() -> Routine {
        Routine { elem: M::Elem::DTYPE, state: M::STATE, carry: carry::<M> }
    }
}

per_isa! {
    unsafe fn carry<M: Method>(
        state: *mut u8,
        columns: usize,
        position: usize,
        rows: usize,
        x: Lines,
        out: Lines,
        indices: Lines,
    ) {
        // SAFETY: passed on.
        unsafe { M::carry(state, columns, position, rows, x, out, indices) }
    }
}

/// Running sums (`PRODUCT` = false) or products of `T`.
struct Total<T, const PRODUCT: bool>(PhantomData<T>);

macro_rules! total {
    ($($T:ty: $zero:expr, $one:expr, $a:ident $b:ident $add:expr, $mul:expr;)*) => { $(
        impl<const PRODUCT: bool> Method for Total<$T, PRODUCT> {
            type Elem = $T;
            const STATE: usize = size_of::<$T>();

            #[inline(always)]
            unsafe fn carry(
                state: *mut u8,
                columns: usize,
                position: usize,
                rows: usize,
                x: Lines,
                out: Lines,
                _indices: Lines,
            ) {
                let next = |$a: $T, $b: $T| if PRODUCT { $mul } else { $add };
                let state: *mut $T = state.cast();
                // SAFETY: by the caller's promises; the accumulators are set before the first row.
                unsafe {
                    if position == 0 {
                        let empty = if PRODUCT { $one } else { $zero };
                        (0..columns).for_each(|c| state.add(c).write(empty));
                    }
                    if columns == 1 {
                        let mut total = *state;
                        for r in 0..rows {
                            total = next(total, *x.row::<$T>(r));
                            *out.row::<$T>(r) = total;
                        }
                        *state = total;
                        return;
                    }
                    let state = from_raw_parts_mut(state, columns);
                    for r in 0..rows {
                        let x = from_raw_parts(x.row::<$T>(r), columns);
                        let out = from_raw_parts_mut(out.row::<MaybeUninit<$T>>(r), columns);
                        for c in 0..columns {
                            state[c] = next(state[c], x[c]);
                            out[c].write(state[c]);
                        }
                    }
                }
            }
        }
    )* };
}

total! {
    i64: 0, 1, a b a.wrapping_add(b), a.wrapping_mul(b);
    f32: 0.0, 1.0, a b a + b, a * b;
    f64: 0.0, 1.0, a b a + b, a * b;
}

/// Running extrema of `T` with the position of the last one.
struct Extremum<T, const LARGEST: bool>(PhantomData<T>);

macro_rules! extremum {
    ($($T:ty)*) => { $(
        impl<const LARGEST: bool> Method for Extremum<$T, LARGEST> {
            type Elem = $T;
            const STATE: usize = size_of::<i64>() + size_of::<$T>();

            #[inline(always)]
            #[allow(clippy::eq_op)]
            unsafe fn carry(
                state: *mut u8,
                columns: usize,
                position: usize,
                rows: usize,
                x: Lines,
                out: Lines,
                indices: Lines,
            ) {
                // As PyTorch: equals replace, NaN replaces everything and stays.
                let replaces = |x: $T, best: $T| {
                    let better = if LARGEST { x >= best } else { x <= best };
                    (x != x) | (better & (best == best))
                };
                let index: *mut i64 = state.cast();
                // SAFETY: by the caller's promises; the first row initialises the accumulators.
                unsafe {
                    let best: *mut $T = index.add(columns).cast();
                    if position == 0 {
                        std::ptr::copy_nonoverlapping(x.row::<$T>(0), best, columns);
                        (0..columns).for_each(|c| index.add(c).write(0));
                    }
                    let best = from_raw_parts_mut(best, columns);
                    let index = from_raw_parts_mut(index, columns);
                    for r in 0..rows {
                        let x = from_raw_parts(x.row::<$T>(r), columns);
                        let now = (position + r) as i64;
                        for c in 0..columns {
                            let wins = replaces(x[c], best[c]);
                            let b = if wins { x[c] } else { best[c] };
                            let i = if wins { now } else { index[c] };
                            best[c] = b;
                            index[c] = i;
                        }
                        std::ptr::copy_nonoverlapping(best.as_ptr(), out.row::<$T>(r), columns);
                        if !indices.ptr.is_null() {
                            let to = indices.row::<i64>(r);
                            std::ptr::copy_nonoverlapping(index.as_ptr(), to, columns);
                        }
                    }
                }
            }
        }
    )* };
}

extremum!(bool u8 i8 i16 i32 i64 f32 f64);

fn routine(kind: Scan, compute: DType) -> &'static Routine {
    macro_rules! routine {
        ($M:ident, $flag:literal on $($dtype:ident $T:ty),+) => {
            match compute {
                $(DType::$dtype => const { &Routine::of::<$M<$T, $flag>>() },)+
                _ => panic!("Scan::{kind:?} does not work in {compute}"),
            }
        };
    }
    macro_rules! ordered {
        ($flag:literal) => {
            routine!(Extremum, $flag on Bool bool, UInt8 u8, Int8 i8, Int16 i16, Int32 i32,
                Int64 i64, Float32 f32, Float64 f64)
        };
    }
    match kind {
        Scan::Sum => routine!(Total, false on Int64 i64, Float32 f32, Float64 f64),
        Scan::Prod => routine!(Total, true on Int64 i64, Float32 f32, Float64 f64),
        Scan::Max => ordered!(true),
        Scan::Min => ordered!(false),
    }
}

/// Accumulates `input` along axis `dim` and writes every intermediate result to `output`.
///
/// The accumulator has type `compute`: `i64` for integers, and, as in PyTorch, `f64` for `f32`
/// and `f32` for half precision, rounded to the output's type at every step. Extrema work in the
/// input's own type (half precision in `f32`) and can also give the position of the last element
/// equal to the extremum (`indices`, of type `i64`).
///
/// # Safety
/// All operands are valid at every index of `shape` and aligned; the outputs have no two indices
/// in one place and do not overlap the input, except that `output` may be `input`. `dim` is an
/// axis of `shape`.
///
/// # Panics
/// If the scan does not work in `compute`.
pub unsafe fn scan(
    kind: Scan,
    compute: DType,
    shape: &[usize],
    dim: usize,
    input: Operand,
    output: Operand,
    indices: Option<Operand>,
) {
    if shape.contains(&0) {
        return;
    }
    let plan = Plan::new(routine(kind, compute), shape, dim, input, output, indices);
    let strips = plan.line.len.div_ceil(plan.columns);
    let cells = strips * plan.outer.iter().map(|a| a.len).product::<usize>();
    let grain = (GRAIN / 2).div_ceil(plan.columns * plan.rows.len);
    // SAFETY: cells are disjoint parts of the shape that the caller promised.
    let work = |range: Range<usize>| unsafe { plan.run(range, strips) };
    if cells <= 2 * grain { work(0..cells) } else { parallel_for(cells, grain, work) }
}

/// Length, and the steps in bytes of input, output and indices.
#[derive(Clone, Copy)]
struct Axis {
    len: usize,
    steps: [isize; 3],
}

struct Plan {
    routine: &'static Routine,
    ptrs: [*mut u8; 3],
    stored: [DType; 3],
    /// The axis that is scanned.
    rows: Axis,
    /// The axis of lines that are scanned together.
    line: Axis,
    /// Lines in a block.
    columns: usize,
    outer: SmallVec<[Axis; 6]>,
}

// SAFETY: the pointers are addresses that `scan`'s caller answers for; threads write disjoint
// lines.
unsafe impl Sync for Plan {}

impl Plan {
    fn new(
        routine: &'static Routine,
        shape: &[usize],
        dim: usize,
        input: Operand,
        output: Operand,
        indices: Option<Operand>,
    ) -> Plan {
        let none = Operand { ptr: std::ptr::null_mut(), dtype: DType::Int64, strides: &[] };
        let operands = [input, output, indices.unwrap_or(none)];
        let steps = |d: usize| {
            operands.map(|o| o.strides.get(d).map_or(0, |&s| s * o.dtype.size() as isize))
        };
        let axis = |d: usize| Axis { len: shape[d], steps: steps(d) };
        let rows = axis(dim);
        let mut outer: SmallVec<[Axis; 6]> =
            (0..shape.len()).filter(|&d| d != dim && shape[d] != 1).map(axis).collect();
        outer.sort_by_key(|a| std::cmp::Reverse(a.steps[1].unsigned_abs()));
        let mut kept = 0;
        for i in 1..outer.len() {
            let (a, b) = (outer[kept], outer[i]);
            if (0..3).all(|k| a.steps[k] == b.steps[k] * b.len as isize) {
                outer[kept] = Axis { len: a.len * b.len, steps: b.steps };
            } else {
                kept += 1;
                outer[kept] = b;
            }
        }
        outer.truncate(kept + 1);
        let line = outer.pop().unwrap_or(Axis { len: 1, steps: [0; 3] });
        // Wide blocks where lines lie side by side, squarer ones where they are transposed.
        let widest = BUFFER / routine.state.max(size_of::<i64>());
        let across = line.steps[0].unsigned_abs() > rows.steps[0].unsigned_abs();
        let columns = line.len.min(if across { 16 } else { widest });
        let ptrs = operands.map(|o| o.ptr);
        Plan { routine, ptrs, stored: operands.map(|o| o.dtype), rows, line, columns, outer }
    }

    unsafe fn run(&self, cells: Range<usize>, strips: usize) {
        let elem = self.routine.elem;
        let types = [elem, elem, DType::Int64];
        let (mut state, mut tiles) = (Buffer::new(), [Buffer::new(), Buffer::new(), Buffer::new()]);
        let tiles = tiles.each_mut().map(|tile| tile.ptr());
        for cell in cells {
            let (mut group, strip) = (cell / strips, cell % strips);
            let column = strip * self.columns;
            let columns = self.columns.min(self.line.len - column);
            let mut first = self.ptrs;
            for axis in self.outer.iter().rev() {
                let i = (group % axis.len) as isize;
                group /= axis.len;
                for (ptr, step) in first.iter_mut().zip(&axis.steps) {
                    *ptr = ptr.wrapping_offset(i * step);
                }
            }
            for (ptr, step) in first.iter_mut().zip(&self.line.steps) {
                *ptr = ptr.wrapping_offset(column as isize * step);
            }
            let staged = [0, 1, 2].map(|k| {
                let size = types[k].size() as isize;
                let plain = columns == 1 || self.line.steps[k] == size;
                self.stored[k] != types[k] || !plain || (k == 1 && first[0] == first[1])
            });
            let wanted = [true, true, !self.ptrs[2].is_null()];
            let any = (0..3).any(|k| staged[k] && wanted[k]);
            let height = if any { BUFFER / (columns * size_of::<i64>()) } else { self.rows.len };
            for row in (0..self.rows.len).step_by(height) {
                let rows = height.min(self.rows.len - row);
                let blocks = [0, 1, 2].map(|k| {
                    let (row_step, column) = (self.rows.steps[k], self.line.steps[k]);
                    let ptr = first[k].wrapping_offset(row as isize * row_step);
                    Block { ptr, row: row_step, column }
                });
                let lines = [0, 1, 2].map(|k| match (wanted[k], staged[k]) {
                    (false, _) => Lines::NONE,
                    (_, true) => {
                        Lines { ptr: tiles[k], step: (types[k].size() * columns) as isize }
                    }
                    (_, false) => Lines { ptr: blocks[k].ptr, step: blocks[k].row },
                });
                // SAFETY: blocks are within the shape; a staged one fits its tile. Tiles of one
                // column are as good as rows.
                unsafe {
                    if staged[0] {
                        load((tiles[0], elem), (blocks[0], self.stored[0]), rows, columns);
                    }
                    let [x, out, at] = lines;
                    (self.routine.carry)(state.ptr(), columns, row, rows, x, out, at);
                    for k in [1, 2] {
                        if staged[k] && wanted[k] {
                            let to = (blocks[k], self.stored[k]);
                            store(to, (tiles[k], types[k]), rows, columns);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Scalar;
    use crate::kernels::arrays::{Array, Layout, cast, dtypes, indices, layouts, same, value};
    use crate::kernels::isa;
    use proptest::prelude::*;

    /// One line, element after element: results and positions.
    fn twin(kind: Scan, compute: DType, x: &[Scalar]) -> (Vec<Scalar>, Vec<i64>) {
        let nan = |x: Scalar| matches!(x, Scalar::Float(x) if x.is_nan());
        let (mut best, mut at) = (x.first().copied().unwrap_or(Scalar::Int(0)), 0);
        let mut total = match kind {
            Scan::Prod => cast(Scalar::Int(1), compute),
            _ => cast(Scalar::Int(0), compute),
        };
        let mut results = Vec::new();
        let mut positions = Vec::new();
        for (i, &x) in x.iter().enumerate() {
            let number = |x: Scalar| x.to_f64();
            total = match (kind, total, x) {
                (Scan::Sum, Scalar::Int(a), Scalar::Int(b)) => Scalar::Int(a.wrapping_add(b)),
                (Scan::Prod, Scalar::Int(a), Scalar::Int(b)) => Scalar::Int(a.wrapping_mul(b)),
                (Scan::Sum, a, b) => cast(Scalar::Float(number(a) + number(b)), compute),
                (Scan::Prod, a, b) => cast(Scalar::Float(number(a) * number(b)), compute),
                (total, ..) => {
                    let _ = total;
                    Scalar::Int(0)
                }
            };
            let better = match kind {
                Scan::Max => number(x) >= number(best),
                _ => number(x) <= number(best),
            };
            if nan(x) || (better && !nan(best)) {
                (best, at) = (x, i as i64);
            }
            results.push(if matches!(kind, Scan::Sum | Scan::Prod) { total } else { best });
            positions.push(at);
        }
        (results, positions)
    }

    #[derive(Clone, Debug)]
    struct Case {
        kind: Scan,
        dtype: DType,
        shape: Vec<usize>,
        dim: usize,
        layouts: [Layout; 3],
        in_place: bool,
        seed: u64,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let kinds = prop::sample::select(vec![Scan::Sum, Scan::Prod, Scan::Max, Scan::Min]);
        let shapes = prop_oneof![
            4 => prop::collection::vec(0..7usize, 1..5),
            3 => prop::collection::vec(1..50usize, 2..3),
            1 => (1..4usize, 300..3000usize).prop_map(|(a, b)| vec![a, b]),
            1 => (300..3000usize, 1..4usize).prop_map(|(a, b)| vec![a, b]),
        ];
        (shapes, kinds, dtypes(), any::<(u64, usize, bool)>()).prop_flat_map(
            |(shape, kind, dtype, (seed, dim, in_place))| {
                let rank = shape.len();
                let outputs = (layouts(rank, false), layouts(rank, false));
                (layouts(rank, !in_place), outputs).prop_map(move |(x, (out, at))| Case {
                    kind,
                    dtype,
                    shape: shape.clone(),
                    dim: dim % rank,
                    layouts: [x, out, at],
                    in_place,
                    seed,
                })
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(192))]

        #[test]
        fn scan_equals_its_twin(case in cases()) {
            let compute = match (case.kind, case.dtype) {
                (Scan::Sum | Scan::Prod, t) if t.is_integral() => DType::Int64,
                (Scan::Sum | Scan::Prod, DType::Float32) => DType::Float64,
                (_, t) => t.compute(),
            };
            let source = Array::filled(case.dtype, &case.shape, &case.layouts[0], |i| {
                match value(case.seed ^ i as u64) {
                    // Large integers would leave the range that `f64` compares exactly.
                    Scalar::Float(x) if x.is_finite() => Scalar::Float(x % 64.0),
                    other => other,
                }
            });
            let mut all = Vec::new();
            isa::for_each_level(|level| {
                let mut x = source.clone();
                let mut out = if case.in_place {
                    x.clone()
                } else {
                    Array::new(case.dtype, &case.shape, &case.layouts[1])
                };
                let mut at = Array::new(DType::Int64, &case.shape, &case.layouts[2]);
                let to = out.operand();
                let from = if case.in_place { to } else { x.operand() };
                // SAFETY: `Array` gives every index its place.
                unsafe {
                    let at = Some(at.operand());
                    scan(case.kind, compute, &case.shape, case.dim, from, to, at);
                }
                all.push((level, out, at));
            });
            let extremum = matches!(case.kind, Scan::Max | Scan::Min);
            let mut lines = case.shape.clone();
            lines[case.dim] = lines[case.dim].min(1);
            for line in indices(&lines) {
                let place = |i: usize| {
                    let mut place = line.clone();
                    place[case.dim] = i;
                    place
                };
                let places: Vec<_> = (0..case.shape[case.dim]).map(place).collect();
                let values: Vec<_> =
                    places.iter().map(|p| cast(source.get(p), compute)).collect();
                let (want, positions) = twin(case.kind, compute, &values);
                for (i, p) in places.iter().enumerate() {
                    for (level, out, at) in &all {
                        let want = cast(want[i], case.dtype);
                        let got = out.get(p);
                        prop_assert!(same(got, want), "{level:?} {p:?}: {got:?}, not {want:?}");
                        if extremum {
                            prop_assert_eq!(at.get(p), Scalar::Int(positions[i]));
                        }
                    }
                }
            }
        }
    }
}
