//! Gradients of batched tensors, and of many cotangents at once.
//!
//! Examples are independent, so one pass over the physical graph gives every example its own
//! gradient, provided that outputs and inputs have their examples in the same levels. A level that
//! outputs have and inputs do not is looped over: for one example at a time the cotangents of all
//! others are zero.
//!
//! Levels that only the cotangents have, as rows of a Jacobian do, stay *on the pass*: what flows
//! through the physical graph are batched tensors, rules are run once on them, and their algebra is
//! turned to the examples where it meets them ([`lift`](super::lift)). What is saved has no examples
//! and is not repeated. A rule that cannot be run so (a kernel that knows nothing of batches, a
//! function of a user's that looks at values) is run for one example at a time
//! ([`rule`](super::each::rule)), and the pass goes on with all of them. Hooks on the way see
//! batched tensors.

use super::{Levels, levels_of, size_of_level, spread};
use crate::graph::{self, Backward, Point};
use crate::layout::Dims;
use crate::ops::part::{Take, embed, index_view};
use crate::ops::{join, view};
use crate::tensor::Tensor;
use crate::{DType, Result, bail};
use smallvec::SmallVec;

/// [`graph::grad`] of tensors that may be batched.
///
/// # Errors
/// As those of [`graph::grad`]; a tensor has escaped from a level that has ended.
pub fn grad(
    outputs: &[Tensor],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Tensor],
    options: Backward,
) -> Result<Vec<Option<Tensor>>> {
    let points = |ts: &[Tensor]| ts.iter().cloned().map(Point::Tensor).collect::<Vec<_>>();
    grad_at(&points(outputs), grad_outputs, &points(inputs), options)
}

/// [`grad`] between tensors or edges.
///
/// # Errors
/// As those of [`grad`].
pub fn grad_at(
    outputs: &[Point],
    grad_outputs: &[Option<Tensor>],
    inputs: &[Point],
    options: Backward,
) -> Result<Vec<Option<Tensor>>> {
    let mut roots = Vec::with_capacity(outputs.len());
    for (j, output) in outputs.iter().enumerate() {
        let (physical, levels) = parts(output)?;
        roots.push(Root {
            physical,
            levels,
            cotangent: cotangent(j, output, grad_outputs.get(j))?,
        });
    }
    let wanted = inputs.iter().map(parts).collect::<Result<_>>()?;
    Search { wanted }.run(&roots, &Levels::new(), options)
}

/// A point of the physical graph, and the levels of its first axes.
fn parts(point: &Point) -> Result<(Point, Levels)> {
    match point {
        Point::Tensor(t) => {
            let physical = t.physical().unwrap_or_else(|| t.clone());
            Ok((Point::Tensor(physical), levels_of(t, "grad")?))
        }
        Point::Edge(_) => Ok((point.clone(), Levels::new())),
    }
}

/// The shape of a gradient at a point.
pub fn shape_at(point: &Point) -> Dims {
    match point {
        Point::Tensor(t) => t.shape().into(),
        Point::Edge(e) => e.node.outputs()[e.output as usize].shape(),
    }
}

fn dtype_at(point: &Point) -> DType {
    match point {
        Point::Tensor(t) => t.dtype(),
        Point::Edge(e) => e.node.outputs()[e.output as usize].dtype(),
    }
}

/// The given cotangent, or 1 for a single number.
fn cotangent(j: usize, output: &Point, given: Option<&Option<Tensor>>) -> Result<Tensor> {
    let shape = shape_at(output);
    match given {
        Some(Some(g)) if *g.shape() == shape[..] => Ok(g.clone()),
        Some(Some(g)) => bail!(
            Shape,
            "",
            "Mismatch in shape: grad_output[{j}] has a shape of torch.Size({:?}) and output[{j}] has a \
             shape of torch.Size({:?}).",
            g.shape(),
            &shape[..]
        ),
        _ if shape.iter().product::<usize>() == 1 => Tensor::full(&shape, 1.0, dtype_at(output)),
        _ => bail!(
            Grad,
            "",
            "grad can be implicitly created only for scalar outputs; this one has shape {}",
            crate::layout::ShapeText(&shape)
        ),
    }
}

/// An output with its cotangent.
#[derive(Clone)]
struct Root {
    physical: Point,
    levels: Levels,
    cotangent: Tensor,
}

impl Root {
    /// The cotangent for the physical graph: batched in the levels that the graph does not know.
    fn seed(&self) -> Result<Tensor> {
        let levels = levels_of(&self.cotangent, "grad")?;
        let extra: Levels = levels.iter().copied().filter(|id| !self.levels.contains(id)).collect();
        if extra.is_empty() {
            return spread(&self.cotangent, &self.levels);
        }
        let all = union(&levels, &self.levels);
        let whole = spread(&self.cotangent, &all)?;
        Tensor::example_of(&in_order(&whole, &all, extra.iter().chain(&self.levels))?, &extra)
    }
}

/// Levels of both lists, the outermost first.
fn union(a: &[u32], b: &[u32]) -> Levels {
    let mut all: Levels = a.iter().chain(b).copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// A physical tensor with its first axes, those of the levels `from`, in another order.
fn in_order<'a>(whole: &Tensor, from: &[u32], to: impl Iterator<Item = &'a u32>) -> Result<Tensor> {
    let place = |id: &u32| from.iter().position(|f| f == id).unwrap_or_default() as i64;
    let mut order: SmallVec<[i64; 5]> = to.map(place).collect();
    if order.is_sorted() {
        return Ok(whole.clone());
    }
    order.extend(order.len() as i64..whole.ndim() as i64);
    view::permute(whole, &order)
}

