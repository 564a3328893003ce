//! Hooks from Rust: their order, what they replace, and what is left when one fails.

use std::sync::{Arc, Mutex};
use wengert::graph::{self, Backward, Edge, Hook, Point, TensorHook, task};
use wengert::{Error, Kind, Result, Tensor, ops};

fn leaf(value: f64) -> Tensor {
    let t = Tensor::from_slice(&[value], &[1]).unwrap();
    t.set_requires_grad(true).unwrap();
    t
}

fn number(t: &Tensor) -> f64 {
    t.item().unwrap().to_f64()
}

fn backward(y: &Tensor) -> Result<()> {
    let keep = Backward { retain_graph: true, ..Backward::default() };
    graph::backward(std::slice::from_ref(y), &[None], None, keep)
}

type Log = Arc<Mutex<Vec<String>>>;

fn scale(log: &Log, name: &'static str, by: f64) -> Hook<TensorHook> {
    let log = log.clone();
    Hook::new(Arc::new(move |g: Option<&Tensor>| {
        log.lock().unwrap().push(name.to_owned());
        g.map(|g| ops::mul(g, &Tensor::full(&[], by, g.dtype())?)).transpose()
    }))
}

#[test]
fn hooks_run_in_their_order_and_replace_gradients() {
    let log = Log::default();
    let x = leaf(3.0);
    let y = &x * &x;
    let node = y.grad_fn().unwrap().node;
    let (before, after, last) = (log.clone(), log.clone(), log.clone());
    node.add_post_hook(Hook::new(Arc::new(move |inputs: &[_], outputs: &[_]| {
        assert_eq!((inputs.len(), outputs.len()), (2, 1));
        after.lock().unwrap().push("post".into());
        Ok(Some(vec![inputs[0].clone(), None]))
    })));
    node.add_pre_hook(Hook::new(Arc::new(move |_: &[_]| {
        before.lock().unwrap().push("pre".into());
        Ok(None)
    })));
    y.register_hook(scale(&log, "tensor", 10.0)).unwrap();
    x.register_hook(scale(&log, "leaf", 2.0)).unwrap();
    x.register_leaf_hook(Hook::new(Arc::new(move |x: &Tensor| {
        last.lock().unwrap().push(format!("accumulated {}", number(&x.grad().unwrap())));
        Ok(())
    })))
    .unwrap();
    backward(&y).unwrap();
    assert_eq!(*log.lock().unwrap(), ["tensor", "pre", "post", "leaf", "accumulated 60"]);
}

#[test]
fn handles_remove_hooks_of_nodes_and_leaves() {
    let log = Log::default();
    let x = leaf(1.0);
    let y = &x * &x;
    let handles = [
        y.register_hook(scale(&log, "tensor", 1.0)).unwrap(),
        x.register_hook(scale(&log, "leaf", 1.0)).unwrap(),
    ];
    handles.iter().for_each(|h| h.remove());
    handles.iter().for_each(|h| h.remove());
    backward(&y).unwrap();
    assert!(log.lock().unwrap().is_empty());
}

#[test]
fn a_hook_that_fails_changes_no_gradient() {
    let (x, w) = (leaf(1.0), leaf(2.0));
    let y = &x * &w;
    let handle = x
        .register_hook(Hook::new(Arc::new(|_: Option<&Tensor>| {
            Err(Error::plain(Kind::Value, "no"))
        })))
        .unwrap();
    assert_eq!(backward(&y).unwrap_err().kind(), Kind::Value);
    assert!(x.grad().is_none() && w.grad().is_none());
    assert!(task::current_task().is_none());
    handle.remove();
    backward(&y).unwrap();
    assert_eq!([number(&x.grad().unwrap()), number(&w.grad().unwrap())], [2.0, 1.0]);
}

#[test]
fn edges_stand_for_tensors() {
    let x = leaf(3.0);
    let y = &x * &x;
    let z = &y * &y;
    let edge = |t: &Tensor| Point::Edge(t.edge().unwrap().unwrap());
    let keep = Backward { retain_graph: true, ..Backward::default() };
    let g = graph::grad_at(&[edge(&z)], &[], &[edge(&y), edge(&x)], keep).unwrap();
    let g: Vec<f64> = g.iter().flatten().map(number).collect();
    assert_eq!(g, [18.0, 108.0]);
    graph::backward_at(&[edge(&z)], &[], Some(&[edge(&x)]), keep).unwrap();
    assert_eq!(number(&x.grad().unwrap()), 108.0);
    let nowhere = Point::Edge(Edge { output: 5, ..y.grad_fn().unwrap() });
    let error = graph::grad_at(&[edge(&z)], &[], &[nowhere], keep).unwrap_err();
    assert_eq!(error.kind(), Kind::Value);
}

#[test]
fn a_pass_says_what_it_will_run_and_calls_back_at_its_end() {
    let (x, w) = (leaf(1.0), leaf(2.0));
    let y = &x * &w;
    let log = Log::default();
    let nodes: Vec<_> = [&y, &x, &w].map(|t| t.edge().unwrap().unwrap().node).into();
    let inner = log.clone();
    // Weak: a node that held itself would never die.
    let weak: Vec<_> = nodes.iter().map(|n| n.downgrade()).collect();
    y.register_hook(Hook::new(Arc::new(move |_: Option<&Tensor>| {
        for node in &weak {
            let runs = task::will_run(&node.upgrade().unwrap()).unwrap();
            inner.lock().unwrap().push(runs.to_string());
        }
        let last = inner.clone();
        let callback = move || {
            last.lock().unwrap().push("end".into());
            Ok(())
        };
        assert!(task::at_end(Box::new(callback)).is_ok());
        Ok(None)
    })))
    .unwrap();
    graph::grad(&[y], &[None], &[x], Backward::default()).unwrap();
    assert_eq!(*log.lock().unwrap(), ["true", "true", "false", "end"]);
    assert!(task::will_run(&nodes[0]).is_none());
    assert!(task::at_end(Box::new(|| Ok(()))).is_err());
}
