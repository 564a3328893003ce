//! Text: what `print` and f-strings show.
//!
//! The engine lays out numbers as PyTorch does, see `wengert::format`; here it is told what stands
//! around them: the class's name, the node that made the tensor, its tangent.

use super::{PyTensor, scalar_object};
use crate::error::OrRaise;
use crate::{subclass, vmap};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;
use wengert::format::{self, Source, Suffixes};
use wengert::graph::forward;
use wengert::{DType, Scalar, Tensor};

/// A tensor as the printer sees it.
struct Printed(Tensor);

impl Source for Printed {
    fn dtype(&self) -> DType {
        self.0.dtype()
    }
    fn shape(&self) -> &[usize] {
        self.0.shape()
    }
    fn at(&self, index: &[usize]) -> Scalar {
        self.0.at(index)
    }
}

/// A tensor as text, inside it that of its tangent, if it has one.
fn text_of(t: Tensor, prefix: &str) -> PyResult<String> {
    let history = t.history();
    let grad_fn = match &history {
        Ok(edge) => edge.as_ref().map(|e| e.node.name()),
        Err(_) => Some("Invalid"),
    };
    let tangent = forward::innermost(&t).or_raise()?;
    let tangent = tangent.map(|t| text_of(t, "tensor(")).transpose()?;
    let suffixes = Suffixes {
        prefix,
        grad_fn,
        requires_grad: t.requires_grad(),
        tangent: tangent.as_deref(),
        ..Suffixes::default()
    };
    Ok(format::tensor(&Printed(t), &suffixes, &format::printoptions()))
}

#[pymethods]
impl PyTensor {
    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let t = slf.get().tensor();
        match vmap::repr(&t) {
            Some(text) => Ok(text),
            None => text_of(t, &subclass::prefix(slf)?),
        }
    }
    fn __format__<'py>(
        slf: &Bound<'py, Self>,
        spec: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let t = slf.get().tensor();
        if t.ndim() == 0 {
            return scalar_object(slf.py(), t.item().or_raise()?)?
                .call_method1("__format__", (spec,));
        }
        if spec.len()? > 0 {
            return Err(PyTypeError::new_err(
                "unsupported format string passed to Tensor.__format__",
            ));
        }
        Ok(slf.str()?.into_any())
    }
}