/// A gradient on the physical graph, at a tensor whose first axes are those of `levels`.
fn wrapped(g: &Tensor, levels: &[u32]) -> Result<Tensor> {
    let Some((physical, extra)) = g.parts() else { return Tensor::example_of(g, levels) };
    let from: Levels = extra.iter().chain(levels).copied().collect();
    let all = union(&extra, levels);
    Tensor::example_of(&in_order(&physical, &from, all.iter())?, &all)
}

struct Search {
    wanted: Vec<(Point, Levels)>,
}

impl Search {
    /// A level in which not all have examples that should, except those dealt with.
    fn uneven(&self, roots: &[Root], done: &[u32]) -> Result<Option<u32>> {
        for root in roots {
            for &id in root.levels.iter().filter(|id| !done.contains(id)) {
                if self.wanted.iter().any(|(_, levels)| !levels.contains(&id)) {
                    return Ok(Some(id));
                }
            }
        }
        Ok(None)
    }

    fn run(&self, roots: &[Root], done: &[u32], options: Backward) -> Result<Vec<Option<Tensor>>> {
        if let Some(level) = self.uneven(roots, done)? {
            return self.one_by_one(roots, done, level, options);
        }
        let mut outputs = Vec::with_capacity(roots.len());
        let mut seeds = Vec::with_capacity(roots.len());
        for root in roots {
            outputs.push(root.physical.clone());
            seeds.push(Some(root.seed()?));
        }
        let inputs: Vec<Point> = self.wanted.iter().map(|(t, _)| t.clone()).collect();
        let found = graph::grad_at(&outputs, &seeds, &inputs, options)?;
        let wrap = |(g, (_, levels)): (Option<Tensor>, &(Point, Levels))| {
            g.map(|g| wrapped(&g, levels)).transpose()
        };
        found.into_iter().zip(&self.wanted).map(wrap).collect()
    }

    fn one_by_one(
        &self,
        roots: &[Root],
        done: &[u32],
        level: u32,
        options: Backward,
    ) -> Result<Vec<Option<Tensor>>> {
        let size = size_of_level(level)?;
        let mut inner = Levels::from_slice(done);
        inner.push(level);
        let mut all: Vec<Vec<Option<Tensor>>> = vec![Vec::with_capacity(size); self.wanted.len()];
        for i in 0..size {
            let mut here = roots.to_vec();
            for root in &mut here {
                root.cotangent = if root.levels.contains(&level) {
                    only(root, level, i)?
                } else {
                    example(&root.cotangent, level, i)?
                };
            }
            let last = i + 1 == size;
            let options = Backward { retain_graph: options.retain_graph || !last, ..options };
            for (of, g) in all.iter_mut().zip(self.run(&here, &inner, options)?) {
                of.push(g.map(|g| example(&g, level, i)).transpose()?);
            }
        }
        let stacked = |(parts, (input, levels)): (Vec<Option<Tensor>>, &(Point, Levels))| {
            self.stack(parts, input, levels, level)
        };
        all.into_iter().zip(&self.wanted).map(stacked).collect()
    }

    /// Gradients of single examples as those of a level; `None` if there is none at all.
    fn stack(
        &self,
        parts: Vec<Option<Tensor>>,
        input: &Point,
        levels: &[u32],
        level: u32,
    ) -> Result<Option<Tensor>> {
        let Some(some) = parts.iter().flatten().next().cloned() else {
            if parts.is_empty() {
                // No examples: a gradient of none.
                let mut shape = Dims::from_slice(&[0]);
                shape.extend_from_slice(&shape_at(input)[levels.len()..]);
                let none = Tensor::zeros(&shape, dtype_at(input))?;
                return super::add_axis(&none, 0, level).map(Some);
            }
            return Ok(None);
        };
        let own = levels_of(&some, "grad")?;
        let mut physicals = Vec::with_capacity(parts.len());
        for part in parts {
            physicals.push(match part {
                Some(g) => spread(&g, &own)?,
                None => crate::ops::zeros_like(&spread(&some, &own)?)?,
            });
        }
        // Behind the other levels, where an example's axes begin.
        let stack = join::stack(&physicals, own.len() as i64)?;
        super::add_axis(&Tensor::example_of(&stack, &own)?, 0, level).map(Some)
    }
}

/// One example of a level, which the result no longer has.
fn example(t: &Tensor, level: u32, i: usize) -> Result<Tensor> {
    let Some((physical, mut levels)) = t.parts() else { return Ok(t.clone()) };
    let Some(at) = levels.iter().position(|&id| id == level) else { return Ok(t.clone()) };
    levels.remove(at);
    Tensor::example_of(&view::select(&physical, at as i64, i as i64)?, &levels)
}

/// The cotangent of one example of a level among zeros.
fn only(root: &Root, level: u32, i: usize) -> Result<Tensor> {
    let whole = spread(&root.cotangent, &root.levels)?;
    let at = root.levels.iter().position(|&id| id == level).unwrap_or(0);
    let mut takes: SmallVec<[Take; 5]> = whole.shape().iter().map(|&s| Take::all(s)).collect();
    takes[at] = Take::One(i);
    let part = index_view("SelectBackward0", &whole, &takes)?;
    Tensor::example_of(&embed(&part, whole.shape(), &takes)?, &root.levels)
}
