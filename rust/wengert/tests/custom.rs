//! Functions with a user's derivative, and hooks for saved tensors, without Python.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use wengert::graph::custom::{self, Call, Recorded};
use wengert::graph::saved::{
    Packed, SavedTensorHooks, pop_saved_tensor_hooks, push_saved_tensor_hooks,
};
use wengert::graph::{self, Backward, Context, Gradients, Op, ValuesOnly, live_nodes, watch};
use wengert::{Result, Tensor};

/// Every gradient times a number.
struct Times(f64);

impl Op for Times {
    fn name(&self) -> &str {
        "TimesBackward"
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        Ok(grads.iter().take(1).map(|g| g.as_ref().map(|g| g * self.0)).collect())
    }

    fn fetches_saved(&self) -> bool {
        true
    }
}

fn leaf(values: &[f64]) -> Tensor {
    let x = Tensor::from_slice(values, &[values.len()]).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

/// Runs `forward` as one operation on `x` whose derivative is `factor`.
fn apply(
    x: &Tensor,
    factor: f64,
    dirty: &[Tensor],
    forward: impl Fn(&Tensor) -> Tensor,
) -> Result<Recorded> {
    let inputs = [x.clone()];
    let edges = custom::edges(&inputs)?;
    let returned = {
        let _values = ValuesOnly::new();
        [Some(forward(x))]
    };
    let recording = edges.map(|edges| (edges, Box::new(Times(factor)) as Box<dyn Op>));
    let call = Call {
        inputs: &inputs,
        returned: &returned,
        dirty,
        non_differentiable: &[],
        saved: &[Some(x.clone()), None, returned[0].clone()],
        saved_late: &[],
    };
    custom::finish(&call, recording, |_| ())
}

fn output(recorded: &Recorded) -> Tensor {
    recorded.outputs[0].clone().unwrap()
}

fn gradient(y: &Tensor, x: &Tensor) -> Vec<f64> {
    let ones = Tensor::full(y.shape(), 1.0, y.dtype()).unwrap();
    let (y, x) = (std::slice::from_ref(y), std::slice::from_ref(x));
    let found = graph::grad(y, &[Some(ones)], x, Backward::default());
    found.unwrap()[0].as_ref().unwrap().to_vec().unwrap()
}

#[test]
fn the_derivative_is_the_users() {
    let before = live_nodes();
    {
        let x = leaf(&[1.0, 2.0]);
        let y = output(&apply(&x, 7.0, &[], |x| x * 2.0).unwrap());
        assert_eq!(y.grad_fn().unwrap().node.name(), "TimesBackward");
        assert_eq!(gradient(&y, &x), [7.0, 7.0]);
    }
    assert_eq!(live_nodes(), before);
}

#[test]
fn saved_tensors_are_fetched_with_their_history_until_they_are_freed() {
    let x = leaf(&[1.0, 2.0]);
    let recorded = apply(&x, 2.0, &[], |x| x * 2.0).unwrap();
    let node = recorded.node.clone().unwrap();
    assert_eq!(node.saved_count(), 3);
    assert!(node.saved_tensor(0).unwrap().unwrap().same(&x));
    assert!(node.saved_tensor(1).unwrap().is_none());
    let saved = node.saved_tensor(2).unwrap().unwrap();
    assert!(saved.grad_fn().unwrap().node == node);
    gradient(&output(&recorded), &x);
    assert!(node.saved_tensor(0).is_err());
}

#[test]
fn an_input_returned_as_it_is_becomes_a_view() {
    let x = leaf(&[1.0]);
    let y = output(&apply(&x, 3.0, &[], Tensor::clone).unwrap());
    assert!(!y.same(&x) && y.base().unwrap().same(&x));
    assert!(x.is_leaf() && !y.is_leaf());
    assert_eq!(gradient(&y, &x), [3.0]);
}

#[test]
fn an_input_written_to_takes_over_the_history() {
    let x = leaf(&[1.0, 2.0]);
    let y = &x * 1.0;
    let dirty = [y.clone()];
    let written = |y: &Tensor| {
        y.copy_from(&(y * 2.0)).unwrap();
        y.clone()
    };
    let z = output(&apply(&y, 2.0, &dirty, written).unwrap());
    assert!(z.same(&y));
    assert_eq!(gradient(&y, &x), [2.0, 2.0]);
    let error = apply(&x, 2.0, std::slice::from_ref(&x), Tensor::clone).err().unwrap();
    assert!(error.to_string().contains("a leaf Variable that requires grad"), "{error}");
    let error = apply(&y, 2.0, &dirty, |y| y * 2.0).err().unwrap();
    assert!(error.to_string().contains("were not returned as output"), "{error}");
}

/// Hooks that count, and keep ten times the tensor.
#[derive(Default)]
struct Tenfold {
    packed: AtomicUsize,
    unpacked: Arc<AtomicUsize>,
}

struct Ten(Tensor, Arc<AtomicUsize>);

impl SavedTensorHooks for Tenfold {
    fn pack(&self, tensor: &Tensor) -> Result<Arc<dyn Packed>> {
        assert!(!graph::is_grad_enabled());
        self.packed.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Ten(tensor * 10.0, self.unpacked.clone())))
    }
}

