//! Large products: blocks that fit the caches, tiles that fit the registers.
//!
//! Goto's scheme: `k` is cut into runs of [`DEPTH`]; for each run a block of B becomes panels as
//! wide as a tile (shared by all threads), a block of A strips as high as a tile (one per task),
//! and every strip meets every panel. What is used once only is read where it lies.
//!
//! Only the runs of `k` show in the result, and they are cut at multiples of a constant: an
//! element of C is `fma(alpha, run, c)` over its runs in order, each run one chain over its `k`.
//! Blocks, tasks, packing and threads decide when and where, never what.

use super::Problem;
use super::micro::{Float, Kernels, MAX_COLS, MAX_ROWS};
use super::pack::{Scratch, pack};
use super::vector::ROW;
use crate::kernels::interrupt::Patience;
use crate::kernels::threads;
use std::ops::Range;

/// Length of a run of `k`. Part of the definition of the result.
pub const DEPTH: usize = 256;
/// Columns of B packed at once: with [`DEPTH`] 2 MiB in single precision.
const WIDTH: usize = 2048;
/// Strips of A per task: a few hundred KiB, for the second-level cache.
const STRIPS: usize = 12;
/// Elements of B that are read where they lie: they stay in the first levels of the cache.
const SMALL_B: usize = 32 << 10;
/// Columns of B from which packing A pays.
const MANY_COLS: usize = 1024;
/// Length of `k` up to which C, not the multiplications, takes the time.
const SHALLOW: usize = 4;
/// Multiplications of a task that is worth sending to another thread.
const TASK: usize = 256 << 10;

/// `c = alpha * a @ b + beta * c` for `k > 0`, on all threads if `parallel`.
///
/// # Safety
/// As for [`super::gemm`], and the machine must have the instructions of `kernels`.
pub unsafe fn multiply<T: Float>(p: &Problem<T>, kernels: &'static Kernels<T>, parallel: bool) {
    if p.m > 1 && p.c_strides[1] != 1 && p.c_strides[0] == 1 {
        // SAFETY: the same elements by their transposed names.
        return unsafe { multiply(&p.transposed(), kernels, parallel) };
    }
    // With few multiplications per element of C or B, a tile is the wrong shape for memory.
    if p.m == 1 && p.b_strides.contains(&1) || p.k <= SHALLOW && p.b_strides[1] == 1 && p.n >= ROW {
        // SAFETY: as promised by the caller.
        return unsafe { row_by_row(p, kernels, parallel) };
    }
    let threads = if parallel { threads::num_threads() } else { 1 };
    let in_place = p.b_strides[1] == 1 && (p.m <= 10 * kernels.rows() || p.k * p.n <= SMALL_B);
    let mut patience = Patience::new();
    for col in (0..p.n).step_by(WIDTH) {
        let cols = WIDTH.min(p.n - col);
        for start in (0..p.k).step_by(DEPTH) {
            let k = DEPTH.min(p.k - start);
            let beta = if start == 0 { p.beta } else { 1.0 };
            // SAFETY: a part of the product.
            let run = unsafe { Problem { n: cols, k, beta, ..*p }.moved(0, start, col) };
            let panels = cols.div_ceil(kernels.cols());
            // The last panel may have to be padded even where the others are not packed.
            let packed = match in_place {
                true => panels - usize::from(!cols.is_multiple_of(kernels.lanes))..panels,
                false => 0..panels,
            };
            let panel_len = k * kernels.cols();
            let mut scratch = Scratch::new::<T>(0, packed.len() * panel_len);
            let block = Block {
                run: &run,
                kernels,
                packed: Shared(scratch.ptr()),
                first_packed: packed.start,
                panel_len,
            };
            let grain = packed.len().div_ceil(2 * threads).max(4);
            let pack = |r: Range<usize>| {
                // SAFETY: every panel is written by one task.
                r.for_each(|i| unsafe { block.pack_panel(packed.start + i) });
            };
            if threads > 1 {
                threads::parallel_for(packed.len(), grain, pack)
            } else {
                pack(0..packed.len())
            }

            let tall = p.m.div_ceil(STRIPS * kernels.rows());
            // Enough tasks to keep the threads busy to the end, none thinner than two panels.
            let across = (3 * threads).div_ceil(tall).min(panels.div_ceil(2));
            let across = if threads > 1 { across } else { 1 };
            let tasks = |r: Range<usize>| {
                for task in r {
                    let rows = share(p.m, tall, task / across);
                    let panels = share(panels, across, task % across);
                    // SAFETY: tasks write different elements of C; all panels are packed.
                    unsafe { block.multiply(rows, panels) };
                }
            };
            if threads > 1 {
                threads::parallel_for(tall * across, 1, tasks)
            } else {
                for task in 0..tall * across {
                    tasks(task..task + 1);
                    patience.look();
                }
            }
        }
    }
}

/// [`multiply`] without tiles.
///
/// # Safety
/// As for [`multiply`]; one of the strides of B must be 1.
unsafe fn row_by_row<T: Float>(p: &Problem<T>, kernels: &Kernels<T>, parallel: bool) {
    let across = p.n.div_ceil(ROW);
    let tasks = |r: Range<usize>| {
        for task in r {
            let (row, col) = (task / across, task % across * ROW);
            for start in (0..p.k).step_by(DEPTH) {
                let beta = if start == 0 { p.beta } else { 1.0 };
                // SAFETY: a part of the product; tasks write different elements of C.
                unsafe {
                    let q = p.moved(row, start, col);
                    let (n, k) = (ROW.min(p.n - col), DEPTH.min(p.k - start));
                    let factors = [p.alpha, beta].map(T::from_f64);
                    let (a_col, c_col) = (p.a_strides[1], p.c_strides[1]);
                    (kernels.row)(n, k, q.a, a_col, q.b, p.b_strides, q.c, c_col, factors);
                }
            }
        }
    };
    let grain = (TASK / (p.k * ROW)).max(1);
    if parallel {
        threads::parallel_for(p.m * across, grain, tasks)
    } else {
        tasks(0..p.m * across)
    }
}

