//! Test support: strided arrays of any layout, and one-element-at-a-time access to them.

#![allow(unsafe_code)]

use super::engine::Operand;
use crate::dispatch;
use crate::dtype::{DType, Element, Scalar};
use half::{bf16, f16};
use proptest::prelude::*;

/// How an array lies in memory: the order of the axes, their steps, and which are broadcast.
#[derive(Clone, Debug)]
pub struct Layout {
    pub order: Vec<usize>,
    pub steps: Vec<isize>,
    pub broadcast: Vec<bool>,
    pub offset: usize,
}

impl Layout {
    pub fn dense(rank: usize) -> Self {
        Layout {
            order: (0..rank).collect(),
            steps: vec![1; rank],
            broadcast: vec![false; rank],
            offset: 0,
        }
    }
}

/// A strided array that owns its memory.
#[derive(Clone, Debug)]
pub struct Array {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub strides: Vec<isize>,
    pub memory: Vec<u64>,
    pub offset: usize,
}

impl Array {
    /// An array of zeros.
    pub fn new(dtype: DType, shape: &[usize], layout: &Layout) -> Self {
        let mut strides = vec![0; shape.len()];
        let mut offset = layout.offset as isize;
        let mut extent = 1;
        for &d in layout.order.iter().rev() {
            if layout.broadcast[d] {
                continue;
            }
            let step = layout.steps[d];
            strides[d] = extent * step;
            if step < 0 && shape[d] > 0 {
                offset += extent * -step * (shape[d] as isize - 1);
            }
            extent *= shape[d].max(1) as isize * step.abs();
        }
        let bytes = (layout.offset + extent as usize + 1) * dtype.size();
        let memory = vec![0; bytes.div_ceil(8)];
        Array { dtype, shape: shape.to_vec(), strides, memory, offset: offset as usize }
    }

    /// An array with the values `f(0), f(1), ...` in the order of its indices.
    pub fn filled(
        dtype: DType,
        shape: &[usize],
        layout: &Layout,
        mut f: impl FnMut(usize) -> Scalar,
    ) -> Self {
        let mut a = Array::new(dtype, shape, layout);
        for (i, index) in indices(shape).enumerate() {
            a.set(&index, f(i));
        }
        a
    }

    pub fn operand(&mut self) -> Operand<'_> {
        let ptr =
            self.memory.as_mut_ptr().cast::<u8>().wrapping_add(self.offset * self.dtype.size());
        Operand { ptr, dtype: self.dtype, strides: &self.strides }
    }

    fn at(&self, index: &[usize]) -> usize {
        let step: isize = index.iter().zip(&self.strides).map(|(&i, &s)| i as isize * s).sum();
        (self.offset as isize + step) as usize
    }

    pub fn get(&self, index: &[usize]) -> Scalar {
        let at = self.at(index);
        let ptr = self.memory.as_ptr();
        // SAFETY: `new` made the memory large enough for every index.
        dispatch!(self.dtype, T => unsafe { ptr.cast::<T>().add(at).read() }.to_scalar())
    }

    pub fn set(&mut self, index: &[usize], value: Scalar) {
        let at = self.at(index);
        let ptr = self.memory.as_mut_ptr();
        let value = cast(value, self.dtype);
        // SAFETY: as for `get`.
        dispatch!(self.dtype, T => unsafe { ptr.cast::<T>().add(at).write(T::from_scalar(value)) })
    }

    /// All values in the order of indices.
    pub fn values(&self) -> Vec<Scalar> {
        indices(&self.shape).map(|index| self.get(&index)).collect()
    }
}

/// All indices of a shape, the last axis fastest.
pub fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let shape = shape.to_vec();
    (0..shape.iter().product::<usize>()).map(move |mut i| {
        let mut index = vec![0; shape.len()];
        for (x, &n) in index.iter_mut().zip(&shape).rev() {
            (*x, i) = (i % n, i / n);
        }
        index
    })
}

/// What a conversion must give, by way of Rust's `as` and the `half` crate.
pub fn cast(value: Scalar, to: DType) -> Scalar {
    let single = match value {
        Scalar::Int(i) => i as f32,
        other => other.to_f64() as f32,
    };
    match to {
        DType::Float16 => Scalar::Float(f16::from_f32_const(single).to_f64()),
        DType::BFloat16 => Scalar::Float(bf16::from_f32_const(single).to_f64()),
        DType::Float32 => Scalar::Float(single as f64),
        _ => dispatch!(to, T => T::from_scalar(value).to_scalar()),
    }
}

/// Equal bits, with all NaNs equal.
pub fn same(a: Scalar, b: Scalar) -> bool {
    match (a, b) {
        (Scalar::Float(x), Scalar::Float(y)) => {
            x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan())
        }
        (a, b) => a == b,
    }
}

/// Values that exercise rounding, wrapping and the special cases of every type.
pub fn value(seed: u64) -> Scalar {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0;
    x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^= x >> 32;
    match x % 32 {
        0 => Scalar::Float(f64::NAN),
        1 => Scalar::Float(f64::INFINITY),
        2 => Scalar::Float(-0.0),
        3 => Scalar::Float(-1e10),
        4 => Scalar::Float(3e-6),
        5..=15 => Scalar::Int((x >> 8) as i64 % 300),
        16 => Scalar::Int(0),
        _ => Scalar::Float(((x >> 8) as i64 % 4001 - 2000) as f64 / 16.0),
    }
}

/// Shapes of few and of many elements, some empty, some with long axes.
pub fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        8 => prop::collection::vec(0..6usize, 0..5),
        3 => prop::collection::vec(1..4usize, 5..10),
        3 => prop::collection::vec(1..90usize, 1..3),
        1 => prop::collection::vec(1000..5000usize, 1..2),
        1 => (1..3usize, 500..1500usize, 1..5usize).prop_map(|(a, b, c)| vec![a, b, c]),
    ]
}

/// Layouts of a rank; `broadcast` allows steps of zero.
pub fn layouts(rank: usize, broadcast: bool) -> impl Strategy<Value = Layout> {
    let order = Just((0..rank).collect::<Vec<_>>());
    let order = prop_oneof![2 => order.clone(), 3 => order.prop_shuffle()];
    let step = prop_oneof![6 => Just(1isize), 1 => Just(2), 1 => Just(-1), 1 => Just(-3)];
    let chance = if broadcast { 0.15 } else { 0.0 };
    let zeros = prop::collection::vec(prop::bool::weighted(chance), rank);
    (order, prop::collection::vec(step, rank), zeros, 0..3usize)
        .prop_map(|(order, steps, broadcast, offset)| Layout { order, steps, broadcast, offset })
}

pub fn dtypes() -> impl Strategy<Value = DType> {
    prop::sample::select(DType::ALL.to_vec())
}
