//! Reductions against the definition of their tree, element by element.

use super::*;
use crate::dtype::Scalar;
use crate::kernels::arrays::{Array, Layout, cast, dtypes, indices, layouts, same, value};
use crate::kernels::isa;
use proptest::prelude::*;

/// The tree of the module's documentation, over any operation.
fn tree<T: Copy>(x: &[T], op: impl Fn(T, T) -> T) -> T {
    let mut blocks: Vec<T> = x
        .chunks(2048)
        .map(|block| {
            let mut lanes: Vec<T> = block[..block.len().min(32)].to_vec();
            for (i, &x) in block.iter().enumerate().skip(32) {
                lanes[i % 32] = op(lanes[i % 32], x);
            }
            for half in [16, 8, 4, 2, 1] {
                for j in half..lanes.len() {
                    lanes[j - half] = op(lanes[j - half], lanes[j]);
                }
                lanes.truncate(half);
            }
            lanes[0]
        })
        .collect();
    while blocks.len() > 1 {
        blocks = blocks
            .chunks(2)
            .map(|pair| if let [a, b] = pair { op(*a, *b) } else { pair[0] })
            .collect();
    }
    blocks[0]
}

/// The result of a reduction of values of type `compute`.
fn twin(kind: Reduction, compute: DType, x: &[Scalar]) -> Scalar {
    let floats = || x.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    let singles = || x.iter().map(|x| x.to_f64() as f32).collect::<Vec<_>>();
    let ints = || x.iter().map(|x| x.to_i64()).collect::<Vec<_>>();
    let nan = |x: &Scalar| matches!(x, Scalar::Float(x) if x.is_nan());
    let first = |beats: fn(f64, f64) -> bool| {
        let mut best = 0;
        for (i, v) in x.iter().enumerate() {
            let wins = match (nan(v), nan(&x[best])) {
                (a, b) if a || b => a && !b,
                _ => match (v, x[best]) {
                    // Beyond 2^53 a comparison as floats would not do.
                    (Scalar::Int(a), Scalar::Int(b)) => beats(a.cmp(&b) as i8 as f64, 0.0),
                    (a, b) => beats(a.to_f64(), b.to_f64()),
                },
            };
            if wins {
                best = i;
            }
        }
        best
    };
    let (largest, smallest) = (|| first(|a, b| a > b), || first(|a, b| a < b));
    match (kind, compute) {
        (Reduction::Sum, _) if x.is_empty() => cast(Scalar::Int(0), compute),
        (Reduction::Prod, _) if x.is_empty() => cast(Scalar::Int(1), compute),
        (Reduction::Sum, DType::Float64) => Scalar::Float(tree(&floats(), |a, b| a + b) + 0.0),
        (Reduction::Prod, DType::Float64) => Scalar::Float(tree(&floats(), |a, b| a * b)),
        (Reduction::Sum, DType::Float32) => {
            Scalar::Float((tree(&singles(), |a, b| a + b) + 0.0) as f64)
        }
        (Reduction::Prod, DType::Float32) => Scalar::Float(tree(&singles(), |a, b| a * b) as f64),
        (Reduction::Sum, _) => Scalar::Int(ints().iter().fold(0, |a, &b| a.wrapping_add(b))),
        (Reduction::Prod, _) => Scalar::Int(ints().iter().fold(1, |a, &b| a.wrapping_mul(b))),
        (Reduction::All, _) => Scalar::Bool(x.iter().all(|x| x.to_bool())),
        (Reduction::Any, _) => Scalar::Bool(x.iter().any(|x| x.to_bool())),
        (Reduction::Max, _) => x[largest()],
        (Reduction::Min, _) => x[smallest()],
        (Reduction::ArgMax, _) => Scalar::Int(largest() as i64),
        (Reduction::ArgMin, _) => Scalar::Int(smallest() as i64),
    }
}

const KINDS: [Reduction; 8] = [
    Reduction::Sum,
    Reduction::Prod,
    Reduction::Max,
    Reduction::Min,
    Reduction::All,
    Reduction::Any,
    Reduction::ArgMax,
    Reduction::ArgMin,
];

fn compute_type(kind: Reduction, dtype: DType) -> DType {
    match kind {
        Reduction::Sum | Reduction::Prod if dtype.is_integral() => DType::Int64,
        Reduction::All | Reduction::Any => DType::Bool,
        _ => dtype.compute(),
    }
}

