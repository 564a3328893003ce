//! The kernels against a naive twin in `f64`, against PyTorch's answers, and against themselves
//! on other layouts, instruction sets and numbers of threads.

use super::*;
use crate::kernels::isa::for_each_level;
use crate::kernels::threads::{num_threads, set_num_threads};
use proptest::prelude::*;

/// A tensor of `rows` with values between -8 and 8.
fn values<T: Element>(rows: Rows, seed: u64) -> Vec<T> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        T::from_scalar(Scalar::Float((state >> 40) as f64 / (1 << 20) as f64 - 8.0))
    };
    (0..rows.count() * rows.n).map(|_| next()).collect()
}

fn real<T: Element>(x: T) -> f64 {
    x.to_scalar().to_f64()
}

/// The elements of each row, in double precision.
fn split<T: Element>(x: &[T], rows: Rows) -> Vec<Vec<f64>> {
    let row = |r| (0..rows.n).map(|k| real(x[rows.at(r, k)])).collect();
    (0..rows.count()).map(row).collect()
}

/// The way back of [`split`].
fn join(per_row: &[Vec<f64>], rows: Rows) -> Vec<f64> {
    let mut all = vec![0.0; rows.count() * rows.n];
    for (r, row) in per_row.iter().enumerate() {
        row.iter().enumerate().for_each(|(k, &v)| all[rows.at(r, k)] = v);
    }
    all
}

