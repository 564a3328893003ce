//! stand-in
#![allow(missing_docs)]
use crate::{Result, Tensor, bail};
pub fn nonzero_each(_: &Tensor) -> Result<Vec<Tensor>> {
    bail!(Unsupported, "index", "later")
}
pub fn index(_: &Tensor, _: &[Option<Tensor>]) -> Result<Tensor> {
    bail!(Unsupported, "index", "later")
}
pub fn index_put_(_: &Tensor, _: &[Option<Tensor>], _: &Tensor, _: bool) -> Result<()> {
    bail!(Unsupported, "index", "later")
}
