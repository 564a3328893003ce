//! Inference mode and anomaly mode without Python.

use wengert::graph::inference::{InferenceMode, Modes, is_inference_mode};
use wengert::graph::{GradMode, anomaly, is_grad_enabled, set_grad_enabled};
use wengert::{Result, Tensor, graph, ops};

fn leaf(values: &[f64]) -> Tensor {
    let x = Tensor::from_slice(values, &[values.len()]).unwrap();
    x.set_requires_grad(true).unwrap();
    x
}

#[test]
fn memory_is_marked_and_recording_is_off() -> Result<()> {
    let x = leaf(&[1.0, 2.0]);
    let (y, view) = {
        let _on = InferenceMode::new(true);
        assert!(is_inference_mode() && !is_grad_enabled());
        (&x * &x, x.detach())
    };
    assert!(!is_inference_mode() && is_grad_enabled());
    assert!(y.is_inference() && !y.requires_grad() && y.detach().is_inference());
    assert!(!view.is_inference() && !x.is_inference());
    assert!(!ops::cast::clone(&y)?.is_inference());
    assert!(ops::mul(&x, &y).is_err(), "it cannot be saved");
    assert!((&x + &y).requires_grad());
    assert!(y.set_requires_grad(true).is_err());
    Ok(())
}

#[test]
fn what_is_said_about_recording_inside_counts_outside_not() {
    let _on = InferenceMode::new(true);
    assert!(!set_grad_enabled(true));
    assert!(!is_grad_enabled(), "asked for, but not in this mode");
    {
        let _off = InferenceMode::new(false);
        assert!(is_grad_enabled() && !is_inference_mode());
        let _silent = GradMode::new(false);
        assert!(!is_grad_enabled());
    }
    assert!(is_inference_mode());
    assert!(set_grad_enabled(false), "what was asked for has come back");
}

#[test]
fn modes_are_those_of_a_thread_and_can_be_handed_over() {
    let _on = InferenceMode::new(true);
    let modes = Modes::current();
    assert_eq!(Modes::of(modes.code()).code(), modes.code());
    std::thread::scope(|s| {
        s.spawn(move || {
            assert!(!is_inference_mode());
            let guard = modes.hold();
            assert!(is_inference_mode());
            drop(guard);
            assert!(!is_inference_mode() && is_grad_enabled());
        });
    });
}

#[test]
fn a_nan_names_its_operation() {
    let x = leaf(&[0.0]);
    anomaly::set(true, true);
    let y = ops::unary::sqrt(&x).unwrap() * 0.0;
    let error = graph::backward(&[y], &[None], None, Default::default()).unwrap_err();
    anomaly::set(false, true);
    let text = error.to_string();
    let start = "Function 'SqrtBackward0' returned nan values in its 0th output.";
    assert!(text.starts_with(start), "{text}");
    assert!(x.grad().is_none());
}
