//! The engine, copies and fills against loops over indices.

use super::{Operand, map};
use crate::dtype::{Category, DType, Scalar};
use crate::kernels::arrays::*;
use crate::kernels::reduce::{Reduction, reduce, variance};
use crate::kernels::rows::Kernel;
use crate::kernels::scan::{Scan, scan};
use crate::kernels::{arrays, cast, isa, threads};
use crate::pointwise;
use half::{bf16, f16};
use proptest::prelude::*;

pointwise! {
    static NEGATE: (a) -> same { bool: !a, int: a.wrapping_neg(), float: -a }
    static POSITIVE: (a) -> bool { bool: a, int: a as i64 > 0, float: a > 0.0 }
    static ADD: (a, b) -> same { bool: a | b, int: a.wrapping_add(b), float: a + b }
    static LESS: (a, b) -> bool { bool: !a & b, int: a < b, float: a < b }
    static WHERE: (c: bool, a, b) -> same { any: if c { a } else { b } }
    static FUSED: (a, b, c, d) -> same { float: a.mul_add(b, c) - d }
}

/// The formulas above on values of type `compute`.
fn twin(kernel: &Kernel, compute: DType, x: &[Scalar]) -> Scalar {
    let single = compute == DType::Float32;
    let round = |v: f64| Scalar::Float(if single { v as f32 as f64 } else { v });
    let int = |v: i64| arrays::cast(Scalar::Int(v), compute);
    match (kernel.name, compute.category()) {
        ("NEGATE", Category::Bool) => Scalar::Bool(!x[0].to_bool()),
        ("NEGATE", Category::Integer) => int(x[0].to_i64().wrapping_neg()),
        ("NEGATE", _) => Scalar::Float(-x[0].to_f64()),
        ("POSITIVE", _) => Scalar::Bool(x[0].to_f64() > 0.0),
        ("ADD", Category::Bool) => Scalar::Bool(x[0].to_bool() | x[1].to_bool()),
        ("ADD", Category::Integer) => int(x[0].to_i64().wrapping_add(x[1].to_i64())),
        ("ADD", _) => round(x[0].to_f64() + x[1].to_f64()),
        ("LESS", Category::Floating) => Scalar::Bool(x[0].to_f64() < x[1].to_f64()),
        ("LESS", _) => Scalar::Bool(x[0].to_i64() < x[1].to_i64()),
        ("WHERE", _) => x[1 + !x[0].to_bool() as usize],
        ("FUSED", _) if single => {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| x[i].to_f64() as f32);
            Scalar::Float((a.mul_add(b, c) - d) as f64)
        }
        ("FUSED", _) => {
            let [a, b, c, d] = [0, 1, 2, 3].map(|i| x[i].to_f64());
            Scalar::Float(a.mul_add(b, c) - d)
        }
        (name, _) => unreachable!("{name}"),
    }
}

#[derive(Clone, Debug)]
struct Case {
    kernel: usize,
    compute: DType,
    shape: Vec<usize>,
    /// The output, then four inputs of which the kernel takes the first.
    operands: Vec<(DType, Layout)>,
    seed: u64,
}

fn kernels() -> [&'static Kernel; 6] {
    [&NEGATE, &POSITIVE, &ADD, &LESS, &WHERE, &FUSED]
}

fn cases() -> impl Strategy<Value = Case> {
    (shapes(), 0..6usize, dtypes(), any::<u64>(), any::<bool>()).prop_flat_map(
        |(shape, kernel, compute, seed, mixed)| {
            let compute = compute.compute();
            let compute =
                if kernels()[kernel].supports(compute) { compute } else { DType::Float32 };
            let dtype = if mixed { dtypes().boxed() } else { Just(compute).boxed() };
            let rank = shape.len();
            let output = (dtype.clone(), layouts(rank, false));
            let inputs = prop::collection::vec((dtype, layouts(rank, true)), 4);
            (output, inputs).prop_map(move |(output, mut operands)| {
                operands.insert(0, output);
                Case { kernel, compute, shape: shape.clone(), operands, seed }
            })
        },
    )
}

