//! Scans: running sums, products and extrema along one axis.
//!
//! The order is the plain one, element after element, as PyTorch has it, so there is nothing to
//! vectorise along the axis; but lines are independent. Where they lie side by side in memory a
//! register holds one element of each of several lines, and [`Method::carry`] goes from row to
//! row; where they are contiguous along the axis, [`Method::along`] works on four at a time, so
//! that the additions of one line are not waited for. Either works on memory directly or on
//! blocks in tiles, converted on the way in and out.

#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // As in `rows`: loops count.

#[cfg(test)]
mod tests;

use super::engine::{Block, GRAIN, Operand, load, store};
use super::interrupt::{PIECE, Patience};
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

/// Rows or lines of a block: `ptr` is the first element, `step` bytes lead to the next one.
#[derive(Clone, Copy)]
struct Lines {
    ptr: *mut u8,
    step: isize,
}

impl Lines {
    const NONE: Lines = Lines { ptr: std::ptr::null_mut(), step: 0 };

    #[inline(always)]
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
    /// Carries `n` contiguous elements of each of `lines` lines; `position` came before.
    ///
    /// # Safety
    /// As for [`Method::carry`], but here `x`, `out` and `indices` give lines.
    unsafe fn along(
        state: *mut u8,
        lines: usize,
        position: usize,
        n: usize,
        x: Lines,
        out: Lines,
        indices: Lines,
    );
}

/// [`Method::carry`] or [`Method::along`] over bytes.
type Carry = unsafe fn(*mut u8, usize, usize, usize, Lines, Lines, Lines);

/// A [`Method`] over bytes.
struct Routine {
    elem: DType,
    state: usize,
    carry: Carry,
    along: Carry,
}

