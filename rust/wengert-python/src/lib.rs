//! The Python extension module `wengert._core`.
//!
//! | module | what it does |
//! |---|---|
//! | [`tensor`] | the class `Tensor`: protocols, attributes, by topic |
//! | [`bind`] | the operation table as functions and methods |
//! | [`args`] | Python arguments to a row's values |
//! | [`index`], [`data`], [`numpy`] | `x[...]`; numbers and lists; arrays and buffers |
//! | [`exchange`] | small questions as functions; DLPack |
//! | [`resize`] | other sizes or other memory in place |
//! | [`autograd`], [`deep`], [`anomaly`] | backward passes; such within such; where their errors come from |
//! | [`node`], [`hooks`], [`task`] | nodes as objects; Python functions as hooks; running passes |
//! | [`function`], [`saved`] | functions with a user's derivative; hooks for saved tensors |
//! | [`grad_mode`], [`inference`], [`block`], [`forward`] | what is recorded; inference mode; blocks of both; levels of forward mode |
//! | [`vmap`] | batched tensors, function transforms |
//! | [`random`], [`settings`] | generators; threads, printing, default type, memory |
//! | [`kinds`] | what tensors are not |
//! | [`types`], [`error`], [`teach`] | dtype, device, Size; exceptions; what they say |
//! | [`site`], [`observe`] | where the user's code is; what runs, for the profiler |
//! | [`object`], [`cell`] | how tensor objects are made and freed; their mutable slots |
//! | [`slots`] | infix operators and the destructor, called by CPython directly |
//! | [`held`], [`garbage`] | objects that the engine owns; what the collector sees |
#![deny(unsafe_code)]
// Module documentation explains how a module works, which its private items do.
#![allow(rustdoc::private_intra_doc_links)]

mod anomaly;
mod args;
mod autograd;
mod bind;
mod block;
mod cell;
mod data;
mod deep;
mod error;
mod exchange;
mod forward;
mod function;
mod garbage;
mod grad_mode;
mod held;
mod hooks;
mod index;
mod inference;
mod kinds;
mod masked;
mod node;
mod numpy;
mod object;
mod observe;
mod random;
mod resize;
mod saved;
mod settings;
mod site;
mod slots;
mod subclass;
mod task;
mod teach;
mod tensor;
mod types;
mod vmap;

use pyo3::prelude::*;
use pyo3::types::PyList;

/// The compiled half of `wengert`.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    error::install(m)?;
    site::install(m)?;
    m.add_class::<tensor::PyTensor>()?;
    object::install(py)?;
    slots::install(py)?;
    kinds::install(py)?;
    garbage::install(m)?;
    types::install(m)?;
    m.add_class::<random::PyGenerator>()?;
    m.add_class::<node::PyNode>()?;
    task::install(m)?;
    block::install(m)?;
    grad_mode::install(m)?;
    function::install(m)?;
    saved::install(m)?;
    inference::install(m)?;
    subclass::install(m)?;
    masked::install(m)?;
    anomaly::install(m)?;
    exchange::install(m)?;
    forward::install(m)?;
    bind::install(m)?;
    m.add_function(wrap_pyfunction!(bind::operations, m)?)?;
    m.add_function(wrap_pyfunction!(data::tensor, m)?)?;
    m.add_function(wrap_pyfunction!(data::as_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(data::_rebuild_tensor, m)?)?;
    m.add_function(wrap_pyfunction!(numpy::from_numpy, m)?)?;
    m.add_function(wrap_pyfunction!(numpy::set_check_numpy, m)?)?;
    m.add_function(wrap_pyfunction!(numpy::frombuffer, m)?)?;
    m.add_function(wrap_pyfunction!(autograd::backward, m)?)?;
    m.add_function(wrap_pyfunction!(autograd::grad, m)?)?;
    m.add_function(wrap_pyfunction!(autograd::is_grad_enabled, m)?)?;
    m.add_function(wrap_pyfunction!(autograd::_set_grad_enabled, m)?)?;
    m.add("default_generator", random::default_generator())?;
    m.add_function(wrap_pyfunction!(random::manual_seed, m)?)?;
    m.add_function(wrap_pyfunction!(random::seed, m)?)?;
    m.add_function(wrap_pyfunction!(random::initial_seed, m)?)?;
    m.add_function(wrap_pyfunction!(random::get_rng_state, m)?)?;
    m.add_function(wrap_pyfunction!(random::set_rng_state, m)?)?;
    observe::install(m)?;
    settings::install(m)?;
    vmap::install(m)?;
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    for (name, value) in [
        ("inf", f64::INFINITY),
        ("nan", f64::NAN),
        ("pi", std::f64::consts::PI),
        ("e", std::f64::consts::E),
    ] {
        m.add(name, value)?;
    }
    wengert::graph::backward::set_interrupt_check(|| {
        Python::attach(|py| py.check_signals()).map_err(error::from_py)
    });
    wengert::graph::backward::set_unlocked(|work| Python::attach(|py| site::detached(py, work)));
    // Everything public is exported, except what the package gives another home.
    let elsewhere = [
        "backward",
        "grad",
        "operations",
        "live_nodes",
        "Node",
        "SavedTensor",
        "record_function",
        "set_check_numpy",
        "masked_gradients",
        "set_masked_gradients",
        "is_masked_gradients_enabled",
    ];
    let all = PyList::empty(py);
    for name in m.dict().keys() {
        let name: String = name.extract()?;
        if !name.starts_with('_') && !elsewhere.contains(&name.as_str()) {
            all.append(name)?;
        }
    }
    m.add("__all__", all)
}