impl Packed for Ten {
    fn unpack(&self) -> Result<Tensor> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(&self.0 / 10.0)
    }

    fn host(&self) -> Option<&(dyn Any + Send + Sync)> {
        Some(&self.1)
    }
}

#[test]
fn hooks_store_what_operations_save() {
    let before = live_nodes();
    {
        let hooks = Arc::new(Tenfold::default());
        let x = leaf(&[1.0, 2.0]);
        push_saved_tensor_hooks(hooks.clone()).unwrap();
        let y = &x * &x;
        assert!(pop_saved_tensor_hooks());
        assert!(!pop_saved_tensor_hooks());
        assert_eq!(hooks.packed.load(Ordering::Relaxed), 2);
        let mut hosts = 0;
        y.grad_fn().unwrap().node.hosts(|_| hosts += 1);
        assert_eq!(hosts, 2);
        assert_eq!(gradient(&y, &x), [2.0, 4.0]);
        assert_eq!(hooks.unpacked.load(Ordering::Relaxed), 2);
        let z = &x * &x;
        assert_eq!(gradient(&z, &x), [2.0, 4.0]);
        assert_eq!(hooks.packed.load(Ordering::Relaxed), 2, "they are not active any more");
    }
    assert_eq!(live_nodes(), before);
}

#[test]
fn hooks_can_be_forbidden() {
    use wengert::graph::saved::disable_saved_tensor_hooks;
    disable_saved_tensor_hooks(Some("no".into())).unwrap();
    let refused = push_saved_tensor_hooks(Arc::new(Tenfold::default()));
    assert_eq!(refused.unwrap_err().to_string(), "no");
    disable_saved_tensor_hooks(None).unwrap();
    push_saved_tensor_hooks(Arc::new(Tenfold::default())).unwrap();
    assert!(disable_saved_tensor_hooks(Some("no".into())).is_err());
    pop_saved_tensor_hooks();
}

#[test]
fn a_watcher_sees_a_tensor_before_it_is_written_to() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let watcher: watch::WriteWatcher = Arc::new(move |t: &Tensor| {
        assert_eq!(t.to_vec::<f64>()?, [1.0]);
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    let x = Tensor::from_slice(&[1.0f64], &[1]).unwrap();
    let two = Tensor::from_slice(&[2.0f64], &[1]).unwrap();
    watch::set_write_watcher(Some(watcher));
    x.copy_from(&two).unwrap();
    watch::set_write_watcher(None);
    x.copy_from(&two).unwrap();
    assert_eq!(seen.load(Ordering::Relaxed), 1);
}
