//! What the tape costs: time and bytes per recorded node.
//!
//!     cargo bench -p wengert --bench graph
//!
//! All tensors have one element, so that nothing but overhead is measured. An item is a node:
//! 10 Mitem/s are 100 ns. Two chains tell the parts apart. `add` saves nothing, so the results in
//! between die at once and nodes alone remain; `mul` saves both inputs and keeps every tensor of
//! the chain. Before the times, a table gives the bytes: of a slot in the arena, and of all that is
//! asked of the system beside it when the caches are empty.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use wengert::graph::{self, Backward, GradMode, SLOT_BYTES, live_nodes};
use wengert::{DType, Tensor, alloc, ops};

/// Counts the bytes that this thread holds.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every request goes to the system allocator unchanged; the counter needs no memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get() + layout.size() as isize);
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        // SAFETY: passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// A shape of graph.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// `y = y + x`.
    Add,
    /// `y = y * x`.
    Mul,
    /// `y = y * x + y * x`: two ways through each level, of which both must arrive.
    Diamond,
}
const FORMS: [Form; 3] = [Form::Add, Form::Mul, Form::Diamond];

fn leaf() -> Tensor {
    let x = Tensor::full(&[1], 1.0, DType::Float32).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

/// A graph of about `nodes` nodes.
fn build(form: Form, nodes: usize) -> Tensor {
    let x = leaf();
    let mut y = ops::mul(&x, &x).unwrap();
    match form {
        Form::Add => (0..nodes).for_each(|_| y = ops::add(&y, &x).unwrap()),
        Form::Mul => (0..nodes).for_each(|_| y = ops::mul(&y, &x).unwrap()),
        Form::Diamond => (0..nodes / 3).for_each(|_| {
            let (a, b) = (ops::mul(&y, &x).unwrap(), ops::mul(&y, &x).unwrap());
            y = ops::add(&a, &b).unwrap();
        }),
    }
    y
}

fn walk(root: Tensor) -> Tensor {
    graph::backward(std::slice::from_ref(&root), &[None], None, Backward::default()).unwrap();
    root
}

fn measuring() -> bool {
    std::env::args().any(|a| a == "--bench")
}

/// A form and a number of nodes.
#[derive(Clone, Copy)]
struct Case(Form, usize);

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {}", self.0, self.1)
    }
}

fn cases() -> Vec<Case> {
    let sizes: &[usize] = if measuring() { &[1_000, 10_000, 100_000, 1_000_000] } else { &[1_000] };
    FORMS.iter().flat_map(|&form| sizes.iter().map(move |&n| Case(form, n))).collect()
}

/// Graphs from nothing to recorded, walked, and let go of.
#[divan::bench_group(max_time = 0.5, skip_ext_time = true)]
mod graphs {
    use super::*;

    #[divan::bench(args = cases())]
    fn build(bencher: Bencher, case: &Case) {
        let Case(form, nodes) = *case;
        bencher.counter(ItemsCount::new(nodes)).bench_local(|| super::build(form, nodes));
    }

    #[divan::bench(args = cases())]
    fn backward(bencher: Bencher, case: &Case) {
        let Case(form, nodes) = *case;
        bencher
            .counter(ItemsCount::new(nodes))
            .with_inputs(|| super::build(form, nodes))
            .bench_local_values(walk);
    }

    #[divan::bench(args = cases())]
    fn free(bencher: Bencher, case: &Case) {
        let Case(form, nodes) = *case;
        bencher
            .counter(ItemsCount::new(nodes))
            .with_inputs(|| super::build(form, nodes))
            .bench_local_values(drop);
    }
}

/// One operation on one element, with the result let go of.
mod one_element {
    use super::*;

    #[divan::bench]
    fn mul_not_recorded(bencher: Bencher) {
        let _mode = GradMode::new(false);
        let x = leaf();
        bencher.bench_local(|| drop(ops::mul(black_box(&x), &x)));
    }

    #[divan::bench]
    fn mul_recorded(bencher: Bencher) {
        let x = leaf();
        bencher.bench_local(|| drop(ops::mul(black_box(&x), &x)));
    }

    #[divan::bench]
    fn add_recorded(bencher: Bencher) {
        let x = leaf();
        bencher.bench_local(|| drop(ops::add(black_box(&x), &x)));
    }

    #[divan::bench]
    fn detach(bencher: Bencher) {
        let x = leaf();
        bencher.bench_local(|| drop(black_box(&x).detach()));
    }

    /// A graph of one node walked, its leaf's gradient taken off.
    #[divan::bench]
    fn backward(bencher: Bencher) {
        let x = leaf();
        bencher.with_inputs(|| ops::mul(&x, &x).unwrap()).bench_local_values(|y| {
            let y = walk(y);
            x.set_grad(None);
            y
        });
    }
}

/// Bytes per node.
fn print_bytes() {
    const NODES: usize = 100_000;
    // The arena keeps its slots: from here on there are enough.
    drop(build(Form::Add, NODES));
    println!("bytes per node       slot    tensors");
    for form in FORMS {
        alloc::empty_cache();
        let (held, nodes) = (HELD.get(), live_nodes());
        let root = build(form, NODES);
        let tensors = (HELD.get() - held) / (live_nodes() - nodes) as isize;
        println!("{:<14} {SLOT_BYTES:>10} {tensors:>10}", format!("{form:?}"));
        drop(root);
    }
    println!();
}

fn main() {
    if measuring() {
        print_bytes();
    }
    divan::main();
    assert_eq!(live_nodes(), 0, "a bench leaked nodes");
}
