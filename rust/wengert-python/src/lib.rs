//! The Python extension module `wengert._core`.

use pyo3::prelude::*;

/// The compiled half of `wengert`.
#[pymodule(gil_used = true)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))
}
