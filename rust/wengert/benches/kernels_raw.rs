//! Kernels without tensors: nanoseconds per element and per call.
//!
//! `cargo bench -p wengert --bench kernels_raw [filter]`

#![allow(unsafe_code, missing_docs)]

use std::hint::black_box;
use std::time::Instant;
use wengert::dtype::DType::{self, *};
use wengert::kernels::engine::{Operand, map};
use wengert::kernels::reduce::{Reduction, reduce, reduce_with_index, variance};
use wengert::kernels::scan::{Scan, scan};
use wengert::kernels::{cast, isa};
use wengert::pointwise;

pointwise! {
    static ADD: (a, b) -> same { bool: a | b, int: a.wrapping_add(b), float: a + b }
    static RELU: (a) -> same { float: if a > 0.0 { a } else { 0.0 } }
    static LESS: (a, b) -> bool { int: a < b, float: a < b }
    static WHERE: (c: bool, a, b) -> same { any: if c { a } else { b } }
    static POLY: (a) -> same {
        float: {
            let mut y = a;
            for _ in 0..12 {
                y = y.mul_add(a, 1.0);
            }
            y
        }
    }
}

struct Buffer(Vec<u64>);

impl Buffer {
    fn new(dtype: DType, n: usize) -> Self {
        let mut b = Buffer(vec![0; (n * dtype.size()).div_ceil(8) + 8]);
        if dtype == Float32 {
            let p = b.0.as_mut_ptr().cast::<f32>();
            // SAFETY: the buffer holds `n` floats.
            (0..n).for_each(|i| unsafe { p.add(i).write((i * 37 % 101) as f32 / 50.0 - 1.0) });
        }
        b
    }
    fn at<'a>(&mut self, dtype: DType, strides: &'a [isize]) -> Operand<'a> {
        let p = self.0.as_mut_ptr().cast::<u8>();
        Operand { ptr: p.wrapping_add(p.align_offset(64)), dtype, strides }
    }
}

/// Best time per run in nanoseconds.
fn time(mut f: impl FnMut()) -> f64 {
    f();
    let start = Instant::now();
    let mut runs = 1u32;
    f();
    let one = start.elapsed().as_secs_f64().max(1e-9);
    runs = runs.max((2e-3 / one) as u32).clamp(1, 100_000);
    let mut best = f64::MAX;
    for _ in 0..15 {
        let start = Instant::now();
        for _ in 0..runs {
            f();
        }
        best = best.min(start.elapsed().as_secs_f64() / runs as f64);
    }
    best * 1e9
}

fn main() {
    let filter = std::env::args().skip(1).find(|a| !a.starts_with('-')).unwrap_or_default();
    eprintln!("{:?}", isa::isa());
    let report = |name: &str, n: usize, f: &mut dyn FnMut()| {
        if name.contains(&filter) {
            let t = time(f);
            println!("{name:40} {n:>9} {t:12.1} ns {:8.3} ns/element", t / n as f64);
        }
    };
    for n in [1usize, 16, 1000, 16 * 1024, 1 << 20] {
        let (mut o, mut a, mut b) =
            (Buffer::new(Float32, n), Buffer::new(Float32, n), Buffer::new(Float32, n));
        let (o, a, b) = (o.at(Float32, &[1]), a.at(Float32, &[1]), b.at(Float32, &[1]));
        let s = Operand { strides: &[0], ..b };
        let shape = [n];
        let go = |name: &str, k: &wengert::kernels::rows::Kernel, ops: &[Operand]| {
            // SAFETY: the buffers are as large as the shape says.
            report(name, n, &mut || unsafe { map(black_box(k), Float32, black_box(&shape), ops) });
        };
        go("add", &ADD, &[o, a, b]);
        go("add in place", &ADD, &[o, o, b]);
        go("add scalar", &ADD, &[o, a, s]);
        go("add in place scalar", &ADD, &[o, o, s]);
        go("relu", &RELU, &[o, a]);
        go("relu in place", &RELU, &[o, o]);
        go("poly", &POLY, &[o, a]);
        let mut h: Vec<Buffer> = (0..4).map(|_| Buffer::new(Float32, n)).collect();
        let h: Vec<Operand> = h.iter_mut().map(|b| b.at(Float16, &[1])).collect();
        go("add f16", &ADD, &[h[0], h[1], h[2]]);
        let h: Vec<Operand> = h.iter().map(|b| Operand { dtype: BFloat16, ..*b }).collect();
        go("add bf16", &ADD, &[h[0], h[1], h[2]]);
        let l = Operand { dtype: Bool, ..h[0] };
        go("less", &LESS, &[l, a, b]);
        go("where", &WHERE, &[o, l, a, b]);
        go("where scalar", &WHERE, &[o, l, a, s]);
        go("add i64 to f32", &ADD, &[o, a, Operand { dtype: Int64, strides: &[0], ..h[1] }]);
    }
    let (r, c) = (1024usize, 1024usize);
    let (rs, cs) = (r as isize, c as isize);
    let n = r * c;
    let mut bufs: Vec<Buffer> = (0..3).map(|_| Buffer::new(Float32, 4 * n)).collect();
    let p: Vec<Operand> = bufs.iter_mut().map(|b| b.at(Float32, &[])).collect();
    let plain = [cs, 1];
    let t = [1, rs];
    let with = |i: usize, strides| Operand { strides, ..p[i] };
    let two = |name: &str, shape: &[usize], ops: [Operand; 3]| {
        // SAFETY: the buffers are as large as the shape says.
        report(name, shape.iter().product(), &mut || unsafe { map(&ADD, Float32, shape, &ops) });
    };
    two("2d add", &[r, c], [with(0, &plain), with(1, &plain), with(2, &plain)]);
    two("2d add row", &[r, c], [with(0, &plain), with(1, &plain), with(2, &[0, 1])]);
    two("2d add column", &[r, c], [with(0, &plain), with(1, &plain), with(2, &[1, 0])]);
    two("2d add transposed", &[r, c], [with(0, &plain), with(1, &plain), with(2, &t)]);
    two("2d add all transposed", &[r, c], [with(0, &t), with(1, &t), with(2, &t)]);
    two(
        "2d add step 2",
        &[r, c / 2],
        [with(0, &[512, 1]), with(1, &[1024, 2]), with(2, &[1024, 2])],
    );
    two("2d add (n, 3) slice", &[n / 4, 3], [with(0, &[3, 1]), with(1, &[4, 1]), with(2, &[4, 1])]);
    two(
        "2d add (n, 3) column",
        &[n / 4, 3],
        [with(0, &[3, 1]), with(1, &[3, 1]), with(2, &[1, 0])],
    );
    let mv = |name: &str, shape: &[usize], d: Operand, s: Operand| {
        // SAFETY: the buffers are as large as the shape says.
        report(name, shape.iter().product(), &mut || unsafe { cast::copy(shape, d, s) });
    };
    mv("copy", &[r, c], with(0, &plain), with(1, &plain));
    mv("copy transposed", &[r, c], with(0, &plain), with(1, &t));
    let (x, y) =
        (Operand { dtype: Float64, ..with(0, &plain) }, Operand { dtype: Float64, ..with(1, &t) });
    mv("copy transposed f64", &[r, c], x, y);
    let (x, y) =
        (Operand { dtype: UInt8, ..with(0, &plain) }, Operand { dtype: UInt8, ..with(1, &t) });
    mv("copy transposed u8", &[r, c], x, y);
    let x = Operand { dtype: Float64, ..with(0, &plain) };
    mv("copy f32 to f64", &[r, c], x, with(1, &plain));
    mv("copy f32 to i64", &[r, c], Operand { dtype: Int64, ..x }, with(1, &plain));
    mv("copy f32 to f16", &[r, c], Operand { dtype: Float16, ..x }, with(1, &plain));
    mv("copy f16 to f32", &[r, c], with(0, &plain), Operand { dtype: Float16, ..with(1, &plain) });
    reductions(&report);
    // SAFETY: the buffers are as large as the shape says.
    report("fill", n, &mut || unsafe { cast::fill(&[r, c], with(0, &plain), 1.0.into()) });
}