impl Routine {
    const fn of<M: Method>() -> Routine {
        Routine { elem: M::Elem::DTYPE, state: M::STATE, carry: carry::<M>, along: along::<M> }
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

    unsafe fn along<M: Method>(
        state: *mut u8,
        lines: usize,
        position: usize,
        n: usize,
        x: Lines,
        out: Lines,
        indices: Lines,
    ) {
        // SAFETY: passed on.
        unsafe { M::along(state, lines, position, n, x, out, indices) }
    }
}

/// Lines that [`Method::along`] works on together.
const TOGETHER: usize = 4;

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
                let state: *mut $T = state.cast();
                // SAFETY: by the caller's promises; the accumulators are set before the first row.
                unsafe {
                    if position == 0 {
                        Self::start(state, columns);
                    }
                    let state = from_raw_parts_mut(state, columns);
                    for r in 0..rows {
                        let x = from_raw_parts(x.row::<$T>(r), columns);
                        let out = from_raw_parts_mut(out.row::<MaybeUninit<$T>>(r), columns);
                        for c in 0..columns {
                            state[c] = Self::next(state[c], x[c]);
                            out[c].write(state[c]);
                        }
                    }
                }
            }

            #[inline(always)]
            unsafe fn along(
                state: *mut u8,
                lines: usize,
                position: usize,
                n: usize,
                x: Lines,
                out: Lines,
                _indices: Lines,
            ) {
                let state: *mut $T = state.cast();
                // SAFETY: as for `carry`.
                unsafe {
                    if position == 0 {
                        Self::start(state, lines);
                    }
                    let mut line = 0;
                    while line + TOGETHER <= lines {
                        let total = state.add(line).cast::<[$T; TOGETHER]>();
                        let mut t = *total;
                        for i in 0..n {
                            for k in 0..TOGETHER {
                                t[k] = Self::next(t[k], *x.row::<$T>(line + k).add(i));
                                *out.row::<$T>(line + k).add(i) = t[k];
                            }
                        }
                        *total = t;
                        line += TOGETHER;
                    }
                    for line in line..lines {
                        let (x, out) = (x.row::<$T>(line), out.row::<$T>(line));
                        let mut t = *state.add(line);
                        for i in 0..n {
                            t = Self::next(t, *x.add(i));
                            *out.add(i) = t;
                        }
                        *state.add(line) = t;
                    }
                }
            }
        }

        impl<const PRODUCT: bool> Total<$T, PRODUCT> {
            #[inline(always)]
            fn next($a: $T, $b: $T) -> $T {
                if PRODUCT { $mul } else { $add }
            }

            /// Sets accumulators to the result of nothing.
            ///
            /// # Safety
            /// `state` is valid for `n` writes.
            #[inline(always)]
            unsafe fn start(state: *mut $T, n: usize) {
                for i in 0..n {
                    // SAFETY: by the caller's promise.
                    unsafe { state.add(i).write(if PRODUCT { $one } else { $zero }) }
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
            unsafe fn carry(
                state: *mut u8,
                columns: usize,
                position: usize,
                rows: usize,
                x: Lines,
                out: Lines,
                indices: Lines,
            ) {
                let index: *mut i64 = state.cast();
                // SAFETY: by the caller's promises; the first row initialises the accumulators.
                unsafe {
                    let best: *mut $T = index.add(columns).cast();
                    if position == 0 {
                        std::ptr::copy_nonoverlapping(x.row::<$T>(0), best, columns);
                        index.write_bytes(0, columns);
                    }
                    let best = from_raw_parts_mut(best, columns);
                    let index = from_raw_parts_mut(index, columns);
                    for r in 0..rows {
                        let x = from_raw_parts(x.row::<$T>(r), columns);
                        let now = (position + r) as i64;
                        for c in 0..columns {
                            let wins = Self::replaces(x[c], best[c]);
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

            #[inline(always)]
            unsafe fn along(
                state: *mut u8,
                lines: usize,
                position: usize,
                n: usize,
                x: Lines,
                out: Lines,
                indices: Lines,
            ) {
                let index: *mut i64 = state.cast();
                // SAFETY: as for `carry`.
                unsafe {
                    let best: *mut $T = index.add(lines).cast();
                    for line in 0..lines {
                        let (x, out) = (x.row::<$T>(line), out.row::<$T>(line));
                        let (mut b, mut at) = match position {
                            0 => (*x, 0),
                            _ => (*best.add(line), *index.add(line)),
                        };
                        for i in 0..n {
                            let wins = Self::replaces(*x.add(i), b);
                            b = if wins { *x.add(i) } else { b };
                            at = if wins { (position + i) as i64 } else { at };
                            *out.add(i) = b;
                            if !indices.ptr.is_null() {
                                *indices.row::<i64>(line).add(i) = at;
                            }
                        }
                        best.add(line).write(b);
                        index.add(line).write(at);
                    }
                }
            }
        }

        impl<const LARGEST: bool> Extremum<$T, LARGEST> {
            /// As PyTorch: equals replace, NaN replaces everything and stays.
            #[inline(always)]
            #[allow(clippy::eq_op)]
            fn replaces(x: $T, best: $T) -> bool {
                let better = if LARGEST { x >= best } else { x <= best };
                (x != x) | (better & (best == best))
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
    let work = |range: Range<usize>, patience| unsafe { plan.run(range, strips, patience) };
    if cells <= 2 * grain {
        work(0..cells, Patience::over(shape.iter().product()));
    } else {
        parallel_for(cells, grain, |range| work(range, Patience::endless()));
    }
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
    /// Whether lines, not rows, are what is contiguous.
    along: bool,
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
        let widest = BUFFER / routine.state.max(size_of::<i64>());
        let along = line.len == 1 || line.steps[0].unsigned_abs() > rows.steps[0].unsigned_abs();
        let columns = line.len.min(if along { TOGETHER } else { widest });
        let ptrs = operands.map(|o| o.ptr);
        Plan { routine, ptrs, stored: operands.map(|o| o.dtype), rows, line, columns, along, outer }
    }

    unsafe fn run(&self, cells: Range<usize>, strips: usize, mut patience: Patience) {
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
            let inner = if self.along { &self.rows } else { &self.line };
            let mut staged = [false; 3];
            for k in 0..3 {
                let size = types[k].size() as isize;
                let plain = self.stored[k] == types[k] && inner.steps[k] == size;
                let in_place = k == 1 && first[0] == first[1];
                staged[k] = !self.ptrs[k].is_null() && (!plain || in_place);
            }
            let length = match staged.contains(&true) {
                true => BUFFER / (columns * size_of::<i64>()),
                false => PIECE.div_ceil(columns),
            };
            for row in (0..self.rows.len).step_by(length) {
                let n = length.min(self.rows.len - row);
                // Blocks are counted as the tile is laid out: its rows are lines if `along`.
                let (down, right) = if self.along { (columns, n) } else { (n, columns) };
                let mut blocks = [Block { ptr: std::ptr::null_mut(), row: 0, column: 0 }; 3];
                let mut lines = [Lines::NONE; 3];
                for k in 0..3 {
                    let (a, b) = (self.rows.steps[k], self.line.steps[k]);
                    let ptr = first[k].wrapping_offset(row as isize * a);
                    let (row, column) = if self.along { (b, a) } else { (a, b) };
                    blocks[k] = Block { ptr, row, column };
                    if staged[k] {
                        let step = (types[k].size() * right) as isize;
                        lines[k] = Lines { ptr: tiles[k], step };
                    } else if !self.ptrs[k].is_null() {
                        lines[k] = Lines { ptr, step: blocks[k].row };
                    }
                }
                let carry = if self.along { self.routine.along } else { self.routine.carry };
                // SAFETY: blocks are within the shape; a staged one fits its tile.
                unsafe {
                    if staged[0] {
                        load((tiles[0], elem), (blocks[0], self.stored[0]), down, right);
                    }
                    carry(state.ptr(), columns, row, n, lines[0], lines[1], lines[2]);
                    for k in [1, 2] {
                        if staged[k] {
                            let to = (blocks[k], self.stored[k]);
                            store(to, (tiles[k], types[k]), down, right);
                        }
                    }
                }
                patience.look();
            }
        }
    }
}
