//! What tensors are not: sparse, quantised, on a device. Programs ask, and get one answer, which is the
//! class's.

use crate::tensor::PyTensor;
use pyo3::prelude::*;

/// Questions whose answer is no.
const NOT: [&str; 13] = [
    "is_ipu",
    "is_meta",
    "is_mkldnn",
    "is_mps",
    "is_mtia",
    "is_nested",
    "is_quantized",
    "is_sparse",
    "is_sparse_csr",
    "is_vulkan",
    "is_xla",
    "is_xpu",
    "is_maia",
];

/// Gives the class its answers.
pub fn install(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<PyTensor>();
    NOT.iter().try_for_each(|name| class.setattr(*name, false))
}
