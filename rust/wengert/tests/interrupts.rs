//! Long loops on one thread look whether they are to stop. In a process of its own: what they ask is
//! set for good.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use wengert::graph::{Backward, Hook};
use wengert::kernels::interrupt::{Interruptible, set_check};
use wengert::kernels::threads::set_num_threads;
use wengert::ops::random::{Distribution, random};
use wengert::ops::{create, dropout, scan, view};
use wengert::{DType, Error, Kind, Result, Scalar, Tensor, graph, random as generators};

static STOP: AtomicBool = AtomicBool::new(false);

/// Calls of the work that are left in the middle, with the error that says why.
fn stopped<R>(work: impl FnOnce() -> Result<R>) -> bool {
    set_check(|| match STOP.load(Ordering::Relaxed) {
        true => Err(Error::new(Kind::Grad, "", "stop")),
        false => Ok(()),
    });
    STOP.store(true, Ordering::Relaxed);
    let found = {
        let _interruptible = Interruptible::new(true);
        catch_unwind(AssertUnwindSafe(work))
    };
    STOP.store(false, Ordering::Relaxed);
    match found {
        Ok(Ok(_)) => false,
        Ok(Err(error)) => error.to_string().contains("stop"),
        Err(payload) => payload.downcast::<Error>().is_ok_and(|e| e.to_string().contains("stop")),
    }
}

/// One test, because all parts set the same switch.
#[test]
fn long_work_is_left() -> Result<()> {
    long_loops_of_one_thread()?;
    large_graphs_while_they_are_walked()
}

fn long_loops_of_one_thread() -> Result<()> {
    set_num_threads(1)?;
    let many = 100_000_000;
    let normal = Distribution::Normal { mean: 0.0, std: 1.0 };
    let uniform = Distribution::Uniform { from: 0.0, to: 1.0 };
    for what in [normal, uniform] {
        assert!(stopped(|| random("randn", &[many], DType::Float32, what, None)), "{what:?}");
    }
    let ones = view::expand(&Tensor::full(&[1], 1.0, DType::Float32)?, &[many as i64])?;
    assert!(stopped(|| dropout::dropout(&ones, 0.5, true, false)));
    assert!(stopped(|| scan::cumsum(&ones, 0, None)));
    let [start, end, step] = [0, many as i64, 1].map(Scalar::Int);
    assert!(stopped(|| create::arange(start, end, step, Some(DType::Float16))));

    // The generator was not left locked, and goes on.
    generators::with_default(|g| g.manual_seed(0));
    let x = random("rand", &[3], DType::Float32, uniform, None)?;
    assert_eq!(x.to_vec::<f32>()?, [0.496_256_6, 0.768_221_8, 0.088_477_43]);
    Ok(())
}

fn large_graphs_while_they_are_walked() -> Result<()> {
    let x = Tensor::full(&[1], 1.0, DType::Float64)?;
    x.set_requires_grad(true)?;
    let mut y = &x * &x;
    for _ in 0..100_000 {
        y = &y + &x;
    }
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    y.register_hook(Hook::of(
        Arc::new(()),
        Arc::new(move |_: Option<&Tensor>| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(None)
        }),
    ))?;
    let options = Backward { retain_graph: true, ..Backward::default() };
    let backward = || graph::backward(std::slice::from_ref(&y), &[None], None, options);
    assert!(stopped(backward));
    assert_eq!(runs.load(Ordering::Relaxed), 0, "no rule has run");
    assert!(x.grad().is_none());
    backward()?;
    assert_eq!(x.grad().expect("a gradient").to_vec::<f64>()?, [100_002.0]);
    Ok(())
}
