use super::*;
use proptest::prelude::*;

const SIZES: [usize; 11] = [0, 1, 2, 3, 5, 15, 16, 17, 33, 64, 100];

struct Random(u64);

impl Random {
    fn matrix<T: Real>(&mut self, rows: usize, cols: usize) -> Vec<T> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            T::narrow((self.0 >> 11) as f64 / (1u64 << 53) as f64 - 0.5)
        };
        (0..rows * cols).map(|_| next()).collect()
    }
}

/// `a @ b` by the book, in double precision; `tb` transposes `b`.
fn product<T: Real>(a: &[T], b: &[T], [m, k, n]: [usize; 3], tb: bool) -> Vec<f64> {
    let at = |p: usize, j: usize| if tb { b[j * k + p] } else { b[p * n + j] };
    let sum = |i: usize, j: usize| (0..k).map(|p| a[i * k + p].wide() * at(p, j).wide()).sum();
    (0..m * n).map(|ij| sum(ij / n, ij % n)).collect()
}

fn close<T: Real>(actual: &[T], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(actual.len(), expected.len(), "{what}");
    for (x, y) in actual.iter().zip(expected) {
        assert!((x.wide() - y).abs() <= tolerance, "{what}: {} is not {y}", x.wide());
    }
}

fn is_orthogonal<T: Real>(q: &[T], [m, n]: [usize; 2], tolerance: f64) {
    for i in 0..n {
        for j in 0..n {
            let dot: f64 = (0..m).map(|r| q[r * n + i].wide() * q[r * n + j].wide()).sum();
            assert!((dot - (i == j) as u8 as f64).abs() <= tolerance, "column {i} and {j}: {dot}");
        }
    }
}

fn solves<T: Real>(tolerance: f64) {
    for n in SIZES {
        for m in [1, 2, 19] {
            let mut random = Random(n as u64);
            let a: Vec<T> = random.matrix(n, n);
            let x: Vec<T> = random.matrix(n, m);
            for transposed in [false, true] {
                let mut at = a.clone();
                if transposed {
                    (0..n * n).for_each(|ij| at[ij] = a[ij % n * n + ij / n]);
                }
                let mut b: Vec<T> =
                    product(&at, &x, [n, n, m], false).into_iter().map(T::narrow).collect();
                let (mut factors, mut pivots) = (a.clone(), vec![0; n]);
                assert_eq!(lu(&mut factors, n, &mut pivots), 0);
                solve_lu(&factors, &pivots, &mut b, m, transposed);
                let expected: Vec<f64> = x.iter().map(|v| v.wide()).collect();
                close(&b, &expected, tolerance * (n + 1) as f64, &format!("n = {n}, m = {m}"));
            }
        }
    }
}

#[test]
fn lu_solves() {
    solves::<f64>(1e-11);
    solves::<f32>(2e-3);
}

#[test]
fn lu_names_the_first_zero_on_the_diagonal() {
    for (n, zero) in [(3, 1), (40, 23), (40, 0)] {
        let mut a = vec![0.0; n * n];
        (0..n).for_each(|i| a[i * n + i] = if i == zero { 0.0 } else { 1.0 });
        assert_eq!(lu(&mut a, n, &mut vec![0; n]), zero as i32 + 1);
    }
}

#[test]
fn cholesky_gives_a_root_or_the_first_minor_that_is_not_positive() {
    for n in SIZES {
        let b: Vec<f64> = Random(3).matrix(n, n);
        let mut a = product(&b, &b, [n, n, n], true);
        (0..n).for_each(|i| a[i * n + i] += 1.0);
        let mut l = a.clone();
        assert_eq!(cholesky(&mut l, n), 0);
        (0..n * n).filter(|ij| ij % n > ij / n).for_each(|ij| l[ij] = 0.0);
        close(&product(&l, &l, [n, n, n], true), &a, 1e-12 * (n + 1) as f64, "L Lᵀ");
        if n > 1 {
            a[(n - 1) * n + n - 1] = -1.0;
            assert_eq!(cholesky(&mut a, n), n as i32);
        }
    }
    assert_eq!(cholesky(&mut [f64::NAN], 1), 1);
}

#[test]
fn triangles_are_solved_in_all_four_ways() {
    for n in SIZES {
        let mut a: Vec<f64> = Random(5).matrix(n, n);
        (0..n).for_each(|i| a[i * n + i] += n as f64);
        let x: Vec<f64> = Random(6).matrix(n, 3);
        for code in 0..8 {
            let which =
                Triangle { upper: code & 1 > 0, unit: code & 2 > 0, transposed: code & 4 > 0 };
            let mut t = a.clone();
            for (ij, x) in t.iter_mut().enumerate() {
                let (i, j) = (ij / n, ij % n);
                if if which.upper { j < i } else { j > i } {
                    *x = 0.0;
                } else if i == j && which.unit {
                    *x = 1.0;
                } else if which.unit {
                    *x /= n as f64;
                }
            }
            let given: Vec<f64> =
                (0..n * n).map(|ij| if which.unit { a[ij] / n as f64 } else { a[ij] }).collect();
            let of = if which.transposed {
                (0..n * n).map(|ij| t[ij % n * n + ij / n]).collect()
            } else {
                t
            };
            let mut b = product(&of, &x, [n, n, 3], false);
            solve_triangular(&given, n, &mut b, 3, which);
            close(&b, &x, 1e-10, &format!("{n} {which:?}"));
        }
    }
}

