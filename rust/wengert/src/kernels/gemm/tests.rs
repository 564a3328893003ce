//! Against a plain triple loop in double precision, over shapes, strides, types and threads.

use super::*;
use crate::dtype::Element;
use crate::{Kind, Scalar, dispatch};
use proptest::prelude::*;

/// Memory of a matrix with elements in the order that the strides say, surrounded by NaNs.
struct Matrix<T> {
    data: Vec<T>,
    origin: usize,
    rows: usize,
    cols: usize,
    strides: [isize; 2],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    RowMajor,
    ColMajor,
    Reversed,
    Spread,
    /// All rows are one, for operands only.
    Expanded,
}
use Layout::*;

const LAYOUTS: [Layout; 5] = [RowMajor, ColMajor, Reversed, Spread, Expanded];

impl<T: Element> Matrix<T> {
    fn new(rows: usize, cols: usize, layout: Layout, value: impl Fn(usize, usize) -> f64) -> Self {
        let (m, n) = (rows.max(1) as isize, cols.max(1) as isize);
        let (strides, origin) = match layout {
            RowMajor => ([n, 1], 0),
            ColMajor => ([1, m], 0),
            Reversed => ([-n, -1], m * n - 1),
            Spread => ([3 * n + 1, 3], 0),
            Expanded => ([0, 1], 0),
        };
        let hole = T::from_scalar(Scalar::Float(f64::NAN));
        let mut data = vec![hole; (m * (3 * n + 1)) as usize + 3];
        for i in 0..rows as isize {
            for j in 0..cols as isize {
                let at = origin + i * strides[0] + j * strides[1];
                let i = if layout == Expanded { 0 } else { i };
                let x = Scalar::Float(value(i as usize, j as usize));
                data[at as usize] = T::from_scalar(x);
            }
        }
        Matrix { data, origin: origin as usize, rows, cols, strides }
    }

    fn get(&self, i: usize, j: usize) -> T {
        let at = i as isize * self.strides[0] + j as isize * self.strides[1];
        self.data[(self.origin as isize + at) as usize]
    }

    fn view(&self) -> MatRef {
        MatRef {
            ptr: self.data[self.origin..].as_ptr().cast(),
            rows: self.rows,
            cols: self.cols,
            row_stride: self.strides[0],
            col_stride: self.strides[1],
        }
    }

    fn view_mut(&mut self) -> MatMut {
        let MatRef { rows, cols, row_stride, col_stride, .. } = self.view();
        // From the start of the data: reversed strides reach back.
        let ptr = self.data.as_mut_ptr().wrapping_add(self.origin).cast();
        MatMut { ptr, rows, cols, row_stride, col_stride }
    }

    fn all(&self) -> impl Iterator<Item = T> {
        (0..self.rows * self.cols).map(|at| self.get(at / self.cols, at % self.cols))
    }
}