/// The `i`-th of `parts` nearly equal parts of `0..len`.
fn share(len: usize, parts: usize, i: usize) -> Range<usize> {
    let at = |i: usize| len / parts * i + i.min(len % parts);
    at(i)..at(i + 1)
}

/// A pointer to scratch memory that tasks share.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);
// SAFETY: the tasks write disjoint panels, and read them only after all are written.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

/// One run of `k`.
struct Block<'a, T: Float> {
    run: &'a Problem<T>,
    kernels: &'static Kernels<T>,
    packed: Shared<T>,
    /// Panels before this one are read where they lie.
    first_packed: usize,
    panel_len: usize,
}

impl<T: Float> Block<'_, T> {
    /// The columns of a panel.
    fn columns(&self, panel: usize) -> Range<usize> {
        let width = self.kernels.cols();
        panel * width..self.run.n.min((panel + 1) * width)
    }

    fn vectors(&self, panel: usize) -> usize {
        self.columns(panel).len().div_ceil(self.kernels.lanes)
    }

    /// # Safety
    /// Of the panels from `first_packed` on, each by one task.
    unsafe fn pack_panel(&self, panel: usize) {
        let (q, columns) = (self.run, self.columns(panel));
        // SAFETY: the panel's part of the scratch memory, and columns of B.
        unsafe {
            let to = self.packed.0.add((panel - self.first_packed) * self.panel_len);
            let from = q.b.offset(columns.start as isize * q.b_strides[1]);
            let width = self.vectors(panel) * self.kernels.lanes;
            pack(self.kernels, to, width, from, q.b_strides, q.k, columns.len());
        }
    }

    /// Multiplies some rows of A with some panels of B.
    ///
    /// # Safety
    /// The panels must be packed, and no other task may have the same part of C.
    unsafe fn multiply(&self, rows: Range<usize>, panels: Range<usize>) {
        let (q, kernels) = (self.run, self.kernels);
        let strips = rows.len().div_ceil(kernels.rows());
        let strip = |i: usize| {
            let part = share(rows.len(), strips, i);
            rows.start + part.start..rows.start + part.end
        };
        let pack_a = panels.len() * kernels.cols() >= MANY_COLS
            || q.a_strides[1] != 1 && q.a_strides[0] != 1;
        let mut scratch = Scratch::new::<T>(1, if pack_a { rows.len() * q.k } else { 0 });
        let packed = scratch.ptr::<T>();
        // SAFETY: strips are within A, and fill the scratch memory one after the other.
        unsafe {
            if pack_a {
                let [row, col] = q.a_strides;
                for rows_of_strip in (0..strips).map(strip) {
                    let from = q.a.offset(rows_of_strip.start as isize * row);
                    let to = packed.add((rows_of_strip.start - rows.start) * q.k);
                    let height = rows_of_strip.len();
                    pack(kernels, to, height, from, [col, row], q.k, height);
                }
            }
            for panel in panels {
                let columns = self.columns(panel);
                let vectors = self.vectors(panel);
                let (b, b_row) = if panel >= self.first_packed {
                    let start = (panel - self.first_packed) * self.panel_len;
                    (self.packed.0.add(start).cast_const(), vectors * kernels.lanes)
                } else {
                    (q.b.add(columns.start), q.b_strides[0] as usize)
                };
                let whole = q.c_strides[1] == 1 && columns.len() == vectors * kernels.lanes;
                for strip in (0..strips).map(strip) {
                    let (a, a_strides) = if pack_a {
                        let start = (strip.start - rows.start) * q.k;
                        (packed.add(start).cast_const(), [1, strip.len() as isize])
                    } else {
                        (q.a.offset(strip.start as isize * q.a_strides[0]), q.a_strides)
                    };
                    let tile = kernels.tiles[strip.len() - 1][vectors - 1];
                    let c = q.c.offset(strip.start as isize * q.c_strides[0]);
                    let c = c.offset(columns.start as isize * q.c_strides[1]);
                    let factors = [q.alpha, q.beta].map(T::from_f64);
                    if whole {
                        tile(q.k, a, a_strides, b, b_row as isize, c, q.c_strides[0], factors);
                        continue;
                    }
                    // Through a copy of the tile with rows of whole vectors.
                    let mut copy = [T::ZERO; MAX_ROWS * MAX_COLS];
                    let width = vectors * kernels.lanes;
                    let at = |i: usize, j: usize| {
                        c.offset(i as isize * q.c_strides[0] + j as isize * q.c_strides[1])
                    };
                    if q.beta != 0.0 {
                        for i in 0..strip.len() {
                            for j in 0..columns.len() {
                                copy[i * width + j] = *at(i, j);
                            }
                        }
                    }
                    let to = copy.as_mut_ptr();
                    tile(q.k, a, a_strides, b, b_row as isize, to, width as isize, factors);
                    for i in 0..strip.len() {
                        for j in 0..columns.len() {
                            *at(i, j) = copy[i * width + j];
                        }
                    }
                }
            }
        }
    }
}
