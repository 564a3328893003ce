//! The innermost loop: one tile of C in registers.
//!
//! A tile of `MR` rows and `NV` vectors of columns stays in registers while `k` runs; each step
//! broadcasts `MR` elements of A and multiplies them with `NV` vectors of B. The tile is written
//! once, over any register type ([`Simd`]), and compiled for each instruction set and each
//! height, so that the last rows of a matrix need no padding.
//!
//! Every element of the tile is its own chain `acc = fma(a, b, acc)` in the order of `k`. Tile
//! shape, register width and position in the tile therefore cannot change a bit.

/// The number type of a multiplication: `f32` or `f64`.
pub trait Float: Copy + PartialEq + Send + Sync + 'static {
    const ZERO: Self;
    /// The kernels of every instruction set this machine has, the best first.
    fn kernels() -> &'static [&'static Kernels<Self>];
    fn from_f64(x: f64) -> Self;
    fn plus(self, b: Self) -> Self;
    fn times(self, b: Self) -> Self;
    fn mul_add(self, b: Self, c: Self) -> Self;
}

/// Computes `c = alpha * a @ b + beta * c` for one tile; `c` is not read if `beta` is 0.
///
/// `fn(k, a, [row stride, column stride], b, row stride, c, row stride, [alpha, beta])`, strides
/// in elements. B and C have rows of whole vectors, one element next to the other.
///
/// # Safety
/// All elements that the shape names must be valid, and the machine must have the instructions.
pub type Tile<T> = unsafe fn(usize, *const T, [isize; 2], *const T, isize, *mut T, isize, [T; 2]);

/// The tallest tile of any instruction set.
pub const MAX_ROWS: usize = 14;
/// The widest tile of any instruction set, in elements.
pub const MAX_COLS: usize = 32;

/// What an instruction set offers.
pub struct Kernels<T: 'static> {
    /// For the messages of tests.
    #[cfg_attr(not(test), expect(dead_code))]
    pub name: &'static str,
    /// Elements of a vector.
    pub lanes: usize,
    /// `tiles[rows - 1][vectors - 1]`.
    pub tiles: &'static [[Tile<T>; 2]],
    pub row: super::vector::Row<T>,
    pub dots: super::vector::Dots<T>,
    pub tiny: super::vector::Tiny<T>,
    pub transpose: super::pack::Transpose<T>,
}

impl<T> Kernels<T> {
    /// Rows of the tallest tile.
    pub fn rows(&self) -> usize {
        self.tiles.len()
    }

    /// Columns of the widest tile.
    pub fn cols(&self) -> usize {
        2 * self.lanes
    }
}

/// A vector register of an instruction set.
///
/// # Safety
/// For all functions: the machine must have the instruction set, and pointers must be valid for
/// as many elements as the function names.
pub trait Simd: Copy {
    type T: Float;
    const LANES: usize;
    /// Side of a [`Square`], one of its registers long.
    const SIDE: usize = Self::Square::LANES;
    /// The register type that squares are turned in.
    type Square: Square<T = Self::T>;
    unsafe fn splat(x: Self::T) -> Self;
    unsafe fn load(from: *const Self::T) -> Self;
    unsafe fn store(self, to: *mut Self::T);
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    /// What [`Simd::fma`] does, for one number.
    unsafe fn fma1(a: Self::T, b: Self::T, c: Self::T) -> Self::T;
}

/// A vector register that can exchange elements with its neighbours.
///
/// # Safety
/// As for [`Simd`].
pub trait Square: Simd {
    /// Transposes the square of the first `LANES` registers.
    unsafe fn turn(rows: &mut [Self; 8]);
    /// Hints that a place, valid or not, will be read soon.
    fn prefetch(_: *const Self::T) {}
}

/// The body of a [`Tile`].
///
/// # Safety
/// As for [`Tile`].
#[inline(always)]
#[expect(clippy::too_many_arguments, clippy::needless_range_loop)]
pub unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
    k: usize,
    mut a: *const S::T,
    [a_row, a_col]: [isize; 2],
    mut b: *const S::T,
    b_row: isize,
    c: *mut S::T,
    c_row: isize,
    [alpha, beta]: [S::T; 2],
) {
    // SAFETY: the caller vouches for the `MR * k` elements of A, the `k * NV` vectors of B, the
    // `MR * NV` vectors of C and the instruction set. A and B move by wrapping arithmetic, as
    // they end one step beyond the last element.
    unsafe {
        let zero = S::splat(S::T::ZERO);
        let mut acc = [[zero; NV]; MR];
        for _ in 0..k {
            let mut row = [zero; NV];
            for v in 0..NV {
                row[v] = S::load(b.add(v * S::LANES));
            }
            for i in 0..MR {
                let x = S::splat(*a.offset(i as isize * a_row));
                for v in 0..NV {
                    acc[i][v] = x.fma(row[v], acc[i][v]);
                }
            }
            a = a.wrapping_offset(a_col);
            b = b.wrapping_offset(b_row);
        }
        let scale = S::splat(alpha);
        for i in 0..MR {
            for v in 0..NV {
                let to = c.offset(i as isize * c_row).add(v * S::LANES);
                let sum = if beta == S::T::ZERO {
                    acc[i][v].mul(scale)
                } else {
                    acc[i][v].fma(scale, S::load(to).mul(S::splat(beta)))
                };
                sum.store(to);
            }
        }
    }
}

