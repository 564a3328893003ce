//! Inner loops of pointwise kernels: one formula, compiled per element type.
//!
//! A kernel is a table of [`Loop`]s, stamped by [`pointwise!`](crate::pointwise) from one
//! expression per family of types. Generic code ends here: everything above (shapes, strides,
//! casts, threads) is the one engine of [`engine`](super::engine), written over bytes.
//!
//! **What a loop is promised** is deliberately little, so that a kernel needs few bodies:
//!
//! 1. The output is contiguous.
//! 2. Each input is contiguous or a scalar (stride 0).
//! 3. The output is the same memory as an input, element for element, or apart from it.
//!
//! The engine brings everything else (strided, transposed, another element type) into this form
//! with tiles on the stack. One and two inputs get a body per pattern; with three and more a
//! scalar is spread over a tile, and an output that is also an input is written to a tile first.
//!
//! **In-place needs its own body.** LLVM guards a vectorised loop with an overlap test of its
//! pointers; `out == in` fails the test and lands in the scalar loop, several times slower.
//! Going through one pointer, or through slices that are known to be apart, needs no test.
//!
//! **Loops count.** `for i in 0..n` over slices cut to one length, not iterators: LLVM does not
//! inline a function that handles aggregates (`Zip::new`, `array::map`) into one with more
//! target features, and a call per loop remains.
//!
//! **The same bits everywhere.** Every body evaluates the same expression per element; vector
//! lanes, remainders and single elements round alike. (Only the sign and payload of a NaN are
//! not promised.)

#![allow(unsafe_code)]
#![allow(clippy::needless_range_loop)] // See "Loops count" above.

use super::isa::{Isa, LEVELS};
use crate::dtype::DType;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::slice::{from_raw_parts, from_raw_parts_mut};

/// An inner loop: `ptrs[0]` is the output, then come the inputs; `strides` are in bytes.
///
/// # Safety
/// The three promises of the [module](self) hold, all pointers are aligned and valid for `n`
/// elements (one, where the stride is 0), and inputs are initialised.
pub type Loop = unsafe fn(ptrs: *const *mut u8, strides: *const isize, n: usize);

/// The most operands a kernel has: the output and four inputs.
pub const MAX_OPERANDS: usize = 5;

/// Which type an operand of a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The type that the kernel computes in.
    Same,
    /// A truth value, whatever the kernel computes in.
    Bool,
}

impl Kind {
    /// The element type of an operand of this kind when the kernel computes in `compute`.
    #[inline]
    pub const fn dtype(self, compute: DType) -> DType {
        match self {
            Kind::Same => compute,
            Kind::Bool => DType::Bool,
        }
    }
}

/// One loop per instruction set, indexed by [`Isa`].
pub type Table = [Loop; LEVELS];

/// A pointwise kernel.
pub struct Kernel {
    /// The name of the static, for messages.
    pub name: &'static str,
    /// What it produces.
    pub output: Kind,
    /// What it takes; as many as the kernel has inputs (1 to 4).
    pub inputs: &'static [Kind],
    /// The loops, indexed by the [`DType`] to compute in; absent where the formula means nothing.
    pub loops: [Option<Table>; DType::ALL.len()],
}

impl Kernel {
    /// How many inputs the kernel takes.
    pub const fn arity(&self) -> usize {
        self.inputs.len()
    }

    /// Whether the kernel can compute in `dtype` (never in half precision: that uses `f32`).
    pub const fn supports(&self, dtype: DType) -> bool {
        self.loops[dtype as usize].is_some()
    }

    /// The kind of operand `i`; 0 is the output.
    #[inline]
    pub(crate) const fn kind(&self, i: usize) -> Kind {
        if i == 0 { self.output } else { self.inputs[i - 1] }
    }
}

/// A formula on values of certain types; [`pointwise!`](crate::pointwise) writes the impls.
pub trait Pointwise<Args> {
    /// The type of the result.
    type Out: Copy;
    /// The formula. Implementations are `#[inline(always)]`, or nothing vectorises.
    fn apply(args: Args) -> Self::Out;
}

/// A loop body, to be compiled per instruction set.
pub trait Body {
    /// Runs the loop.
    ///
    /// # Safety
    /// As for [`Loop`].
    unsafe fn run(ptrs: *const *mut u8, strides: *const isize, n: usize);
}

/// The loops of `B`, one per instruction set.
pub const fn levels<B: Body>() -> Table {
    levels_to::<B, true>()
}

