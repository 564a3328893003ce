//! Scans against loops over lines.

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
