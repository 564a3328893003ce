//! The kernels against twins that visit one position at a time.

use super::*;
use crate::dispatch;
use crate::dtype::{Element, Scalar};
use crate::kernels::threads::{num_threads, set_num_threads};
use proptest::prelude::*;

/// A strided array that owns its memory.
#[derive(Clone, Debug, PartialEq)]
struct Array<T> {
    memory: Vec<T>,
    start: usize,
    shape: Vec<usize>,
    strides: Vec<isize>,
}

impl<T: Element> Array<T> {
    /// Dimensions lie in memory in the given order, `gap` elements apart; some run backwards.
    fn new(shape: &[usize], layout: &Layout, mut value: impl FnMut(usize) -> T) -> Self {
        let mut strides = vec![0; shape.len()];
        let (mut extent, mut start) = (layout.gap, 0);
        let mut order: Vec<usize> = (0..shape.len()).collect();
        order.sort_by_key(|&d| layout.order[d]);
        for d in order {
            strides[d] = extent as isize;
            if layout.backwards[d] {
                strides[d] = -strides[d];
                start += extent * shape[d].saturating_sub(1);
            }
            extent *= shape[d].max(1);
        }
        let memory = (0..extent.max(1)).map(&mut value).collect();
        Array { memory, start, shape: shape.to_vec(), strides }
    }

    fn view(&mut self) -> View<'_> {
        let ptr = self.memory.as_mut_ptr().wrapping_add(self.start).cast();
        View { ptr, shape: &self.shape, strides: &self.strides }
    }

    fn at(&self, p: &[usize]) -> usize {
        let steps = p.iter().zip(&self.strides).map(|(&p, &s)| p as isize * s);
        (self.start as isize + steps.sum::<isize>()) as usize
    }
}

#[derive(Clone, Debug)]
struct Layout {
    order: Vec<u32>,
    backwards: Vec<bool>,
    gap: usize,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let order = prop_oneof![Just(vec![5, 4, 3, 2, 1]), prop::collection::vec(any::<u32>(), 5)];
    (order, prop::collection::vec(prop::bool::weighted(0.2), 5), 1..3usize)
        .prop_map(|(order, backwards, gap)| Layout { order, backwards, gap })
}

fn positions(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    (0..shape.iter().product::<usize>()).map(move |mut i| {
        let mut p = vec![0; shape.len()];
        for (x, &n) in p.iter_mut().zip(&shape).rev() {
            (*x, i) = (i % n, i / n);
        }
        p
    })
}

#[derive(Clone, Debug)]
struct Case {
    shape: Vec<usize>,
    index_shape: Vec<usize>,
    dim: usize,
    layouts: [Layout; 3],
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = prop_oneof![
        6 => prop::collection::vec((1..6usize, 0..6usize), 1..5),
        1 => prop::collection::vec((30..300usize, 30..300usize), 1..3),
        1 => prop::collection::vec((1..3usize, 400..900usize), 1..2),
    ];
    (sizes, any::<usize>(), layouts(), layouts(), layouts(), any::<u64>()).prop_map(
        |(sizes, dim, a, b, c, seed)| {
            let dim = dim % sizes.len();
            let shape: Vec<usize> = sizes.iter().map(|s| s.0).collect();
            let fit = |(d, &(n, m)): (usize, &(usize, usize))| if d == dim { m } else { m.min(n) };
            let index_shape = sizes.iter().enumerate().map(fit).collect();
            Case { shape, index_shape, dim, layouts: [a, b, c], seed }
        },
    )
}