/// [`levels`], but for the widest vectors if they are not worth their code: simple arithmetic on whole
/// numbers waits for memory with narrower ones, too, and there are six types of them.
pub const fn levels_to<B: Body, const WIDEST: bool>() -> Table {
    unsafe fn baseline<B: Body>(ptrs: *const *mut u8, strides: *const isize, n: usize) {
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { B::run(ptrs, strides, n) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
    unsafe fn avx2<B: Body>(ptrs: *const *mut u8, strides: *const isize, n: usize) {
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { B::run(ptrs, strides, n) }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c")]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl")]
    unsafe fn avx512<B: Body>(ptrs: *const *mut u8, strides: *const isize, n: usize) {
        // SAFETY: the caller's promises are passed on unchanged.
        unsafe { B::run(ptrs, strides, n) }
    }

    let mut table: Table = [baseline::<B>; LEVELS];
    #[cfg(target_arch = "x86_64")]
    {
        table[Isa::Avx2 as usize] = avx2::<B>;
        table[Isa::Avx512 as usize] = if WIDEST { avx512::<B> } else { avx2::<B> };
    }
    table
}

/// The loops of formula `R` on arguments `Args`, a tuple of one to four types.
pub struct Rows<R, Args>(PhantomData<(R, Args)>);

/// Elements of a tile inside a loop of three and more inputs.
const TILE: usize = 256;

/// `n` elements to write; nothing is assumed about what they hold.
///
/// # Safety
/// `p` is valid for writes of `n` elements that nothing else refers to during `'a`.
#[inline(always)]
unsafe fn output<'a, T>(p: *mut T, n: usize) -> &'a mut [MaybeUninit<T>] {
    // SAFETY: by the caller's promise; `MaybeUninit` needs no initialised contents.
    unsafe { from_raw_parts_mut(p.cast(), n) }
}

/// Evaluates `value` and writes it to all of `out`.
#[inline(always)]
fn spread<T: Copy>(out: &mut [MaybeUninit<T>], value: T) {
    for i in 0..out.len() {
        out[i].write(value);
    }
}

impl<R: Pointwise<(A,)>, A: Copy> Body for Rows<R, (A,)> {
    #[inline(always)]
    unsafe fn run(ptrs: *const *mut u8, strides: *const isize, n: usize) {
        // SAFETY: there are two pointers and strides. Promise 2 makes `a` one or `n` elements,
        // promise 3 makes the slices below disjoint unless the pointers are equal.
        unsafe {
            let (o, a) = ((*ptrs).cast::<R::Out>(), (*ptrs.add(1)).cast::<A>());
            if n == 1 || *strides.add(1) == 0 {
                spread(output(o, n), R::apply((*a,)));
            } else if o.cast() == a && size_of::<A>() == size_of::<R::Out>() {
                for i in 0..n {
                    let p = o.add(i);
                    p.write(R::apply((*p.cast::<A>(),)));
                }
            } else {
                apply1::<R, A>(output(o, n), from_raw_parts(a, n));
            }
        }
    }
}

#[inline(always)]
fn apply1<R: Pointwise<(A,)>, A: Copy>(out: &mut [MaybeUninit<R::Out>], a: &[A]) {
    let (n, a) = (out.len(), &a[..out.len()]);
    for i in 0..n {
        out[i].write(R::apply((a[i],)));
    }
}

impl<R: Pointwise<(A, B)>, A: Copy, B: Copy> Body for Rows<R, (A, B)> {
    #[inline(always)]
    unsafe fn run(ptrs: *const *mut u8, strides: *const isize, n: usize) {
        // SAFETY: there are three pointers and strides. Promise 2 gives the lengths, promise 3
        // makes slices disjoint unless their pointers are equal, and equal pointers to the
        // output either go through one pointer or leave through a tile.
        unsafe {
            let o = (*ptrs).cast::<R::Out>();
            let (a, b) = ((*ptrs.add(1)).cast::<A>(), (*ptrs.add(2)).cast::<B>());
            let (scalar_a, scalar_b) = (*strides.add(1) == 0, *strides.add(2) == 0);
            if n == 1 || (scalar_a && scalar_b) {
                return spread(output(o, n), R::apply((*a, *b)));
            }
            let in_a = o.cast() == a && size_of::<A>() == size_of::<R::Out>();
            let in_b = o.cast() == b && size_of::<B>() == size_of::<R::Out>();
            if in_a && scalar_b {
                let b = *b;
                for i in 0..n {
                    let p = o.add(i);
                    p.write(R::apply((*p.cast::<A>(), b)));
                }
            } else if in_a && !in_b {
                in_place2::<R, A, B>(output(o, n), from_raw_parts(b, n));
            } else if in_a || in_b {
                let mut tile = [MaybeUninit::<R::Out>::uninit(); TILE];
                let mut done = 0;
                while done < n {
                    let m = TILE.min(n - done);
                    let a = if scalar_a { a } else { a.add(done) };
                    pattern2::<R, A, B>(&mut tile[..m], a, b.add(done), scalar_a, false);
                    std::ptr::copy_nonoverlapping(tile.as_ptr().cast(), o.add(done), m);
                    done += m;
                }
            } else {
                pattern2::<R, A, B>(output(o, n), a, b, scalar_a, scalar_b);
            }
        }
    }
}

/// Replaces the first input, which `out` holds, by the result.
///
/// # Safety
/// `out` holds values of type `A`, of the size of the result, and `b` as many elements.
#[inline(always)]
unsafe fn in_place2<R: Pointwise<(A, B)>, A: Copy, B: Copy>(
    out: &mut [MaybeUninit<R::Out>],
    b: &[B],
) {
    let (n, b) = (out.len(), &b[..out.len()]);
    for i in 0..n {
        // SAFETY: by the caller's promise.
        let a = unsafe { *out[i].as_ptr().cast::<A>() };
        out[i].write(R::apply((a, b[i])));
    }
}

/// Two inputs of which at most one is a scalar, apart from the output.
///
/// # Safety
/// `a` and `b` are valid for as many elements as `out` has, or for one where `scalar_*` is set.
#[inline(always)]
unsafe fn pattern2<R: Pointwise<(A, B)>, A: Copy, B: Copy>(
    out: &mut [MaybeUninit<R::Out>],
    a: *const A,
    b: *const B,
    scalar_a: bool,
    scalar_b: bool,
) {
    let n = out.len();
    // SAFETY: lengths by the caller's promise.
    unsafe {
        if scalar_b {
            let (a, b) = (from_raw_parts(a, n), *b);
            for i in 0..n {
                out[i].write(R::apply((a[i], b)));
            }
        } else if scalar_a {
            let (a, b) = (*a, from_raw_parts(b, n));
            for i in 0..n {
                out[i].write(R::apply((a, b[i])));
            }
        } else {
            let (a, b) = (from_raw_parts(a, n), from_raw_parts(b, n));
            for i in 0..n {
                out[i].write(R::apply((a[i], b[i])));
            }
        }
    }
}

/// Three and more inputs share one scheme and differ in the number of names.
macro_rules! many {
    ($($A:ident $a:ident $scalar:ident $tile:ident $index:literal),+) => {
        impl<R: Pointwise<($($A,)+)>, $($A: Copy),+> Body for Rows<R, ($($A,)+)> {
            #[inline(always)]
            unsafe fn run(ptrs: *const *mut u8, strides: *const isize, n: usize) {
                // SAFETY: there are as many pointers and strides as operands. Promise 2 gives
                // the lengths; scalars are read from tiles of `TILE` elements, and then no
                // piece is longer than a tile. Promise 3 makes slices disjoint unless their
                // pointers are equal, and then the output leaves through a tile.
                unsafe {
                    let o = (*ptrs).cast::<R::Out>();
                    $(
                        let $a = (*ptrs.add($index)).cast::<$A>();
                        let $scalar = *strides.add($index) == 0;
                    )+
                    if n == 1 || ($($scalar)&&+) {
                        return spread(output(o, n), R::apply(($(*$a,)+)));
                    }
                    let in_place = false $(|| o.cast() == $a)+;
                    let tiled = in_place $(|| $scalar)+;
                    let step = if tiled { TILE.min(n) } else { n };
                    let mut tile = [MaybeUninit::<R::Out>::uninit(); TILE];
                    $(
                        let mut $tile = [MaybeUninit::<$A>::uninit(); TILE];
                        if $scalar {
                            spread(&mut $tile[..step], *$a);
                        }
                    )+
                    let mut done = 0;
                    while done < n {
                        let m = step.min(n - done);
                        $(
                            let $a = if $scalar { $tile.as_ptr().cast() } else { $a.add(done) };
                            let $a = from_raw_parts($a, m);
                        )+
                        let out = if in_place { &mut tile[..m] } else { output(o.add(done), m) };
                        for i in 0..m {
                            out[i].write(R::apply(($($a[i],)+)));
                        }
                        if in_place {
                            std::ptr::copy_nonoverlapping(tile.as_ptr().cast(), o.add(done), m);
                        }
                        done += m;
                    }
                }
            }
        }
    };
}
many!(A a scalar_a tile_a 1, B b scalar_b tile_b 2, C c scalar_c tile_c 3);
many!(A a scalar_a tile_a 1, B b scalar_b tile_b 2, C c scalar_c tile_c 3, D d scalar_d tile_d 4);

/// Defines pointwise kernels as statics.
///
/// An operand is written as its name (it has the type that the kernel computes in) or as
/// `name: bool`. The result is `same` or `bool`. Each arm gives the formula for a class of
/// types: `bool`, `int` (u8 to i64), `signed` (i8 to i64), `float` (f32 and f64), `any` (all),
/// or one type by its Rust name. Inside a formula `T` is the type at hand.
///
/// ```
/// use wengert::{DType, kernels::rows::Kernel, pointwise};
/// pointwise! {
///     /// The larger of two values.
///     pub static LARGER: (a, b) -> same { int: a.max(b), float: if a > b { a } else { b } }
///     /// Selects by a condition.
///     pub static WHERE: (c: bool, a, b) -> same { any: if c { a } else { b } }
/// }
/// assert!(LARGER.supports(DType::Float32) && !LARGER.supports(DType::Bool));
/// assert_eq!(WHERE.arity(), 3);
/// ```
#[macro_export]
macro_rules! pointwise {
    ($(
        $(#[$meta:meta])*
        $vis:vis static $name:ident: $args:tt -> $out:ident {
            $($class:ident: $body:expr),+ $(,)?
        }
    )*) => { $(
        $(#[$meta])*
        $vis static $name: $crate::kernels::rows::Kernel = {
            struct Row;
            let mut loops = [None; $crate::DType::ALL.len()];
            $( $crate::pointwise!(@class $class, loops, $out, $args, $body); )+
            $crate::kernels::rows::Kernel {
                name: stringify!($name),
                output: $crate::pointwise!(@kind $out),
                inputs: $crate::pointwise!(@kinds $args),
                loops,
            }
        };
    )* };

    (@class bool, $($rest:tt)+) => { $crate::pointwise!(@type bool Bool, $($rest)+); };
    (@class u8, $($rest:tt)+) => { $crate::pointwise!(@type u8 UInt8, $($rest)+); };
    (@class i8, $($rest:tt)+) => { $crate::pointwise!(@type i8 Int8, $($rest)+); };
    (@class i16, $($rest:tt)+) => { $crate::pointwise!(@type i16 Int16, $($rest)+); };
    (@class i32, $($rest:tt)+) => { $crate::pointwise!(@type i32 Int32, $($rest)+); };
    (@class i64, $($rest:tt)+) => { $crate::pointwise!(@type i64 Int64, $($rest)+); };
    (@class f32, $($rest:tt)+) => { $crate::pointwise!(@type f32 Float32, $($rest)+); };
    (@class f64, $($rest:tt)+) => { $crate::pointwise!(@type f64 Float64, $($rest)+); };
    (@class signed, $($rest:tt)+) => {
        $crate::pointwise!(@class i8, $($rest)+);
        $crate::pointwise!(@class i16, $($rest)+);
        $crate::pointwise!(@class i32, $($rest)+);
        $crate::pointwise!(@class i64, $($rest)+);
    };
    (@class int, $($rest:tt)+) => {
        $crate::pointwise!(@class u8, $($rest)+);
        $crate::pointwise!(@class signed, $($rest)+);
    };
    (@class float, $($rest:tt)+) => {
        $crate::pointwise!(@class f32, $($rest)+);
        $crate::pointwise!(@class f64, $($rest)+);
    };
    (@class any, $($rest:tt)+) => {
        $crate::pointwise!(@class bool, $($rest)+);
        $crate::pointwise!(@class int, $($rest)+);
        $crate::pointwise!(@class float, $($rest)+);
    };

    (@type $T:ident $dtype:ident, $loops:ident, $out:ident,
        ($($arg:ident $(: $kind:ident)?),+), $body:expr
    ) => {
        impl $crate::kernels::rows::Pointwise<($($crate::pointwise!(@operand $T $($kind)?),)+)>
            for Row
        {
            type Out = $crate::pointwise!(@operand $T $out);
            #[inline(always)]
            #[allow(unused_variables, dead_code, clippy::all)]
            fn apply(
                ($($arg,)+): ($($crate::pointwise!(@operand $T $($kind)?),)+)
            ) -> Self::Out {
                type T = $T;
                $body
            }
        }
        $loops[$crate::DType::$dtype as usize] =
            Some($crate::kernels::rows::levels_to::<
                $crate::kernels::rows::Rows<Row, ($($crate::pointwise!(@operand $T $($kind)?),)+)>,
                { $crate::DType::$dtype.is_floating() },
            >());
    };

    (@kinds ($($arg:ident $(: $kind:ident)?),+)) => {
        &[$($crate::pointwise!(@kind $($kind)?)),+]
    };
    (@kind) => { $crate::kernels::rows::Kind::Same };
    (@kind same) => { $crate::kernels::rows::Kind::Same };
    (@kind bool) => { $crate::kernels::rows::Kind::Bool };
    (@operand $T:ident) => { $T };
    (@operand $T:ident same) => { $T };
    (@operand $T:ident bool) => { bool };
}