/// Functions of one instruction set: the bodies of this module, [`super::vector`] and
/// [`super::pack`], compiled with the given features.
macro_rules! kernels {
    ($module:ident, $name:literal, $S:ty, $T:ty, [$($rows:literal)*] $(, $features:literal)?) => {
        pub mod $module {
            use $crate::kernels::gemm::micro::{self, Kernels, Simd};
            use $crate::kernels::gemm::{pack, vector};

            /// # Safety
            /// As for [`micro::Tile`].
            $(#[target_feature(enable = $features)])?
            #[expect(clippy::too_many_arguments)]
            unsafe fn tile<const MR: usize, const NV: usize>(
                k: usize,
                a: *const $T,
                a_strides: [isize; 2],
                b: *const $T,
                b_row: isize,
                c: *mut $T,
                c_row: isize,
                factors: [$T; 2],
            ) {
                // SAFETY: as promised by the caller.
                unsafe {
                    micro::tile::<$S, MR, NV>(k, a, a_strides, b, b_row, c, c_row, factors)
                }
            }

            /// # Safety
            /// As for [`vector::Row`].
            $(#[target_feature(enable = $features)])?
            #[expect(clippy::too_many_arguments)]
            unsafe fn row(
                n: usize,
                k: usize,
                a: *const $T,
                a_col: isize,
                b: *const $T,
                b_strides: [isize; 2],
                c: *mut $T,
                c_col: isize,
                factors: [$T; 2],
            ) {
                // SAFETY: as promised by the caller.
                unsafe { vector::row::<$S>(n, k, a, a_col, b, b_strides, c, c_col, factors) }
            }

            /// # Safety
            /// As for [`vector::Dots`].
            $(#[target_feature(enable = $features)])?
            unsafe fn dots(
                rows: usize,
                k: usize,
                a: *const $T,
                a_strides: [isize; 2],
                b: *const $T,
                out: *mut $T,
            ) {
                // SAFETY: as promised by the caller.
                unsafe { vector::dots::<$S>(rows, k, a, a_strides, b, out) }
            }

            /// # Safety
            /// As for [`vector::Tiny`].
            $(#[target_feature(enable = $features)])?
            unsafe fn tiny(p: &$crate::kernels::gemm::Problem<$T>) {
                // SAFETY: as promised by the caller.
                unsafe { vector::tiny::<$S>(p) }
            }

            /// # Safety
            /// As for [`pack::Transpose`].
            $(#[target_feature(enable = $features)])?
            unsafe fn transpose(
                to: *mut $T,
                to_row: usize,
                from: *const $T,
                from_row: isize,
                rows: usize,
                cols: usize,
            ) {
                // SAFETY: as promised by the caller.
                unsafe { pack::transpose::<$S>(to, to_row, from, from_row, rows, cols) }
            }

            pub static KERNELS: Kernels<$T> = Kernels {
                name: $name,
                lanes: <$S as Simd>::LANES,
                tiles: &[$([tile::<$rows, 1>, tile::<$rows, 2>]),*],
                row,
                dots,
                tiny,
                transpose,
            };
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use kernels;

/// Four numbers, which the compiler maps to whatever vectors there are.
impl<T: Float> Simd for [T; 4] {
    type T = T;
    const LANES: usize = 4;
    type Square = Self;
    #[inline(always)]
    unsafe fn splat(x: T) -> Self {
        [x; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller vouches for four elements, and an array has their alignment.
        unsafe { from.cast::<[T; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: as above.
        unsafe { to.cast::<[T; 4]>().write(self) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        std::array::from_fn(|i| portable_fma(self[i], b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i].plus(b[i]))
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        std::array::from_fn(|i| self[i].times(b[i]))
    }
    #[inline(always)]
    unsafe fn fma1(a: T, b: T, c: T) -> T {
        portable_fma(a, b, c)
    }
}

impl<T: Float> Square for [T; 4] {
    #[inline(always)]
    unsafe fn turn(rows: &mut [Self; 8]) {
        let old = *rows;
        for i in 0..4 {
            rows[i] = std::array::from_fn(|j| old[j][i]);
        }
    }
}

/// Rounds once, except on x86 without the instruction: there it would be a library call for each
/// element, forty times slower than two roundings.
#[inline(always)]
fn portable_fma<T: Float>(a: T, b: T, c: T) -> T {
    if cfg!(any(target_feature = "fma", not(target_arch = "x86_64"))) {
        a.mul_add(b, c)
    } else {
        a.times(b).plus(c)
    }
}

kernels!(portable_f32, "portable", [f32; 4], f32, [1 2 3 4 5 6 7 8]);
kernels!(portable_f64, "portable", [f64; 4], f64, [1 2 3 4 5 6 7 8]);

macro_rules! float {
    ($t:ident, $portable:ident) => {
        impl Float for $t {
            const ZERO: $t = 0.0;
            #[inline]
            fn kernels() -> &'static [&'static Kernels<$t>] {
                #[cfg(target_arch = "x86_64")]
                return super::x86::$t();
                #[cfg(not(target_arch = "x86_64"))]
                {
                    static ALL: [&Kernels<$t>; 1] = [&$portable::KERNELS];
                    &ALL
                }
            }
            #[inline(always)]
            fn from_f64(x: f64) -> $t {
                x as $t
            }
            #[inline(always)]
            fn plus(self, b: $t) -> $t {
                self + b
            }
            #[inline(always)]
            fn times(self, b: $t) -> $t {
                self * b
            }
            #[inline(always)]
            fn mul_add(self, b: $t, c: $t) -> $t {
                <$t>::mul_add(self, b, c)
            }
        }
    };
}
float!(f32, portable_f32);
float!(f64, portable_f64);