fn value<T: Element>(seed: u64) -> impl FnMut(usize) -> T {
    move |i| {
        let mixed = (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        T::from_scalar(Scalar::Int((mixed % 401) as i64 - 200))
    }
}

/// Bits, so that types without `==` compare.
fn scalars<T: Element>(a: &Array<T>) -> Vec<Scalar> {
    a.memory.iter().map(|v| v.to_scalar()).collect()
}

fn add<T: Element>(a: T, b: T) -> T {
    match (a.to_scalar(), b.to_scalar()) {
        (Scalar::Bool(a), Scalar::Bool(b)) => T::from_scalar(Scalar::Bool(a || b)),
        (Scalar::Int(a), Scalar::Int(b)) => T::from_scalar(Scalar::Int(a.wrapping_add(b))),
        (a, b) if T::DTYPE == DType::Float64 => {
            T::from_scalar(Scalar::Float(a.to_f64() + b.to_f64()))
        }
        (a, b) => {
            let sum = a.to_f64() as f32 + b.to_f64() as f32;
            T::from_scalar(Scalar::Float(sum as f64))
        }
    }
}

impl Case {
    fn arrays<T: Element>(
        &self,
        index_shape: &[usize],
        plain: &[usize],
    ) -> (Array<T>, Array<i64>, Array<T>) {
        let size = self.shape[self.dim] as u64;
        let mut random = value::<i64>(self.seed);
        let [a, b, c] = &self.layouts;
        let index = Array::new(index_shape, b, |i| (random(i) + 200) % size as i64);
        (
            Array::new(&self.shape, a, value(!self.seed)),
            index,
            Array::new(plain, c, value(self.seed)),
        )
    }

    fn check_gather<T: Element>(&self) {
        let (mut x, mut index, mut out) = self.arrays::<T>(&self.index_shape, &self.index_shape);
        let mut wanted = out.clone();
        for p in positions(&self.index_shape) {
            let mut q = p.clone();
            q[self.dim] = index.memory[index.at(&p)] as usize;
            let at = wanted.at(&p);
            wanted.memory[at] = x.memory[x.at(&q)];
        }
        // SAFETY: arrays are valid views of separate memory.
        unsafe { gather(T::DTYPE, x.view(), self.dim, index.view(), out.view()).unwrap() };
        assert_eq!(scalars(&out), scalars(&wanted));
    }

    fn check_scatter<T: Element>(&self, combine: Combine) {
        let mut larger = self.index_shape.clone();
        larger.iter_mut().for_each(|n| *n += 1);
        let (mut x, mut index, mut src) = self.arrays::<T>(&self.index_shape, &larger);
        let mut wanted = x.clone();
        for p in positions(&self.index_shape) {
            let mut q = p.clone();
            q[self.dim] = index.memory[index.at(&p)] as usize;
            let (at, v) = (wanted.at(&q), src.memory[src.at(&p)]);
            let old = wanted.memory[at];
            wanted.memory[at] = if combine == Combine::Add { add(old, v) } else { v };
        }
        // SAFETY: arrays are valid views of separate memory.
        let result =
            unsafe { scatter(T::DTYPE, combine, x.view(), self.dim, index.view(), src.view()) };
        result.unwrap();
        assert_eq!(scalars(&x), scalars(&wanted));
    }

    /// `index_select` and `index_combine` agree with `gather` and `scatter` of a full index.
    fn check_lines<T: Element>(&self, combine: Combine) {
        let mut plain = self.shape.clone();
        plain[self.dim] = self.index_shape[self.dim];
        let (mut x, mut line, mut other) = self.arrays::<T>(&plain[self.dim..=self.dim], &plain);
        let mut full = Array::new(&plain, &self.layouts[1], |_| 0);
        for p in positions(&plain) {
            let at = full.at(&p);
            full.memory[at] = line.memory[line.at(&[p[self.dim]])];
        }
        let (mut selected, mut gathered) = (other.clone(), other.clone());
        let (mut combined, mut scattered) = (x.clone(), x.clone());
        let (dim, dtype) = (self.dim, T::DTYPE);
        // SAFETY: arrays are valid views of separate memory.
        unsafe {
            index_select(dtype, x.view(), dim, line.view(), selected.view()).unwrap();
            gather(dtype, x.view(), dim, full.view(), gathered.view()).unwrap();
            index_combine(dtype, combine, combined.view(), dim, line.view(), other.view()).unwrap();
            scatter(dtype, combine, scattered.view(), dim, full.view(), other.view()).unwrap();
        }
        assert_eq!(scalars(&selected), scalars(&gathered));
        assert_eq!(scalars(&combined), scalars(&scattered));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_naive_twin(case in cases(), dtype in prop::sample::select(DType::ALL.to_vec())) {
        dispatch!(dtype, T => {
            case.check_gather::<T>();
            for combine in [Combine::Add, Combine::Replace] {
                case.check_scatter::<T>(combine);
                case.check_lines::<T>(combine);
            }
        });
    }
}

#[test]
fn number_of_threads_does_not_show() {
    let before = num_threads();
    let plain = Layout { order: vec![5, 4, 3, 2, 1], backwards: vec![false; 5], gap: 1 };
    for (shape, index_shape, dim) in [
        (vec![40, 700], vec![900, 700], 0),
        (vec![700, 40], vec![700, 900], 1),
        (vec![100_000], vec![200_000], 0),
        (vec![5, 30, 900], vec![5, 60, 900], 1),
    ] {
        let layouts = [plain.clone(), plain.clone(), plain.clone()];
        let case = Case { shape, index_shape, dim, layouts, seed: 3 };
        let (mut x, mut index, mut src) = case.arrays::<f32>(&case.index_shape, &case.index_shape);
        // Sums that depend on their order.
        src.memory.iter_mut().for_each(|v| *v = 1.0 / *v);
        let mut run = |threads| {
            set_num_threads(threads).unwrap();
            let (mut sums, mut picked) = (x.clone(), src.clone());
            // SAFETY: arrays are valid views of separate memory.
            unsafe {
                let (to, from) = (sums.view(), src.view());
                scatter(DType::Float32, Combine::Add, to, dim, index.view(), from).unwrap();
                gather(DType::Float32, x.view(), dim, index.view(), picked.view()).unwrap();
            }
            (sums, picked)
        };
        assert!(run(1) == run(5));
    }
    set_num_threads(before).unwrap();
}

#[test]
fn bad_indices_are_errors_and_nothing_is_written() {
    let plain = Layout { order: vec![5, 4, 3, 2, 1], backwards: vec![false; 5], gap: 1 };
    for bad in [5, 2, -1, i64::MIN, i64::MAX] {
        let mut x = Array::<f32>::new(&[3, 2], &plain, |i| i as f32);
        let mut index = Array::<i64>::new(&[3, 2], &plain, |i| if i == 4 { bad } else { 1 });
        let mut line = Array::<i64>::new(&[2], &plain, |i| if i == 1 { bad } else { 0 });
        let mut other = Array::<f32>::new(&[3, 2], &plain, |_| 9.0);
        let (x_before, other_before) = (x.clone(), other.clone());
        let dtype = DType::Float32;
        // SAFETY: arrays are valid views of separate memory.
        let results = unsafe {
            [
                gather(dtype, x.view(), 1, index.view(), other.view()),
                index_select(dtype, x.view(), 1, line.view(), other.view()),
                scatter(dtype, Combine::Add, x.view(), 1, index.view(), other.view()),
                index_combine(dtype, Combine::Replace, x.view(), 1, line.view(), other.view()),
            ]
        };
        for result in results {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), Kind::Index);
            let text = format!("index {bad} is out of bounds for dimension 1 with size 2");
            assert_eq!(error.to_string(), text);
        }
        assert!(x == x_before && other == other_before);
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let plain = Layout { order: vec![5, 4, 3, 2, 1], backwards: vec![false; 5], gap: 1 };
    let real = |shape: &[usize]| Array::<f32>::new(shape, &plain, |_| 0.0);
    let whole = |shape: &[usize]| Array::<i64>::new(shape, &plain, |_| 0);
    let text = |r: Result<()>| r.unwrap_err().to_string();
    let (mut x, mut y) = (real(&[3, 2]), real(&[4, 2]));
    let dtype = DType::Float32;
    // SAFETY: arrays are valid views of separate memory.
    unsafe {
        assert_eq!(
            text(gather(dtype, x.view(), 1, whole(&[4, 2]).view(), y.view())),
            "gather: Expected index [4, 2] to be no larger than self [3, 2] apart from dimension 1"
        );
        assert_eq!(
            text(gather(dtype, x.view(), 1, whole(&[2]).view(), y.view())),
            "gather: index must have 2 dimensions like the input, but has 1"
        );
        assert_eq!(
            text(gather(dtype, x.view(), 2, whole(&[2, 2]).view(), y.view())),
            "gather: dimension 2 does not exist in a tensor of 2 dimensions"
        );
        assert_eq!(
            text(scatter(dtype, Combine::Add, x.view(), 0, whole(&[5, 2]).view(), y.view())),
            "scatter: Expected index [5, 2] to be no larger than self [3, 2] apart from \
             dimension 0 and to be no larger than src [4, 2]"
        );
        assert_eq!(
            text(index_combine(dtype, Combine::Add, x.view(), 0, whole(&[3]).view(), y.view())),
            "index_add: Number of indices (3) should be equal to source.size(dim): (4), for dim: 0"
        );
        assert_eq!(
            text(index_select(dtype, x.view(), 1, whole(&[2]).view(), y.view())),
            "index_select: [4, 2] does not match [3, 2] apart from dimension 1"
        );
    }
}

#[test]
fn tensors_without_dimensions_count_as_one_element() {
    let (mut x, mut index, mut out) = ([2.5f32], [0i64], [0.0f32]);
    fn scalar<T>(v: &mut [T; 1]) -> View<'_> {
        View { ptr: v.as_mut_ptr().cast(), shape: &[], strides: &[] }
    }
    let dtype = DType::Float32;
    // SAFETY: one element each.
    unsafe {
        gather(dtype, scalar(&mut x), 0, scalar(&mut index), scalar(&mut out)).unwrap();
        scatter(dtype, Combine::Add, scalar(&mut x), 0, scalar(&mut index), scalar(&mut out))
            .unwrap();
    }
    assert_eq!((x, out), ([5.0], [2.5]));
}