fn log_sum_exp(row: &[f64]) -> f64 {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + row.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

/// The five plain kernels on `x` (and a gradient `g`), in one list.
fn all_kernels<T: Real + Element>(x: &[T], g: &[T], rows: Rows) -> [Vec<T>; 5] {
    let new = |len| vec![T::from_scalar(Scalar::Float(77.0)); len];
    let [mut y, mut ly, mut gy, mut gly] = [(); 4].map(|_| new(x.len()));
    let mut lse = new(rows.count());
    // SAFETY: all have the sizes that `rows` says.
    unsafe {
        softmax(x.as_ptr(), y.as_mut_ptr(), rows);
        log_softmax(x.as_ptr(), ly.as_mut_ptr(), rows);
        softmax_backward(g.as_ptr(), y.as_ptr(), gy.as_mut_ptr(), rows);
        log_softmax_backward(g.as_ptr(), ly.as_ptr(), gly.as_mut_ptr(), rows);
        logsumexp(x.as_ptr(), lse.as_mut_ptr(), rows);
    }
    [y, ly, gy, gly, lse]
}

fn assert_close<T: Element>(what: &str, found: &[T], wanted: &[f64], tolerance: f64) {
    assert_eq!(found.len(), wanted.len());
    for (i, (&found, &wanted)) in found.iter().zip(wanted).enumerate() {
        let found = real(found);
        let close = (found - wanted).abs() <= tolerance * wanted.abs().max(1.0);
        let same = found == wanted || (found.is_nan() && wanted.is_nan());
        assert!(close || same, "{what}[{i}]: {found} instead of {wanted}");
    }
}

fn check_against_naive<T: Real + Element>(rows: Rows, seed: u64, epsilon: f64) {
    let (x, g) = (values::<T>(rows, seed), values::<T>(rows, !seed));
    let [y, ly, gy, gly, lse] = all_kernels(&x, &g, rows);
    let (x, g) = (split(&x, rows), split(&g, rows));
    #[allow(clippy::type_complexity)]
    let each = |f: &dyn Fn(&[f64], &[f64]) -> Vec<f64>| {
        join(&x.iter().zip(&g).map(|(x, g)| f(x, g)).collect::<Vec<_>>(), rows)
    };
    let log_soft = |x: &[f64], _: &[f64]| -> Vec<f64> {
        let shift = log_sum_exp(x);
        x.iter().map(|v| v - shift).collect()
    };
    let soft = |x: &[f64]| log_soft(x, x).into_iter().map(f64::exp).collect::<Vec<_>>();
    assert_close("softmax", &y, &each(&|x, _| soft(x)), 8.0 * epsilon);
    assert_close("log_softmax", &ly, &each(&log_soft), 8.0 * epsilon);
    let soft_back = |x: &[f64], g: &[f64]| {
        let y = soft(x);
        let dot: f64 = g.iter().zip(&y).map(|(g, y)| g * y).sum();
        g.iter().zip(&y).map(|(g, y)| y * (g - dot)).collect()
    };
    assert_close("softmax_backward", &gy, &each(&soft_back), 64.0 * epsilon);
    let log_back = |x: &[f64], g: &[f64]| {
        let sum: f64 = g.iter().sum();
        g.iter().zip(soft(x)).map(|(g, y)| g - y * sum).collect()
    };
    // The sum of gradients may cancel: its error is relative to its terms.
    let terms = 8.0 * rows.n as f64;
    assert_close("log_softmax_backward", &gly, &each(&log_back), (64.0 + terms) * epsilon);
    let wanted: Vec<f64> = x.iter().map(|x| log_sum_exp(x)).collect();
    assert_close("logsumexp", &lse, &wanted, 8.0 * epsilon);
}

fn shapes() -> impl Strategy<Value = Rows> {
    let rows = |(outer, n, inner)| Rows { outer, n, inner };
    prop_oneof![
        4 => (0..4usize, 0..70usize, Just(1)).prop_map(rows),
        4 => (0..4usize, 0..70usize, 2..40usize).prop_map(rows),
        1 => (1..3usize, 0..10usize, 250..300usize).prop_map(rows),
        1 => (1..3usize, 4090..4200usize, 1..3usize).prop_map(rows),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_naive_twin(rows in shapes(), seed: u64) {
        check_against_naive::<f32>(rows, seed, f32::EPSILON as f64);
        check_against_naive::<f64>(rows, seed, f64::EPSILON);
    }

    /// Columns give the bits of the same rows stored one after the other.
    #[test]
    fn layout_does_not_show(rows in shapes(), seed: u64) {
        let (x, g) = (values::<f32>(rows, seed), values::<f32>(rows, !seed));
        let flat = Rows { outer: rows.count(), n: rows.n, inner: 1 };
        let transpose = |x: &[f32]| -> Vec<f32> {
            (0..flat.count()).flat_map(|r| (0..rows.n).map(move |k| (r, k)))
                .map(|(r, k)| x[rows.at(r, k)]).collect()
        };
        let [y, ly, gy, gly, lse] = all_kernels(&x, &g, rows);
        let flat_results = all_kernels(&transpose(&x), &transpose(&g), flat);
        let results = [transpose(&y), transpose(&ly), transpose(&gy), transpose(&gly), lse];
        prop_assert!(results == flat_results);
    }

    #[test]
    fn works_in_place(rows in shapes(), seed: u64) {
        let (x, g) = (values::<f32>(rows, seed), values::<f32>(rows, !seed));
        let [y, ly, gy, gly, _] = all_kernels(&x, &g, rows);
        let (mut a, mut b, mut c, mut d) = (x.clone(), x, g, y.clone());
        // SAFETY: all have the sizes that `rows` says; outputs are inputs.
        unsafe {
            softmax(a.as_ptr(), a.as_mut_ptr(), rows);
            log_softmax(b.as_ptr(), b.as_mut_ptr(), rows);
            log_softmax_backward(c.as_ptr(), ly.as_ptr(), c.as_mut_ptr(), rows);
            let g = values::<f32>(rows, !seed);
            softmax_backward(g.as_ptr(), d.as_ptr(), d.as_mut_ptr(), rows);
        }
        prop_assert!(a == y && b == ly && c == gly && d == gy);
    }

    #[test]
    fn instruction_set_does_not_show(rows in shapes(), seed: u64) {
        let (x, g) = (values::<f32>(rows, seed), values::<f32>(rows, !seed));
        let wanted = all_kernels(&x, &g, rows);
        for_each_level(|level| assert!(all_kernels(&x, &g, rows) == wanted, "{level:?}"));
    }
}

#[test]
fn number_of_threads_does_not_show() {
    let before = num_threads();
    for rows in [
        Rows { outer: 300, n: 1003, inner: 1 },
        Rows { outer: 3, n: 101, inner: 1000 },
        Rows { outer: 2, n: 20_001, inner: 5 },
    ] {
        let (x, g) = (values::<f32>(rows, 1), values::<f32>(rows, 2));
        set_num_threads(1).unwrap();
        let wanted = all_kernels(&x, &g, rows);
        set_num_threads(5).unwrap();
        assert!(all_kernels(&x, &g, rows) == wanted, "{rows:?}");
    }
    set_num_threads(before).unwrap();
}

/// The losses and the gradient of their sum.
fn cross_entropies(x: &[f32], of: CrossEntropy<'_, f32>, rows: Rows) -> [Vec<f32>; 2] {
    let count = rows.count();
    let (mut loss, mut max, mut log_sum) = (vec![9.0; count], vec![9.0; count], vec![9.0; count]);
    let (g, mut gx) = (vec![1.0; count], vec![9.0; x.len()]);
    // SAFETY: all have the sizes that `rows` says.
    unsafe {
        let stats = (max.as_mut_ptr(), log_sum.as_mut_ptr());
        cross_entropy(x.as_ptr(), of, loss.as_mut_ptr(), stats, rows).unwrap();
        let stats = (max.as_ptr(), log_sum.as_ptr());
        cross_entropy_backward(g.as_ptr(), x.as_ptr(), of, stats, gx.as_mut_ptr(), rows).unwrap();
    }
    [loss, gx]
}

#[test]
fn agrees_with_pytorch() {
    let cases = include_str!("../../../../../tests/golden/softmax_cases.txt");
    let list =
        |text: &str| -> Vec<f64> { text.split_whitespace().map(|v| v.parse().unwrap()).collect() };
    let singles =
        |text: &str| -> Vec<f32> { text.split_whitespace().map(|v| v.parse().unwrap()).collect() };
    let mut seen = 0;
    for case in cases.lines() {
        let fields: Vec<&str> = case.split('|').collect();
        let sizes: Vec<usize> = fields[1].split_whitespace().map(|v| v.parse().unwrap()).collect();
        let rows = Rows { outer: sizes[0], n: sizes[1], inner: sizes[2] };
        let x = singles(fields[2]);
        // PyTorch's exponential in softmax is good for about 20 bits.
        let tolerance = 2e-6;
        match fields[0] {
            "softmax" => {
                let [y, ly, _, _, lse] = all_kernels(&x, &x, rows);
                assert_close(case, &y, &list(fields[3]), tolerance);
                assert_close(case, &ly, &list(fields[4]), tolerance);
                assert_close(case, &lse, &list(fields[5]), tolerance);
            }
            "cross_entropy" => {
                let targets: Vec<i64> =
                    fields[3].split_whitespace().map(|v| v.parse().unwrap()).collect();
                let weight = (fields[4] != "-").then(|| singles(fields[4]));
                let of = CrossEntropy {
                    targets: &targets,
                    weight: weight.as_deref(),
                    ignore_index: fields[5].parse().unwrap(),
                    label_smoothing: fields[6].parse().unwrap(),
                };
                let [loss, gradient] = cross_entropies(&x, of, rows);
                assert_close(case, &loss, &list(fields[7]), tolerance);
                assert_close(case, &gradient, &list(fields[8]), tolerance);
            }
            other => panic!("unknown case {other}"),
        }
        seen += 1;
    }
    assert!(seen > 40);
}

#[test]
fn ignored_rows_have_no_gradient_whatever_they_hold() {
    let rows = Rows { outer: 2, n: 3, inner: 1 };
    let x = [f32::NAN, f32::INFINITY, 1.0, 0.0, 0.0, 0.0];
    let of = CrossEntropy { targets: &[7, 1], weight: None, ignore_index: 7, label_smoothing: 0.0 };
    let [loss, gradient] = cross_entropies(&x, of, rows);
    assert_eq!(loss[0], 0.0);
    assert_eq!(gradient[..3], [0.0; 3]);
    assert!(gradient[4] < 0.0);
}

#[test]
fn bad_targets_are_errors_and_nothing_is_written() {
    let rows = Rows { outer: 3, n: 3, inner: 1 };
    let x = [0.0f32; 9];
    let mut out = [5.0f32; 9];
    let mut call = |targets: &[i64], weight: Option<&[f32]>| {
        let of = CrossEntropy { targets, weight, ignore_index: -100, label_smoothing: 0.0 };
        let (loss, rest) = out.split_at_mut(3);
        let stats = (rest.as_mut_ptr(), rest.as_mut_ptr().wrapping_add(3));
        // SAFETY: three rows and three places for each statistic.
        let result = unsafe { cross_entropy(x.as_ptr(), of, loss.as_mut_ptr(), stats, rows) };
        (result.unwrap_err().to_string(), out == [5.0; 9])
    };
    for (targets, bad) in
        [([0, 7, 9], 7), ([-1, 0, 0], -1), ([0, 3, 0], 3), ([0, 1, i64::MIN], i64::MIN)]
    {
        let text = format!("Target {bad} is out of bounds: there are 3 classes.");
        assert_eq!(call(&targets, None), (text, true));
    }
    assert_eq!(call(&[0, 1], None), ("cross_entropy: 2 targets for 3 rows".into(), true));
    let text = "cross_entropy: 1 weights for 3 classes".into();
    assert_eq!(call(&[0, 1, 2], Some(&[1.0])), (text, true));
}