/// A whole number in -8..=8, or for `fine` a fraction with all bits in use.
fn value(seed: u64, fine: bool) -> impl Fn(usize, usize) -> f64 {
    move |i, j| {
        let x = (i as u64 * 7919 + j as u64 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        match fine {
            true => (x >> 11) as f64 / (1u64 << 52) as f64 - 1.0,
            false => (x >> 40) as f64 % 17.0 - 8.0,
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    m: usize,
    k: usize,
    n: usize,
    layouts: [Layout; 3],
    alpha: f64,
    beta: f64,
    seed: u64,
}

impl Case {
    fn of(m: usize, k: usize, n: usize) -> Case {
        Case { m, k, n, layouts: [RowMajor; 3], alpha: 1.0, beta: 0.0, seed: 1 }
    }

    fn operands<T: Element>(&self, fine: bool) -> [Matrix<T>; 3] {
        let old = |i, j| if self.beta == 0.0 { f64::NAN } else { value(self.seed + 2, fine)(i, j) };
        [
            Matrix::new(self.m, self.k, self.layouts[0], value(self.seed, fine)),
            Matrix::new(self.k, self.n, self.layouts[1], value(self.seed + 1, fine)),
            Matrix::new(self.m, self.n, self.layouts[2], old),
        ]
    }

    fn run<T: Element>(&self, fine: bool) -> Matrix<T> {
        let [a, b, mut c] = self.operands::<T>(fine);
        // SAFETY: the views are of vectors that hold every element; C's elements are distinct.
        unsafe {
            gemm(T::DTYPE, self.alpha, a.view(), b.view(), self.beta, c.view_mut()).unwrap();
        }
        c
    }

    /// The exact result and a bound of its magnitude, for each element.
    fn naive<T: Element>(&self, fine: bool) -> Vec<(f64, f64)> {
        let [a, b, c] = self.operands::<T>(fine);
        let number = |x: T| x.to_scalar().to_f64();
        let mut out = Vec::new();
        for i in 0..self.m {
            for j in 0..self.n {
                let products = (0..self.k).map(|p| number(a.get(i, p)) * number(b.get(p, j)));
                let (sum, size) = products.fold((0.0, 0.0), |(s, t), x| (s + x, t + x.abs()));
                let old = if self.beta == 0.0 { 0.0 } else { self.beta * number(c.get(i, j)) };
                out.push((self.alpha * sum + old, (self.alpha * size).abs() + old.abs()));
            }
        }
        out
    }

    /// Whole numbers are exact in every floating type here, and modulo 2^bits in the others.
    fn check<T: Element>(&self) {
        let c = self.run::<T>(false);
        if T::DTYPE.is_floating() {
            // Nothing but the elements of C was written.
            let holes = c.data.iter().filter(|x| x.to_scalar().to_f64().is_nan()).count();
            assert_eq!(holes, c.data.len() - self.m * self.n, "{self:?}");
        }
        for ((x, (y, _)), at) in c.all().zip(self.naive::<T>(false)).zip(0..) {
            let expected = match T::DTYPE.is_floating() {
                true => T::from_scalar(Scalar::Float(y)),
                false => T::from_scalar(Scalar::Int(y as i64)),
            };
            let (x, y) = (x.to_scalar(), expected.to_scalar());
            assert_eq!(x, y, "{:?} element {at} of {self:?}", T::DTYPE);
        }
    }

    /// Fractions agree up to rounding.
    fn check_rounding<T: Element>(&self, epsilon: f64) {
        let c = self.run::<T>(true);
        let (rows, out) =
            (self.k as f64 + 3.0, T::DTYPE == DType::BFloat16 || T::DTYPE == DType::Float16);
        for (x, (y, size)) in c.all().zip(self.naive::<T>(true)) {
            let x = x.to_scalar().to_f64();
            let single = if out { f32::EPSILON as f64 } else { epsilon };
            let subnormal = if T::DTYPE == DType::Float16 { 2f64.powi(-24) } else { 0.0 };
            let bound = rows * single * size + epsilon * y.abs() + subnormal;
            assert!((x - y).abs() <= bound, "{:?}: {x} is not {y} in {self:?}", T::DTYPE);
        }
    }
}

fn layout() -> impl Strategy<Value = Layout> {
    (0..LAYOUTS.len()).prop_map(|i| LAYOUTS[i])
}

/// Small sizes, sizes around the edges of tiles and runs, and a few long ones.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..20usize, 2 => 20..70usize, 1 => 250..262usize]
}

prop_compose! {
    fn case()(
        m in size(), k in size(), n in size(),
        a in layout(), b in layout(), c in 0..4usize,
        alpha in prop_oneof![Just(1.0), Just(-2.0), Just(0.0)],
        beta in prop_oneof![Just(0.0), Just(1.0), Just(3.0)],
        seed in 0..1000u64,
    ) -> Case {
        Case { m, k, n, layouts: [a, b, LAYOUTS[c]], alpha, beta, seed }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn agrees_with_the_triple_loop(case in case()) {
        case.check::<f64>();
        case.check::<f32>();
        case.check::<i64>();
        case.check::<i8>();
        case.check::<u8>();
    }

    #[test]
    fn agrees_up_to_rounding(mut case in case(), alpha in -2.0..2.0, beta in -2.0..2.0) {
        case.check_rounding::<bf16>(0.0078125);
        case.check_rounding::<f16>(0.0009765625);
        case.alpha = alpha;
        if case.beta != 0.0 {
            case.beta = beta;
        }
        case.check_rounding::<f32>(f32::EPSILON as f64);
        case.check_rounding::<f64>(f64::EPSILON);
    }

    #[test]
    fn layouts_and_rows_do_not_show(case in case()) {
        let plain = Case { layouts: [RowMajor; 3], ..case.clone() };
        if case.layouts.iter().all(|&layout| layout != Expanded) {
            prop_assert!(case.run::<f32>(true).all().eq(plain.run::<f32>(true).all()));
            prop_assert!(case.run::<f64>(true).all().eq(plain.run::<f64>(true).all()));
        }
        // The first row alone.
        if case.m > 0 {
            let one = Case { m: 1, layouts: [RowMajor; 3], ..case };
            let whole = plain.run::<f32>(true);
            prop_assert!(one.run::<f32>(true).all().eq(whole.all().take(one.n)));
        }
    }
}

#[test]
fn all_types_at_every_tile_edge() {
    for dtype in DType::ALL {
        if dtype == DType::Bool {
            continue;
        }
        dispatch!(dtype, T => {
            for n in [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65] {
                for m in [0, 1, 8, 9, 13, 14, 15, 29] {
                    Case { layouts: [RowMajor, ColMajor, RowMajor], ..Case::of(m, 5, n) }.check::<T>();
                }
                Case { beta: 2.0, ..Case::of(3, 0, n) }.check::<T>();
            }
        });
    }
}

#[test]
fn wrong_arguments() {
    let [a, b, mut c] = Case::of(2, 3, 4).operands::<bool>(false);
    // SAFETY: views of vectors.
    let e = unsafe { gemm(DType::Bool, 1.0, a.view(), b.view(), 0.0, c.view_mut()) }.unwrap_err();
    assert_eq!((e.kind(), e.to_string().as_str()), (Kind::DType, "gemm: not implemented for bool"));
    // SAFETY: refused before anything is read.
    let e = unsafe { gemm(DType::Bool, 1.0, b.view(), a.view(), 0.0, c.view_mut()) }.unwrap_err();
    assert_eq!(e.kind(), Kind::Shape);
    assert_eq!(e.to_string(), "gemm: (3, 4) @ (2, 3) is not (2, 4)");
}

#[test]
fn infinities_and_nans_stay_where_they_belong() {
    let mut a = Matrix::<f32>::new(20, 40, RowMajor, |_, _| 1.0);
    let b = Matrix::<f32>::new(40, 35, ColMajor, |_, _| 1.0);
    a.data[7 * 40 + 39] = f32::INFINITY;
    a.data[9 * 40] = f32::NAN;
    let mut c = Matrix::<f32>::new(20, 35, Spread, |_, _| f64::NAN);
    // SAFETY: views of vectors.
    unsafe { gemm(DType::Float32, 1.0, a.view(), b.view(), 0.0, c.view_mut()).unwrap() };
    for (i, x) in (0..20).flat_map(|i| (0..35).map(move |j| (i, j))).map(|(i, j)| (i, c.get(i, j)))
    {
        match i {
            7 => assert_eq!(x, f32::INFINITY),
            9 => assert!(x.is_nan()),
            _ => assert_eq!(x, 40.0),
        }
    }
}

#[test]
fn long_dot_products() {
    for k in [8191, 8192, 8193, 100_003] {
        let case = Case::of(2, k, 1);
        case.check_rounding::<f32>(f32::EPSILON as f64 / 100.0);
        let case = Case { layouts: [ColMajor, Spread, RowMajor], ..case };
        assert!(case.run::<f32>(true).all().eq(Case::of(2, k, 1).run::<f32>(true).all()));
    }
}

#[test]
fn instruction_sets_agree() {
    fn check<T: Float + Element>() {
        for (m, k, n) in [(1, 300, 40), (3, 4, 5), (33, 70, 65), (50, 513, 1), (17, 3, 1)] {
            let results: Vec<_> = T::kernels()
                .iter()
                .filter(|kernels| kernels.name != "portable" || cfg!(not(target_arch = "x86_64")))
                .map(|kernels| {
                    let [a, b, mut c] = Case::of(m, k, n).operands::<T>(true);
                    let (a, b, view) = (a.view(), b.view(), c.view_mut());
                    let q = Problem {
                        m,
                        n,
                        k,
                        a: a.ptr.cast::<T>(),
                        a_strides: [a.row_stride, a.col_stride],
                        b: b.ptr.cast::<T>(),
                        b_strides: [b.row_stride, b.col_stride],
                        c: view.ptr.cast::<T>(),
                        c_strides: [view.row_stride, view.col_stride],
                        alpha: 0.3,
                        beta: 0.0,
                    };
                    // SAFETY: views of vectors; the machine has all kernels it lists.
                    unsafe { float_with(&q, kernels, false) };
                    (kernels.name, c)
                })
                .collect();
            for (name, c) in &results {
                assert!(c.all().eq(results[0].1.all()), "{name} {:?}", (m, k, n));
            }
        }
    }
    check::<f32>();
    check::<f64>();
}

#[test]
fn portable_kernels_agree_with_the_triple_loop() {
    for (m, k, n) in [(1, 300, 40), (3, 4, 5), (33, 70, 65), (50, 513, 1), (17, 3, 1)] {
        let case = Case::of(m, k, n);
        let [a, b, mut c] = case.operands::<f32>(false);
        let q = Problem {
            m,
            n,
            k,
            a: a.data.as_ptr(),
            a_strides: a.strides,
            b: b.data.as_ptr(),
            b_strides: b.strides,
            c: c.data.as_mut_ptr(),
            c_strides: c.strides,
            alpha: 1.0,
            beta: 0.0,
        };
        // SAFETY: views of vectors; every machine has the portable kernels.
        unsafe { float_with(&q, &micro::portable_f32::KERNELS, false) };
        assert!(c.all().map(f64::from).eq(case.naive::<f32>(false).into_iter().map(|(x, _)| x)));
    }
}

#[test]
fn threads_and_batches_do_not_show() {
    let before = threads::num_threads();
    let cases = [
        (300, 300, 300),
        (8, 1024, 1024),
        (1000, 600, 10),
        (1, 1000, 3000),
        (700, 700, 1),
        (1, 300_000, 1),
    ];
    for (m, k, n) in cases {
        for layouts in
            [[RowMajor; 3], [RowMajor, ColMajor, RowMajor], [ColMajor, RowMajor, ColMajor]]
        {
            let case = Case { layouts, beta: 0.7, ..Case::of(m, k, n) };
            let results = [1, 2, 3].map(|n| {
                threads::set_num_threads(n).unwrap();
                case.run::<f32>(true)
            });
            assert!(results[1].all().eq(results[0].all()), "{case:?}");
            assert!(results[2].all().eq(results[0].all()), "{case:?}");
        }
    }
    // Many small products side by side, the second operand shared, the last element first.
    let (count, m, k, n) = (200, 30, 40, 25);
    let [a, b, c] = Case::of(count * m, k, n).operands::<f32>(true);
    let results = [1, 3].map(|n| {
        threads::set_num_threads(n).unwrap();
        let mut c = Matrix { data: c.data.clone(), ..c };
        let (a, b, to) = (a.view(), b.view(), c.view_mut());
        let offsets = |i: usize| {
            let i = (count - 1 - i) as isize;
            [i * (m * k) as isize, 0, i * (m * to.cols) as isize]
        };
        let (a, to) = (MatRef { rows: m, ..a }, MatMut { rows: m, ..to });
        // SAFETY: slices of the matrices, one after the other.
        unsafe { gemm_batched(DType::Float32, count, 1.0, a, b, 0.0, to, &offsets).unwrap() };
        c
    });
    assert!(results[0].all().eq(results[1].all()));
    assert!(results[0].all().eq(Case::of(count * m, k, n).run::<f32>(true).all()));
    threads::set_num_threads(before).unwrap();
}
