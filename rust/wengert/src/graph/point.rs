//! Where gradients enter a pass and where they are asked for.

use super::explain;
use super::node::Edge;
use crate::ops;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::SmallVec;

/// Where a gradient enters a pass or is asked for: at a tensor, or at an edge of the graph, which
/// outlives the tensor and stays the same when the tensor is written to.
#[derive(Clone)]
pub enum Point {
    /// The gradient of a tensor.
    Tensor(Tensor),
    /// The gradient that flows along an edge.
    Edge(Edge),
}

impl Point {
    /// The edge along which the gradient flows; `None` for a tensor that does not require grad.
    pub(super) fn edge(&self) -> Result<Option<Edge>> {
        match self {
            Point::Tensor(t) => t.edge(),
            Point::Edge(e) if (e.output as usize) < e.node.outputs().len() => Ok(Some(e.clone())),
            Point::Edge(e) => bail!(
                Value,
                "",
                "a gradient edge leads to output {} of {}, which has {}",
                e.output,
                e.node.name(),
                e.node.outputs().len()
            ),
        }
    }
}

pub(super) fn points(tensors: &[Tensor]) -> SmallVec<[Point; 2]> {
    tensors.iter().cloned().map(Point::Tensor).collect()
}

/// Where a pass begins, with the gradients there.
pub(super) type Seeds = SmallVec<[(Edge, Tensor); 1]>;

/// Checks the roots and pairs them with their gradients.
pub(super) fn seed(roots: &[Point], gradients: &[Option<Tensor>]) -> Result<Seeds> {
    let mut seeds = Seeds::new();
    for (i, root) in roots.iter().enumerate() {
        let meta;
        let (shape, dtype) = match root {
            Point::Tensor(t) => (t.shape(), t.dtype()),
            Point::Edge(_) => {
                let edge = root.edge()?.expect("an edge is its own");
                let out = &edge.node.outputs()[edge.output as usize];
                meta = out.shape();
                (&meta[..], out.dtype())
            }
        };
        let gradient = gradients.get(i).cloned().flatten();
        if let Some(g) = &gradient
            && g.shape() != shape
        {
            bail!(
                Shape,
                "",
                "Mismatch in shape: grad_output[{i}] has a shape of torch.Size({:?}) and \
                 output[{i}] has a shape of torch.Size({shape:?}).",
                g.shape(),
            );
        }
        let Some(edge) = root.edge()? else {
            let Point::Tensor(root) = root else { unreachable!("an edge is its own") };
            return Err(explain::no_history(root, i));
        };
        let gradient = match (gradient, root) {
            (Some(g), _) if g.dtype() == dtype => g,
            (Some(g), _) => ops::cast::to_dtype(&g, dtype)?,
            (None, _) if shape.iter().product::<usize>() == 1 => Tensor::full(shape, 1.0, dtype)?,
            (None, Point::Tensor(root)) => return Err(explain::not_scalar(root)),
            (None, Point::Edge(_)) => return Err(explain::edge_not_scalar(&edge, shape)),
        };
        seeds.push((edge, gradient));
    }
    Ok(seeds)
}
