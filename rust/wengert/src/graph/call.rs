//! A rule called by itself, outside of any pass.

use super::accumulate::conform;
use super::arena::NodeRef;
use super::backward::{apply, meta_of};
use super::commit::{Arrival, Commit};
use super::masked::is_masked;
use super::node::Gradients;
use crate::Result;
use crate::tensor::Tensor;

impl NodeRef {
    /// Applies the rule outside of any pass: no hooks, nothing freed, gradients of all inputs. For an
    /// accumulator, adds to its leaf's `.grad`.
    ///
    /// # Errors
    /// As in a pass.
    pub fn apply(&self, gradients: &[Option<Tensor>]) -> Result<Gradients> {
        if let Some(leaf) = self.op.leaf() {
            let leaf = leaf.current();
            if let Some(gradient) = gradients.first().cloned().flatten() {
                let gradient = conform(gradient, &self.outputs()[0], self, 0)?;
                let arrivals = vec![Arrival { leaf, gradient: Some(gradient), observers: None }];
                Commit { arrivals: arrivals.into(), retained: Vec::new() }
                    .run(super::is_grad_enabled())?;
            }
            return Ok(Gradients::new());
        }
        let edges = self.edges();
        let mut found = Gradients::new();
        if gradients.iter().any(Option::is_some) {
            let context = self.unpack(None, false, edges.iter().map(Option::is_some).collect())?;
            found = apply(self, &context, gradients, is_masked())?;
        }
        found.resize(edges.len(), None);
        for (k, edge) in edges.iter().enumerate() {
            found[k] = match (found[k].take(), edge) {
                (Some(gradient), Some(edge)) => Some(conform(gradient, meta_of(edge), self, k)?),
                _ => None,
            };
        }
        Ok(found)
    }
}