/// Times a function under a name and prints time per element.
type Report<'a> = &'a dyn Fn(&str, usize, &mut dyn FnMut());

/// 8192 x 1000 floats, each reduction over each axis and over both.
fn reductions(report: Report) {
    let shape = [8192usize, 1000];
    let n = shape[0] * shape[1];
    let (mut x, mut out) = (Buffer::new(Float32, n), Buffer::new(Float64, shape[0]));
    let mut index = Buffer::new(Int64, shape[0]);
    let x = x.at(Float32, &[1000, 1]);
    let axes: [(&str, [bool; 2], [isize; 2]); 3] =
        [("0", [true, false], [0, 1]), ("1", [false, true], [1, 0]), ("all", [true, true], [0, 0])];
    for (name, reduced, strides) in &axes {
        let o = out.at(Float32, strides);
        let i = index.at(Int64, strides);
        for (kind, label) in
            [(Reduction::Sum, "sum"), (Reduction::Max, "max"), (Reduction::ArgMax, "argmax")]
        {
            let o = if kind == Reduction::ArgMax { i } else { o };
            // SAFETY: the buffers are as large as the shape says.
            report(&format!("reduce {label} {name}"), n, &mut || unsafe {
                reduce(kind, Float32, &shape, x, reduced, o)
            });
        }
        // SAFETY: as above.
        report(&format!("reduce max with index {name}"), n, &mut || unsafe {
            reduce_with_index(true, Float32, &shape, x, reduced, Some(o), i)
        });
        // SAFETY: as above.
        report(&format!("reduce var {name}"), n, &mut || unsafe {
            variance(&shape, x, reduced, 1.0, o, None)
        });
    }
    let mut y = Buffer::new(Float32, n);
    let y = y.at(Float32, x.strides);
    for dim in [0, 1] {
        // SAFETY: as above.
        report(&format!("scan cumsum {dim}"), n, &mut || unsafe {
            scan(Scan::Sum, Float64, &shape, dim, x, y, None)
        });
    }
    let t = Operand { strides: &[1, 8192], ..x };
    let o = out.at(Float32, &[0, 0]);
    // SAFETY: as above.
    report("reduce sum all, transposed", n, &mut || unsafe {
        reduce(Reduction::Sum, Float32, &shape, t, &[true, true], o)
    });
    for k in [3usize, 10] {
        let (shape, strides) = ([n / 10, k], [k as isize, 1]);
        let x = Operand { strides: &strides, ..x };
        let mut out = Buffer::new(Float32, n / 10);
        let o = out.at(Float32, &[1, 1]);
        // SAFETY: as above.
        report(&format!("reduce sum (n, {k}) 1"), n / 10 * k, &mut || unsafe {
            reduce(Reduction::Sum, Float32, &shape, x, &[false, true], o)
        });
        // SAFETY: as above.
        report(&format!("reduce sum (n, {k}) 0"), n / 10 * k, &mut || unsafe {
            reduce(Reduction::Sum, Float32, &shape, x, &[true, false], o)
        });
    }
    // SAFETY: as above.
    report("reduce sum of 10", 10, &mut || unsafe {
        reduce(Reduction::Sum, Float32, &[10], Operand { strides: &[1], ..x }, &[true], o)
    });
}