#[derive(Clone, Debug)]
struct Case {
    kind: Reduction,
    dtype: DType,
    shape: Vec<usize>,
    reduced: Vec<bool>,
    input: Layout,
    output: Layout,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    let shapes = prop_oneof![
        6 => prop::collection::vec(0..7usize, 0..5),
        3 => prop::collection::vec(1..60usize, 1..3),
        2 => (1..3usize, 1..40usize, 20..300usize).prop_map(|(a, b, c)| vec![b, a, c]),
        1 => (2000..6000usize, 1..40usize).prop_map(|(a, b)| vec![a, b]),
        1 => (1..5usize, 2000..9000usize).prop_map(|(a, b)| vec![a, b]),
        1 => (1..3usize, 20..300usize, 100..300usize).prop_map(|(a, b, c)| vec![a, c, b]),
    ];
    let of = (prop::sample::select(KINDS.to_vec()), dtypes(), any::<u64>());
    (shapes, of).prop_flat_map(|(shape, (kind, dtype, seed))| {
        let rank = shape.len();
        let mask = prop::collection::vec(any::<bool>(), rank);
        (mask, layouts(rank, true), layouts(rank, false)).prop_map(
            move |(mut reduced, input, output)| {
                // What has no identity is not asked of nothing.
                let some = matches!(kind, Reduction::Sum | Reduction::Prod | Reduction::All);
                if !some && kind != Reduction::Any {
                    reduced.iter_mut().zip(&shape).for_each(|(r, &n)| *r &= n > 0);
                }
                let shape = shape.clone();
                Case { kind, dtype, shape, reduced, input, output, seed }
            },
        )
    })
}

/// The shape with reduced axes of length 1, and the values of each output in order.
fn groups(case: &Case, input: &Array) -> (Vec<usize>, Vec<Vec<Scalar>>) {
    let keep = |i: &[usize]| -> Vec<usize> {
        i.iter().zip(&case.reduced).map(|(&i, &r)| if r { 0 } else { i }).collect()
    };
    let kept: Vec<usize> =
        case.shape.iter().zip(&case.reduced).map(|(&n, &r)| if r { 1 } else { n }).collect();
    let mut groups = vec![Vec::new(); kept.iter().product()];
    for index in indices(&case.shape) {
        let at = keep(&index).iter().zip(&kept).fold(0, |at, (&i, &n)| at * n + i);
        groups[at].push(input.get(&index));
    }
    (kept, groups)
}

/// Tame values: sums and products of the wild ones are nearly all NaN.
fn tame(seed: u64) -> Scalar {
    match value(seed) {
        Scalar::Float(x) if x.is_finite() && x.abs() < 1e6 => Scalar::Float(x / 64.0),
        Scalar::Int(i) => Scalar::Float(i as f64 / 32.0 + 0.1),
        _ => Scalar::Float(1.5),
    }
}

