//! Products of matrices: values against naive sums, gradients against finite differences.

mod common;

use common::{gradcheck, node, random, values};
use wengert::ops::matmul::{addmm, bmm, dot, inner, matmul, mm, mv, outer};
use wengert::ops::{Args, Output, Value, table, view};
use wengert::{DType, Kind, Result, Scalar, Tensor};

fn call(name: &str, tensors: &[&Tensor], numbers: &[f64]) -> Result<Tensor> {
    let row = table().find(|row| row.name == name).unwrap();
    let tensors = tensors.iter().map(|&t| Value::Tensor(t.clone()));
    let numbers = numbers.iter().map(|&x| Value::Number(Scalar::Float(x)));
    match row.call(&Args { overload: 0, values: tensors.chain(numbers).collect() })? {
        Output::Tensor(t) => Ok(t),
        _ => panic!("{name} gives one tensor"),
    }
}

/// `C[b, i, j] = Σ A[b, i, p] B[b, p, j]`
fn naive(a: &[f64], b: &[f64], [batch, m, k, n]: [usize; 4]) -> Vec<f64> {
    let mut c = vec![0.0; batch * m * n];
    for (at, c) in c.iter_mut().enumerate() {
        let (l, i, j) = (at / (m * n), at / n % m, at % n);
        *c = (0..k).map(|p| a[(l * m + i) * k + p] * b[(l * k + p) * n + j]).sum();
    }
    c
}

fn close(got: &Tensor, wanted: &[f64]) {
    let got = values(got);
    assert_eq!(got.len(), wanted.len());
    for (x, y) in got.iter().zip(wanted) {
        assert!((x - y).abs() < 1e-10, "{got:?} is not {wanted:?}");
    }
}

fn leaf(seed: u64, shape: &[usize]) -> Tensor {
    let x = random(seed, shape);
    x.set_requires_grad(true).unwrap();
    x
}

#[test]
fn every_combination_of_ranks_has_the_shape_the_values_and_the_node_of_pytorch() {
    type Case = (&'static [usize], &'static [usize], &'static [usize], &'static str);
    #[rustfmt::skip]
    let cases: &[Case] = &[
        (&[3], &[3], &[], "DotBackward0"),
        (&[3], &[3, 4], &[4], "SqueezeBackward4"),
        (&[2, 3], &[3], &[2], "MvBackward0"),
        (&[2, 3], &[3, 4], &[2, 4], "MmBackward0"),
        (&[5, 2, 3], &[3, 4], &[5, 2, 4], "UnsafeViewBackward0"),
        (&[5, 2, 3], &[3], &[5, 2], "UnsafeViewBackward0"),
        (&[3], &[5, 3, 4], &[5, 4], "UnsafeViewBackward0"),
        (&[2, 3], &[5, 3, 4], &[5, 2, 4], "UnsafeViewBackward0"),
        (&[5, 2, 3], &[5, 3, 4], &[5, 2, 4], "UnsafeViewBackward0"),
        (&[6, 5, 2, 3], &[5, 3, 4], &[6, 5, 2, 4], "UnsafeViewBackward0"),
        (&[6, 1, 2, 3], &[1, 5, 3, 4], &[6, 5, 2, 4], "UnsafeViewBackward0"),
        (&[5, 2, 3], &[1, 3, 4], &[5, 2, 4], "UnsafeViewBackward0"),
    ];
    for &(a_shape, b_shape, shape, name) in cases {
        let (a, b) = (leaf(1, a_shape), leaf(2, b_shape));
        let y = matmul(&a, &b).unwrap();
        assert_eq!((y.shape(), node(&y)), (shape, name));
        // Spread both operands over all batches by hand.
        let matrix = |t: &Tensor, row: bool| match t.ndim() {
            1 if row => view::unsqueeze(t, 0).unwrap(),
            1 => view::unsqueeze(t, 1).unwrap(),
            _ => t.clone(),
        };
        let (wide_a, wide_b) = (matrix(&a, true), matrix(&b, false));
        let lead = shape.len() + (a.ndim() == 1) as usize + (b.ndim() == 1) as usize - 2;
        let spread = |t: &Tensor| {
            let mut sizes: Vec<i64> = shape[..lead].iter().map(|&s| s as i64).collect();
            sizes.extend(t.shape()[t.ndim() - 2..].iter().map(|&s| s as i64));
            values(&view::expand(t, &sizes).unwrap())
        };
        let [m, k] = [wide_a.shape()[wide_a.ndim() - 2], *wide_a.shape().last().unwrap()];
        let n = *wide_b.shape().last().unwrap();
        let batch = shape[..lead].iter().product();
        close(&y, &naive(&spread(&wide_a), &spread(&wide_b), [batch, m, k, n]));
        gradcheck(&format!("{a_shape:?} @ {b_shape:?}"), |x| matmul(&x[0], &x[1]), &[a, b]);
    }
}