fn factors<T: Real>(tolerance: f64) {
    for [m, n] in [[0, 0], [3, 0], [0, 3], [1, 1], [5, 3], [3, 5], [40, 40], [70, 33], [33, 70]] {
        let a: Vec<T> = Random(9).matrix(m, n);
        let wide: Vec<f64> = a.iter().map(|x| x.wide()).collect();
        for mode in [QrMode::Reduced, QrMode::Complete] {
            let k = if mode == QrMode::Complete { m } else { m.min(n) };
            let (mut q, mut r) = (vec![T::ONE; m * k], vec![T::ONE; k * n]);
            qr(&mut a.clone(), [m, n], mode, &mut q, &mut r);
            close(&product(&q, &r, [m, k, n], false), &wide, tolerance, "Q R");
            is_orthogonal(&q, [m, k], tolerance);
            assert!((0..k * n).all(|ij| ij % n >= ij / n || r[ij] == T::ZERO));
        }
        let k = m.min(n);
        let (mut q, mut r, mut r1) =
            (vec![T::ZERO; m * k], vec![T::ZERO; k * n], vec![T::ZERO; k * n]);
        qr(&mut a.clone(), [m, n], QrMode::Reduced, &mut q, &mut r);
        qr(&mut a.clone(), [m, n], QrMode::R, &mut [], &mut r1);
        assert!(r == r1);
    }
}

#[test]
fn qr_factors() {
    factors::<f64>(1e-13);
    factors::<f32>(1e-5);
}

#[test]
fn eigenvectors_diagonalise() {
    for n in SIZES {
        for kind in 0..4 {
            let b: Vec<f64> = Random(2).matrix(n, n);
            let mut a = product(&b, &b, [n, n, n], true);
            match kind {
                1 => a.fill(0.0),
                2 => a.fill(1.0),
                3 => (0..n * n).for_each(|ij| a[ij] = (ij / n == ij % n) as u8 as f64),
                _ => {}
            }
            let (mut q, mut d) = (a.clone(), vec![0.0; n]);
            assert!(symmetric_eigen(&mut q, n, false, true, &mut d));
            assert!(d.is_sorted());
            is_orthogonal(&q, [n, n], 1e-12);
            let scaled: Vec<f64> = (0..n * n).map(|ij| q[ij] * d[ij % n]).collect();
            close(&product(&scaled, &q, [n, n, n], true), &a, 1e-11, &format!("{n}, kind {kind}"));
            let (mut again, mut upper) = (a.clone(), vec![0.0; n]);
            assert!(symmetric_eigen(&mut again, n, true, false, &mut upper));
            close(&upper, &d, 1e-12, "values alone");
        }
    }
}

#[test]
fn singular_vectors_diagonalise() {
    for [m, n] in [[0, 0], [3, 0], [1, 1], [5, 3], [17, 17], [64, 64], [90, 40], [100, 100]] {
        for kind in 0..5 {
            let mut a: Vec<f64> = Random(4).matrix(m, n);
            match kind {
                1 => a.fill(0.0),
                2 => a.fill(1.0),
                // Of rank one less, with a zero in the middle of the diagonal.
                3 => (0..m * n).filter(|ij| ij % n == n / 2).for_each(|ij| a[ij] = 0.0),
                4 => (0..m * n).filter(|ij| ij % n != ij / n + 1).for_each(|ij| a[ij] = 0.0),
                _ => {}
            }
            for columns in [n, m] {
                let (mut u, mut s, mut vt) =
                    (vec![0.0; m * columns], vec![0.0; n], vec![0.0; n * n]);
                assert!(svd(&a, [m, n], &mut u, &mut s, &mut vt));
                assert!(s.iter().rev().is_sorted() && s.iter().all(|x| *x >= 0.0));
                is_orthogonal(&u, [m, columns], 1e-12);
                is_orthogonal(&vt, [n, n], 1e-12);
                let scaled: Vec<f64> =
                    (0..m * n).map(|ij| u[ij / n * columns + ij % n] * s[ij % n]).collect();
                close(
                    &product(&scaled, &vt, [m, n, n], false),
                    &a,
                    1e-11,
                    &format!("{m}, {n}, {kind}"),
                );
                let mut alone = vec![0.0; n];
                assert!(svd(&a, [m, n], &mut [], &mut alone, &mut []));
                close(&alone, &s, 1e-12, "values alone");
            }
        }
    }
}

proptest! {
    #[test]
    fn iterations_end_whatever_they_are_given(
        values in proptest::collection::vec(any::<f64>(), 16),
        zeros in any::<u16>(),
    ) {
        let mut a = values;
        (0..16).filter(|i| zeros >> i & 1 > 0).for_each(|i| a[i] = 0.0);
        let finite = a.iter().all(|x| x.is_finite());
        let (mut u, mut s, mut vt) = (vec![0.0; 16], vec![0.0; 4], vec![0.0; 16]);
        prop_assert_eq!(svd(&a, [4, 4], &mut u, &mut s, &mut vt), finite);
        prop_assert!(symmetric_eigen(&mut a, 4, false, true, &mut s));
    }
}
