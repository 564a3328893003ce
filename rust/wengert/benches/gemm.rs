//! Matrix products by shape and layout: `cargo bench --bench gemm`.
//!
//! Names are `m x k x n` and the layouts of A and B, N for row-major and T for the transpose of
//! a row-major matrix: `x @ W.T` of a linear layer is NT.

use divan::Bencher;
use divan::counter::ItemsCount;
use wengert::DType;
use wengert::kernels::gemm::{MatMut, MatRef, gemm, gemm_batched};
use wengert::kernels::threads;

fn main() {
    divan::main();
}

#[derive(Clone, Copy)]
struct Shape(usize, usize, usize);

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}x{}", self.0, self.1, self.2)
    }
}

const fn cube(n: usize) -> Shape {
    Shape(n, n, n)
}

/// Call cost, squares, layers of small networks, and products that memory limits.
const SHAPES: &[Shape] = &[
    cube(1),
    cube(4),
    cube(8),
    cube(16),
    cube(64),
    cube(256),
    Shape(16, 64, 32),
    Shape(32, 784, 256),
    Shape(64, 512, 10),
    Shape(8, 1024, 1024),
    Shape(1, 512, 512),
    Shape(512, 512, 1),
    Shape(512, 1, 512),
    Shape(1, 65536, 1),
];

/// Memory of both operands and the result, all ones.
struct Operands {
    shape: Shape,
    data: [Vec<u64>; 3],
    transposed: [bool; 2],
}

impl Operands {
    fn new(shape: Shape, transposed: [bool; 2]) -> Operands {
        let Shape(m, k, n) = shape;
        // Room for the widest type; the bits are a small number in each.
        let data = [m * k, k * n, m * n].map(|len| vec![0x3c00_3c00_3c00_3c00; len]);
        Operands { shape, data, transposed }
    }

    fn views(&mut self) -> (MatRef, MatRef, MatMut) {
        let Shape(m, k, n) = self.shape;
        let [a, b, c] = &mut self.data;
        let view = |data: &[u64], rows, cols, transposed| {
            let strides = if transposed { (1, rows as isize) } else { (cols as isize, 1) };
            let (row_stride, col_stride) = strides;
            MatRef { ptr: data.as_ptr().cast(), rows, cols, row_stride, col_stride }
        };
        (
            view(a, m, k, self.transposed[0]),
            view(b, k, n, self.transposed[1]),
            MatMut {
                ptr: c.as_mut_ptr().cast(),
                rows: m,
                cols: n,
                row_stride: n as isize,
                col_stride: 1,
            },
        )
    }
}

fn run(bencher: Bencher, dtype: DType, shape: Shape, transposed: [bool; 2]) {
    let mut operands = Operands::new(shape, transposed);
    let (a, b, c) = operands.views();
    let work = 2 * shape.0 * shape.1 * shape.2;
    bencher.counter(ItemsCount::new(work)).bench_local(|| {
        // SAFETY: views of vectors long enough for any type, which live until the end.
        unsafe { gemm(dtype, 1.0, a, b, 0.0, c) }
    });
}

#[divan::bench_group(max_time = 0.2)]
mod one_thread {
    use super::*;

    fn serial(bencher: Bencher, dtype: DType, shape: Shape, transposed: [bool; 2]) {
        threads::set_num_threads(1).unwrap();
        run(bencher, dtype, shape, transposed);
    }

    #[divan::bench(args = SHAPES)]
    fn float32_nn(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::Float32, shape, [false, false]);
    }

    #[divan::bench(args = SHAPES)]
    fn float32_nt(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::Float32, shape, [false, true]);
    }

    #[divan::bench(args = SHAPES)]
    fn float32_tn(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::Float32, shape, [true, false]);
    }

    #[divan::bench(args = [cube(4), cube(64), cube(256)])]
    fn float64_nn(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::Float64, shape, [false, false]);
    }

    #[divan::bench(args = [cube(64), cube(256)])]
    fn bfloat16_nn(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::BFloat16, shape, [false, false]);
    }

    #[divan::bench(args = [cube(64), cube(256)])]
    fn int64_nn(bencher: Bencher, shape: Shape) {
        serial(bencher, DType::Int64, shape, [false, false]);
    }
}

#[divan::bench_group(max_time = 0.2)]
mod threads_1_2 {
    use super::*;

    #[divan::bench(args = [1, 2])]
    fn square_512(bencher: Bencher, n: usize) {
        threads::set_num_threads(n).unwrap();
        run(bencher, DType::Float32, cube(512), [false, true]);
    }

    #[divan::bench(args = [1, 2])]
    fn batch_of_64(bencher: Bencher, n: usize) {
        threads::set_num_threads(n).unwrap();
        let mut operands = Operands::new(Shape(64 * 64, 128, 64), [false, false]);
        let (a, b, c) = operands.views();
        let (a, c) = (MatRef { rows: 64, ..a }, MatMut { rows: 64, ..c });
        let offsets = |i: usize| [(i * 64 * 128) as isize, 0, (i * 64 * 64) as isize];
        bencher.bench_local(|| {
            // SAFETY: slices of the views, one after the other.
            unsafe { gemm_batched(DType::Float32, 64, 1.0, a, b, 0.0, c, &offsets) }
        });
    }

    /// Starting and ending a parallel loop that does nothing.
    #[divan::bench(args = [1, 2])]
    fn empty_loop(bencher: Bencher, n: usize) {
        threads::set_num_threads(n).unwrap();
        bencher.bench_local(|| {
            threads::parallel_for(8, 1, |r| {
                divan::black_box(r);
            });
        });
    }
}