#[test]
fn transposed_and_sliced_operands_are_read_in_place() {
    let (a, b) = (random(3, &[7, 5]), random(4, &[6, 7]));
    let y = mm(&view::t(&a).unwrap(), &view::t(&b).unwrap()).unwrap();
    let (copy_a, copy_b) = (view::t(&a).unwrap(), view::t(&b).unwrap());
    close(&y, &naive(&values(&copy_a), &values(&copy_b), [1, 5, 7, 6]));
    let part = view::narrow(&a, 1, 1, 3).unwrap();
    close(
        &mv(&part, &random(5, &[3])).unwrap(),
        &naive(&values(&part), &values(&random(5, &[3])), [1, 7, 3, 1]),
    );
    let transposed = |x: &[Tensor]| mm(&view::t(&x[0])?, &view::t(&x[1])?);
    gradcheck("t(a) @ t(b)", transposed, &[a, b]);
}

#[test]
fn the_other_products() {
    let (a, b) = (leaf(1, &[4, 2, 3]), leaf(2, &[4, 3, 5]));
    let y = bmm(&a, &b).unwrap();
    assert_eq!(node(&y), "BmmBackward0");
    close(&y, &naive(&values(&a), &values(&b), [4, 2, 3, 5]));
    gradcheck("bmm", |x| bmm(&x[0], &x[1]), &[a, b]);

    let (u, v) = (leaf(3, &[4]), leaf(4, &[4]));
    for (name, label) in [("dot", "DotBackward0"), ("vdot", "VdotBackward0")] {
        let y = call(name, &[&u, &v], &[]).unwrap();
        assert_eq!(node(&y), label);
        close(&y, &naive(&values(&u), &values(&v), [1, 1, 4, 1]));
    }
    gradcheck("dot", |x| dot(&x[0], &x[1]), &[u, v]);
    gradcheck("outer", |x| outer(&x[0], &x[1]), &[random(1, &[3]), random(2, &[4])]);
    let y = inner(&leaf(1, &[2, 5, 3]), &leaf(2, &[4, 3])).unwrap();
    assert_eq!((y.shape(), node(&y)), (&[2, 5, 4][..], "ViewBackward0"));
    gradcheck("inner", |x| inner(&x[0], &x[1]), &[random(1, &[2, 5, 3]), random(2, &[4, 3])]);
}

#[test]
fn sums_with_products() {
    let naive_sum = |i: f64, p: f64| 0.5 * i - 2.0 * p;
    for bias in [&[4][..], &[2, 4], &[2, 1], &[]] {
        let (i, a, b) = (leaf(1, bias), leaf(2, &[2, 3]), leaf(3, &[3, 4]));
        let y = call("addmm", &[&i, &a, &b], &[0.5, -2.0]).unwrap();
        assert_eq!(node(&y), "AddmmBackward0");
        let spread = values(&view::expand(&i, &[2, 4]).unwrap());
        let product = naive(&values(&a), &values(&b), [1, 2, 3, 4]);
        let wanted: Vec<f64> = spread.iter().zip(product).map(|(&i, p)| naive_sum(i, p)).collect();
        close(&y, &wanted);
        gradcheck("addmm", |x| addmm(&x[0], &x[1], &x[2], 0.5, -2.0), &[i, a, b]);
    }
    let nan = Tensor::full(&[2, 4], f64::NAN, DType::Float64).unwrap();
    let y = addmm(&nan, &random(2, &[2, 3]), &random(3, &[3, 4]), 0.0, 1.0).unwrap();
    assert!(values(&y).iter().all(|x| x.is_finite()), "with beta 0 the input is not read");

    let xs = [random(1, &[2]), random(2, &[2, 3]), random(3, &[3])];
    gradcheck("addmv", |x| call("addmv", &[&x[0], &x[1], &x[2]], &[0.5, -2.0]), &xs);
    let xs = [random(1, &[1, 4]), random(2, &[5, 2, 3]), random(3, &[5, 3, 4])];
    gradcheck("baddbmm", |x| call("baddbmm", &[&x[0], &x[1], &x[2]], &[0.5, -2.0]), &xs);
}

#[test]
fn given_destinations() {
    let (a, b) = (random(1, &[3, 3]), random(2, &[3, 3]));
    let wanted = values(&mm(&a, &b).unwrap());
    let matmul_row = table().find(|row| row.name == "matmul").unwrap();
    let args = |x: &Tensor, y: &Tensor| Args {
        overload: 0,
        values: [x, y].into_iter().map(|t| Value::Tensor(t.clone())).collect(),
    };
    // Into other memory, into transposed memory, and over an operand.
    let out = Tensor::zeros(&[3, 3], DType::Float64).unwrap();
    matmul_row.call_out(&args(&a, &b), &out).unwrap();
    assert_eq!(values(&out), wanted);
    let turned = view::t(&out).unwrap();
    matmul_row.call_out(&args(&a, &b), &turned).unwrap();
    assert_eq!(values(&turned), wanted);
    matmul_row.call_out(&args(&a, &b), &a).unwrap();
    assert_eq!(values(&a), wanted);
    let single = Tensor::zeros(&[3, 3], DType::Float32).unwrap();
    let e = matmul_row.call_out(&args(&b, &b), &single).unwrap_err();
    assert!(e.to_string().contains("Expected out tensor to have dtype double, but got float"));
    let addmm_row = table().find(|row| row.name == "addmm").unwrap();
    let mut given = args(&b, &b);
    given.values.insert(0, Value::Tensor(out.clone()));
    given.values.extend([1.0, 1.0].map(|x| Value::Number(Scalar::Float(x))));
    let wanted = values(&addmm(&out, &b, &b, 1.0, 1.0).unwrap());
    addmm_row.call_inplace(&mut given).unwrap();
    assert_eq!(values(&out), wanted);
}

