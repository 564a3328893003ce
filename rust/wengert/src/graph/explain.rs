//! Errors of autograd that teach: what happened, where it began, and what to do.
//!
//! Each text starts with the sentence that PyTorch raises, because that is what users search for.
//! Then come the facts: operation, shapes, and the lines of *both* places that do not fit
//! together, such as the operation that saved a tensor and the write that spoilt it. Last comes
//! one fix. Lines of the program are left out where they are not known.
//!
//! Looking up a line runs code of the embedding language: nothing here may be called with a lock
//! of the graph held.

use super::node::{Edge, Node, Origin};
use super::site::Site;
use crate::layout::ShapeText;
use crate::tensor::{Severed, Tensor};
use crate::{DType, Error, Kind};
use std::fmt::Write;

/// A message that grows line by line.
pub struct Story(String);

impl Story {
    /// Begins with a sentence that users may search for.
    #[cold]
    pub fn new(sentence: impl Into<String>) -> Story {
        Story(sentence.into())
    }

    /// Adds a line.
    pub fn line(mut self, text: &str) -> Story {
        self.0.push_str("\n  ");
        self.0.push_str(text);
        self
    }

    /// Adds a line that ends in a place, if that is known.
    pub fn at(mut self, what: &str, site: Site) -> Story {
        if let Some(place) = site.place() {
            // Writing to a string does not fail.
            let _ = write!(self.0, "\n  {what} at {place}");
        }
        self
    }

    /// Ends with what to do.
    pub fn fix(self, text: &str) -> Story {
        let mut story = self.line("Fix: ");
        story.0.push_str(text);
        story
    }

    /// Adds what made a tensor, its shape, and where.
    pub fn maker_of(self, tensor: &Tensor) -> Story {
        let shape = ShapeText(tensor.shape());
        match tensor.edge_if_any() {
            Some(e) if e.node.op().leaf().is_none() => {
                let name = operation(e.node.name());
                let site = e.node.site();
                match site.place() {
                    Some(_) => {
                        self.at(&format!("It has shape {shape} and was made by {name}"), site)
                    }
                    None => self.line(&format!("It has shape {shape} and was made by {name}.")),
                }
            }
            _ => self.line(&format!("It is a leaf of shape {shape}.")),
        }
    }

    /// The text so far.
    pub fn text(self) -> String {
        self.0
    }

    /// The error.
    pub fn error(self, kind: Kind) -> Error {
        Error::plain(kind, self.0)
    }
}

/// The operation's name as PyTorch's messages have it: `Exp` for `ExpBackward0`.
pub fn operation(node: &str) -> &str {
    let stem = node.trim_end_matches(|c: char| c.is_ascii_digit());
    stem.strip_suffix("Backward").filter(|s| !s.is_empty()).unwrap_or(node)
}

/// A tensor that `node` saved was written to.
#[cold]
pub(super) fn stale(node: &Node, saved: &Tensor, version: u32, origin: Origin) -> Error {
    let which = |k, node: &Node| format!(", which is output {k} of {},", operation(node.name()));
    let maker = match origin {
        Origin::Output(k) => which(u32::from(k), node),
        _ => saved
            .edge_if_any()
            .filter(|e| e.node.op().leaf().is_none())
            .map_or(String::new(), |e| which(e.output, &e.node)),
    };
    let now = saved.storage().version();
    let writes = match now.wrapping_sub(version) {
        1 => "It was overwritten".to_owned(),
        n => format!("It was overwritten {n} times, last"),
    };
    let name = operation(node.name());
    let story = Story::new(format!(
        "one of the variables needed for gradient computation has been modified by an inplace \
         operation: [torch.{}Tensor {:?}]{maker} is at version {now}; expected version {version} \
         instead.",
        saved.dtype().scalar_type_name(),
        saved.shape(),
    ))
    .at(&format!("{name} needs the old value for its gradient. It ran"), node.site())
    .at(&writes, saved.storage().written());
    let elsewhere = crate::exports::was_written_elsewhere(saved.storage())
        || (saved.storage().written() == Site::UNKNOWN && node.site() != Site::UNKNOWN);
    let story = match elsewhere {
        true => story.line("A NumPy array over its memory was written to."),
        false => story,
    };
    story.fix(&format!(
        "write to a new tensor (y = y + 1 instead of y += 1), or give {name} a clone() of this one."
    ))
    .error(Kind::Version)
}

/// What `node` saved is gone, since a pass at `first`.
#[cold]
pub(super) fn freed(node: &Node, first: Site) -> Error {
    Story::new(FREED)
        .at("The graph was freed by the backward", first)
        .at(&format!("{}, part of it, ran", operation(node.name())), node.site())
        .fix(
            "pass retain_graph=True to the first backward, or add the losses and call backward \
             once. What a loop carries into its next round should be detach()ed.",
        )
        .error(Kind::Grad)
}