fn check(case: &Case, dense: bool, in_place: Option<usize>) -> Result<(), TestCaseError> {
    let kernel = kernels()[case.kernel];
    let count = kernel.arity() + 1;
    let mut arrays: Vec<Array> = case.operands[..count]
        .iter()
        .enumerate()
        .map(|(k, (dtype, layout))| {
            let dense = dense.then(|| Layout::dense(case.shape.len()));
            let layout = dense.as_ref().unwrap_or(layout);
            Array::filled(*dtype, &case.shape, layout, |i| value(case.seed ^ (k * 7919 + i) as u64))
        })
        .collect();
    let source = in_place.map(|k| 1 + k % kernel.arity());
    if let Some(k) = source {
        arrays[k] = arrays[0].clone();
    }
    let expected: Vec<Scalar> = indices(&case.shape)
        .map(|index| {
            let inputs: Vec<Scalar> = (1..count)
                .map(|k| {
                    let wanted = kernel.kind(k).dtype(case.compute);
                    arrays::cast(arrays[k].get(&index), wanted)
                })
                .collect();
            arrays::cast(twin(kernel, case.compute, &inputs), arrays[0].dtype)
        })
        .collect();
    let before = arrays.clone();
    let mut levels = Vec::new();
    isa::for_each_level(|level| {
        let mut arrays = before.clone();
        let mut operands: Vec<_> = arrays.iter_mut().map(|a| a.operand()).collect();
        if let Some(k) = source {
            operands[k] = operands[0];
        }
        // SAFETY: `Array` gives every index its own place, and the shapes agree.
        unsafe { map(kernel, case.compute, &case.shape, &operands) };
        levels.push((level, arrays[0].values()));
    });
    for (level, values) in levels {
        for (i, (got, want)) in values.iter().zip(&expected).enumerate() {
            prop_assert!(same(*got, *want), "{level:?} element {i}: {got:?}, expected {want:?}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn map_equals_its_twin(case in cases(), dense in prop::bool::weighted(0.2)) {
        check(&case, dense, None)?;
    }

    #[test]
    fn map_in_place_equals_its_twin(
        case in cases(),
        dense in prop::bool::weighted(0.4),
        k in 0..4usize,
    ) {
        check(&case, dense, Some(k))?;
    }

    #[test]
    fn copy_equals_its_twin(
        (shape, to, from) in shapes().prop_flat_map(|shape| {
            let rank = shape.len();
            (Just(shape), (dtypes(), layouts(rank, false)), (dtypes(), layouts(rank, true)))
        }),
        convert: bool,
        seed: u64,
    ) {
        let mut dst = Array::new(if convert { to.0 } else { from.0 }, &shape, &to.1);
        let mut src = Array::filled(from.0, &shape, &from.1, |i| value(seed ^ i as u64));
        // SAFETY: as in `check`.
        unsafe { cast::copy(&shape, dst.operand(), src.operand()) };
        for index in indices(&shape) {
            let want = arrays::cast(src.get(&index), dst.dtype);
            prop_assert!(same(dst.get(&index), want), "{index:?}");
        }
    }

    #[test]
    fn fill_reaches_its_elements_only(
        (shape, dtype, layout) in shapes().prop_flat_map(|shape| {
            let rank = shape.len();
            (Just(shape), dtypes(), layouts(rank, false))
        }),
        seed: u64,
    ) {
        let mut dst = Array::new(dtype, &shape, &layout);
        let mut twin = dst.clone();
        for index in indices(&shape) {
            twin.set(&index, value(seed));
        }
        // SAFETY: as in `check`.
        unsafe { cast::fill(&shape, dst.operand(), value(seed)) };
        for index in indices(&shape) {
            prop_assert!(same(dst.get(&index), twin.get(&index)));
        }
        if !matches!(value(seed), Scalar::Float(x) if x.is_nan()) {
            prop_assert_eq!(dst.memory, twin.memory);
        }
    }
}

#[test]
fn large_work_is_cut_without_a_seam() {
    let shape = [700, 300];
    let layouts = [
        Layout::dense(2),
        Layout { order: vec![1, 0], ..Layout::dense(2) },
        Layout { steps: vec![1, 2], ..Layout::dense(2) },
        Layout { broadcast: vec![false, true], ..Layout::dense(2) },
        Layout { broadcast: vec![true, false], ..Layout::dense(2) },
    ];
    for (i, a) in layouts.iter().enumerate() {
        for (j, o) in layouts[..3].iter().enumerate() {
            let operands = [o, a, &layouts[1], a, a];
            let operands = operands.map(|l| (DType::Float32, l.clone())).to_vec();
            let shape = shape.to_vec();
            let case = Case { kernel: 2, compute: DType::Float32, shape, operands, seed: 1 };
            check(&case, false, None).unwrap_or_else(|e| panic!("{i} {j}: {e}"));
        }
    }
}

#[test]
fn half_precision_agrees_with_the_half_crate() {
    for bits in 0..=u16::MAX {
        let (h, b) = (f16::from_bits(bits), bf16::from_bits(bits));
        for (got, want) in
            [(cast::f16_to_f32(h), h.to_f32_const()), (cast::bf16_to_f32(b), b.to_f32_const())]
        {
            assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{bits:x}");
        }
    }
    // Every upper half with lower halves around ties, and a walk through the rest.
    let lower = [0, 1, 0xfff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xefff, 0xf000, 0xffff];
    let near = (0..=u16::MAX).flat_map(|hi| lower.map(|lo| (hi as u32) << 16 | lo));
    for bits in near.chain((0..1 << 20).map(|i: u32| i.wrapping_mul(0x9e37_79b1))) {
        let x = f32::from_bits(bits);
        let (h, b) = (cast::f16_from_f32(x), cast::bf16_from_f32(x));
        let (wh, wb) = (f16::from_f32_const(x), bf16::from_f32_const(x));
        if x.is_nan() {
            assert!(h.is_nan() && b.is_nan(), "{bits:x}");
        } else {
            assert_eq!((h.to_bits(), b.to_bits()), (wh.to_bits(), wb.to_bits()), "{bits:x}");
        }
    }
}

#[test]
fn empty_shapes_touch_nothing() {
    let strides = [0isize, 0];
    let nowhere = Operand {
        ptr: std::ptr::dangling_mut::<u64>().cast(),
        dtype: DType::Float32,
        strides: &strides,
    };
    // SAFETY: there is no index.
    unsafe {
        map(&ADD, DType::Float32, &[3, 0], &[nowhere, nowhere, nowhere]);
        map(&ADD, DType::Float64, &[0, 3], &[nowhere, nowhere, nowhere]);
        cast::copy(&[0, 0], nowhere, nowhere);
    }
}

#[test]
fn the_number_of_threads_does_not_show() {
    let shape = [700, 300];
    let strided = Layout { order: vec![1, 0], steps: vec![2, 1], ..Layout::dense(2) };
    let mut x = Array::filled(DType::Float32, &shape, &strided, |i| {
        Scalar::Float(((i * 7919) % 1009) as f64 / 997.0 - 0.3)
    });
    let mut runs = Vec::new();
    let before = threads::num_threads();
    for n in [1, 2, 3] {
        threads::set_num_threads(n).expect("a number of threads");
        let mut results = Vec::new();
        let mut out = Array::new(DType::Float32, &shape, &Layout::dense(2));
        // SAFETY: `Array` gives every index its own place, and the shapes agree.
        unsafe {
            let from = x.operand();
            map(&ADD, DType::Float32, &shape, &[out.operand(), from, from]);
            results.extend(out.values());
            for dim in [0, 1] {
                let (from, to) = (x.operand(), out.operand());
                scan(Scan::Sum, DType::Float64, &shape, dim, from, to, None);
                results.extend(out.values());
            }
            cast::copy(&shape, out.operand(), x.operand());
            results.extend(out.values());
            for reduced in [[true, false], [false, true], [true, true]] {
                let kept = [0, 1].map(|d| if reduced[d] { 1 } else { shape[d] });
                let mut out = Array::new(DType::Float32, &kept, &Layout::dense(2));
                let sum = Reduction::Sum;
                reduce(sum, DType::Float32, &shape, x.operand(), &reduced, out.operand());
                results.extend(out.values());
                variance(&shape, x.operand(), &reduced, 1.0, out.operand(), None);
                results.extend(out.values());
            }
        }
        runs.push(results);
    }
    threads::set_num_threads(before).expect("the number it was");
    assert!(runs.iter().all(|r| r.iter().zip(&runs[0]).all(|(a, b)| same(*a, *b))));
}