#[test]
fn empty_sizes_and_other_types() {
    let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype).unwrap();
    let f = DType::Float32;
    assert_eq!(mm(&zeros(&[0, 3], f), &zeros(&[3, 4], f)).unwrap().shape(), [0, 4]);
    let empty = mm(&Tensor::zeros(&[2, 0], f).unwrap(), &zeros(&[0, 2], f)).unwrap();
    assert_eq!(values(&empty), [0.0; 4]);
    assert_eq!(values(&dot(&zeros(&[0], f), &zeros(&[0], f)).unwrap()), [0.0]);
    let empty = matmul(&zeros(&[0, 2, 3], f), &zeros(&[3, 4], f)).unwrap();
    assert_eq!(empty.shape(), [0, 2, 4]);
    for dtype in [DType::UInt8, DType::Int64, DType::Float16, DType::BFloat16] {
        let a = Tensor::full(&[2, 3], 2.0, dtype).unwrap();
        let b = Tensor::full(&[3, 2], 3.0, dtype).unwrap();
        let y = mm(&a, &b).unwrap();
        assert_eq!((y.dtype(), values(&y)), (dtype, vec![18.0; 4]));
    }
}

#[test]
fn errors_say_what_pytorch_says() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::Float32).unwrap();
    let d = |shape: &[usize]| Tensor::zeros(shape, DType::Float64).unwrap();
    let expect = |result: Result<Tensor>, kind: Kind, text: &str| {
        let e = result.unwrap_err();
        assert_eq!(e.kind(), kind, "{e}");
        assert!(e.to_string().contains(text), "{e}");
    };
    use Kind::{DType as Type, Shape};
    let text = "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)";
    expect(matmul(&t(&[2, 3]), &t(&[4, 5])), Shape, text);
    let text = "mat1 and mat2 shapes cannot be multiplied (12x3 and 4x5)";
    expect(matmul(&t(&[6, 2, 3]), &t(&[4, 5])), Shape, text);
    let text = "size mismatch, got input (2), mat (2x3), vec (4)";
    expect(matmul(&t(&[2, 3]), &t(&[4])), Shape, text);
    let text = "inconsistent tensor size, expected tensor [3] and src [4]";
    expect(matmul(&t(&[3]), &t(&[4])), Shape, text);
    let text = "batch2 tensor to be: [6, 3] but got: [6, 4].";
    expect(matmul(&t(&[6, 2, 3]), &t(&[6, 4, 5])), Shape, text);
    let text = "The size of tensor a (6) must match the size of tensor b (7)";
    expect(matmul(&t(&[6, 2, 3]), &t(&[7, 3, 5])), Shape, text);
    let text = "both arguments to matmul need to be at least 1D, but they are 0D and 1D";
    expect(matmul(&t(&[]), &t(&[3])), Shape, text);
    let text = "expected m1 and m2 to have the same dtype, but got: float != double";
    expect(matmul(&t(&[2, 3]), &d(&[3, 4])), Type, text);
    let text = "expected both vectors to have same dtype, but found Float and Double";
    expect(matmul(&t(&[3]), &d(&[3])), Type, text);
    let text = "expected scalar type Float but found Double";
    expect(matmul(&t(&[1, 2, 3]), &d(&[1, 3, 4])), Type, text);
    let text = "self and mat2 must have the same dtype, but got Double and Float";
    expect(addmm(&d(&[4]), &t(&[2, 3]), &t(&[3, 4]), 1.0, 1.0), Type, text);
    let text = "The expanded size of the tensor (4) must match the existing size (7)";
    expect(addmm(&t(&[7]), &t(&[2, 3]), &t(&[3, 4]), 1.0, 1.0), Shape, text);
    expect(mv(&t(&[3]), &t(&[3])), Shape, "vector + matrix @ vector expected, got 1, 1, 1");
    expect(dot(&t(&[2, 3]), &t(&[3])), Shape, "1D tensors expected, but got 2D and 1D");
    expect(bmm(&t(&[2, 3]), &t(&[3])), Shape, "batch1 must be a 3D tensor");
    expect(outer(&t(&[2, 3]), &t(&[3])), Shape, "outer: Expected 1-D argument self, but got 2-D");
    expect(inner(&t(&[2, 3]), &t(&[4])), Shape, "but got shapes [2, 3] and [4]");
    let flags = Tensor::zeros(&[2, 2], DType::Bool).unwrap();
    expect(mm(&flags, &flags), Kind::Unsupported, "not implemented for 'Bool'");
}