/// PyTorch's sentence about a graph that was freed.
pub(super) const FREED: &str = "Trying to backward through the graph a second time (or directly access saved tensors after \
     they have already been freed). Saved intermediate values of the graph are freed when you \
     call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward \
     through the graph a second time or if you need to access saved tensors after calling \
     backward.";

/// `op` would write to a leaf that requires grad.
#[cold]
pub(super) fn leaf_written(target: &Tensor, op: &'static str) -> Error {
    Story::new("a leaf Variable that requires grad is being used in an in-place operation.")
        .at(
            &format!("{} on the leaf of shape {}", named(op), ShapeText(target.shape())),
            Site::here(),
        )
        .fix("wrap it in `with no_grad():` to update a parameter, or write to a clone().")
        .error(Kind::Grad)
}

/// `op` would write to a view of a leaf that requires grad.
#[cold]
pub(super) fn leaf_view_written(target: &Tensor, base: &Tensor, op: &'static str) -> Error {
    let story = Story::new(
        "a view of a leaf Variable that requires grad is being used in an in-place operation.",
    )
    .at(
        &format!(
            "{} on a view of shape {} of the leaf of shape {}",
            named(op),
            ShapeText(target.shape()),
            ShapeText(base.shape())
        ),
        Site::here(),
    );
    let maker = target.edge_if_any();
    let story = match &maker {
        Some(e) => story.at(&format!("{} made the view", operation(e.node.name())), e.node.site()),
        None => story,
    };
    story
        .fix("wrap it in `with no_grad():` to update a parameter, or write to a clone() of the leaf.")
        .error(Kind::Grad)
}

/// The in-place form's name: rows of assignments have one of their own.
fn named(op: &'static str) -> String {
    if op.ends_with('_') { op.to_owned() } else { format!("{op}_") }
}

/// `root` has more than one element and no gradient was given.
#[cold]
pub(super) fn not_scalar(root: &Tensor) -> Error {
    Story::new("grad can be implicitly created only for scalar outputs")
        .maker_of(root)
        .fix("reduce it first, for example with .sum() or .mean(), or pass gradient=.")
        .error(Kind::Grad)
}

/// The same for the output of a node.
#[cold]
pub(super) fn edge_not_scalar(edge: &Edge, shape: &[usize]) -> Error {
    let name = operation(edge.node.name());
    Story::new("grad can be implicitly created only for scalar outputs")
        .line(&format!("This edge leads to {name}, whose result has shape {}.", ShapeText(shape)))
        .at(&format!("{name} ran"), edge.node.site())
        .fix("pass the gradient of what the edge stands for.")
        .error(Kind::Grad)
}

/// Root `index` of a pass has no history.
#[cold]
pub(super) fn no_history(root: &Tensor, index: usize) -> Error {
    let story = Story::new(format!(
        "element {index} of tensors does not require grad and does not have a grad_fn"
    ));
    let shape = ShapeText(root.shape());
    let dtype = root.dtype();
    let story = story.line(&format!("It is a tensor of shape {shape} and type {dtype}."));
    if !dtype.is_floating() {
        return story
            .fix("differentiate a floating-point tensor: whole numbers and truth values carry no gradient.")
            .error(Kind::Grad);
    }
    let story = match root.severed() {
        Some((Severed::Detached, site)) => {
            story.at("It was cut off from its graph by detach()", site)
        }
        Some((Severed::Unrecorded, site)) => story
            .at("It was computed from tensors that require grad while recording was off,", site),
        None => story.line("It is plain data, or computed from tensors that do not require grad."),
    };
    story
        .fix(
            "set requires_grad=True on what to differentiate by before computing with it; no_grad(), \
             detach(), .data, .item() and NumPy on the way end the graph.",
        )
        .error(Kind::Grad)
}

/// A tensor of this type cannot require grad; `sentence` is PyTorch's, which has several.
#[cold]
pub fn not_differentiable(dtype: DType, sentence: &str) -> Error {
    Story::new(sentence)
        .line(&format!("This one is of type {dtype}."))
        .fix("make it floating first, for example with .float() or dtype=torch.float32.")
        .error(Kind::Grad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_have_their_names_without_backward() {
        assert_eq!(operation("ExpBackward0"), "Exp");
        assert_eq!(operation("MyFunctionBackward"), "MyFunction");
        assert_eq!(operation("Backward"), "Backward");
        assert_eq!(operation("AccumulateGrad"), "AccumulateGrad");
    }
}