fn input(case: &Case) -> Array {
    let wild = case.seed.is_multiple_of(3);
    Array::filled(case.dtype, &case.shape, &case.input, |i| {
        let seed = case.seed ^ i as u64;
        if wild { value(seed) } else { tame(seed) }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn reduce_equals_its_tree(case in cases()) {
        let mut x = input(&case);
        let (kept, groups) = groups(&case, &x);
        let compute = compute_type(case.kind, case.dtype);
        let to = match case.kind {
            Reduction::ArgMax | Reduction::ArgMin => DType::Int64,
            _ => compute,
        };
        let mut all = Vec::new();
        isa::for_each_level(|level| {
            let mut out = Array::new(to, &kept, &case.output);
            // SAFETY: `Array` gives every index its place; strides of kept axes are the output's.
            unsafe {
                reduce(case.kind, compute, &case.shape, x.operand(), &case.reduced, out.operand());
            }
            all.push((level, out.values()));
        });
        for (level, values) in all {
            for (i, (got, group)) in values.iter().zip(&groups).enumerate() {
                let group: Vec<Scalar> = group.iter().map(|&x| cast(x, compute)).collect();
                let want = twin(case.kind, compute, &group);
                // Zeros of either sign are equally extreme.
                let equal = same(*got, want) || *got == want;
                prop_assert!(equal, "{level:?} output {i}: {got:?}, expected {want:?}");
            }
        }
    }

    #[test]
    fn extrema_come_with_their_positions(mut case in cases()) {
        case.kind = Reduction::ArgMax;
        case.reduced.iter_mut().zip(&case.shape).for_each(|(r, &n)| *r &= n > 0);
        let mut x = input(&case);
        let (kept, groups) = groups(&case, &x);
        let mut values = Array::new(case.dtype, &kept, &case.output);
        let mut positions = Array::new(DType::Int64, &kept, &Layout::dense(kept.len()));
        for (largest, kind) in [(true, Reduction::ArgMax), (false, Reduction::ArgMin)] {
            // SAFETY: as above.
            unsafe {
                reduce_with_index(
                    largest,
                    case.dtype.compute(),
                    &case.shape,
                    x.operand(),
                    &case.reduced,
                    Some(values.operand()),
                    positions.operand(),
                );
            }
            for (index, group) in indices(&kept).zip(&groups) {
                let want = twin(kind, case.dtype.compute(), group);
                prop_assert_eq!(positions.get(&index), want);
                let want = group[want.to_i64() as usize];
                prop_assert!(same(values.get(&index), want));
            }
        }
    }

    #[test]
    fn variance_is_close_to_its_definition(case in cases(), correction in 0..3usize) {
        let mut x = input(&case);
        let (kept, groups) = groups(&case, &x);
        let dtype = if case.dtype.is_floating() { case.dtype } else { DType::Float64 };
        let mut var = Array::new(DType::Float64, &kept, &case.output);
        let mut mean = Array::new(dtype, &kept, &Layout::dense(kept.len()));
        // SAFETY: as above.
        unsafe {
            variance(
                &case.shape,
                x.operand(),
                &case.reduced,
                correction as f64,
                var.operand(),
                Some(mean.operand()),
            );
        }
        for (index, group) in indices(&kept).zip(&groups) {
            let n = group.len() as f64;
            let centre = group.iter().map(|x| x.to_f64()).sum::<f64>() / n;
            let squares: f64 = group.iter().map(|x| (x.to_f64() - centre).powi(2)).sum();
            let want = squares / (n - correction as f64).max(0.0);
            let got = var.get(&index).to_f64();
            let scale = group.iter().map(|x| x.to_f64().abs()).fold(0.0, f64::max);
            // The sum of this loop errs by up to `n` roundings.
            let slack = (1e-13 + 1e-15 * n) * want.abs() + 1e-26 * scale * scale * n;
            let close = (got - want).abs() <= slack || (got.is_nan() && !want.is_finite());
            let odd = group.len() <= correction && !got.is_finite();
            prop_assert!(close || odd || got == want, "{got} instead of {want}");
            let (got, want) = (mean.get(&index).to_f64(), cast(Scalar::Float(centre), dtype).to_f64());
            let close = (got - want).abs() <= 1e-2 * scale;
            prop_assert!(close || got.is_nan() || want.is_infinite(), "mean {got} of {want}");
        }
    }
}

#[test]
fn long_sums_are_accurate() {
    let n = 300_000;
    let values = |i: usize| Scalar::Float(((i * 7919) % 1000) as f64 / 1000.0);
    let mut x = Array::filled(DType::Float32, &[n], &Layout::dense(1), values);
    let mut out = Array::new(DType::Float32, &[1], &Layout::dense(1));
    // SAFETY: one output for one kept index.
    unsafe {
        reduce(Reduction::Sum, DType::Float32, &[n], x.operand(), &[true], out.operand());
    }
    let exact: f64 = x.values().iter().map(|x| x.to_f64()).sum();
    let error = (out.get(&[0]).to_f64() - exact).abs() / exact;
    assert!(error < 2e-7, "{error}");
}

#[test]
fn a_variance_of_distant_values_keeps_its_digits() {
    let n = 5000;
    let values = |i: usize| Scalar::Float(1e9 + (i % 7) as f64);
    let mut x = Array::filled(DType::Float64, &[n], &Layout::dense(1), values);
    let mut out = Array::new(DType::Float64, &[1], &Layout::dense(1));
    // SAFETY: one output for one kept index.
    unsafe { variance(&[n], x.operand(), &[true], 0.0, out.operand(), None) };
    let small: Vec<f64> = (0..n).map(|i| (i % 7) as f64).collect();
    let mean = small.iter().sum::<f64>() / n as f64;
    let want = small.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
    assert!((out.get(&[0]).to_f64() / want - 1.0).abs() < 1e-12);
}
