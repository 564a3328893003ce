//! The Wengert list: what was computed, so that it can be walked backwards.
//!
//! Each recorded operation leaves one [`Node`]. A node knows its rule (the [`Op`]), what the rule
//! saved, and one [`Edge`] per input: which node made that input, and as which of its outputs.
//! A tensor that was computed holds a handle to the node that made it; the node holds handles to
//! the nodes of its inputs. That is the whole graph, and ownership runs one way: when the last
//! output tensor goes, its history goes.
//!
//! ```text
//!   w (leaf) ──┐                        tensors own nodes, nodes own older nodes
//!              ▼
//!   x ──▶ [MulBackward0] ◀── y ──▶ [SumBackward0] ◀── loss
//!              │ edges                   │ edges
//!              ▼                         ▼
//!        [AccumulateGrad w]        [MulBackward0]
//! ```
//!
//! Leaves that require grad end in an accumulator node, made when first needed. The leaf knows it
//! weakly, it knows the leaf strongly.
//!
//! * [`arena`]: where nodes live and how they die.
//! * [`node`]: what a node is; saved tensors and their versions.
//! * [`mode`]: whether recording is on, or inference mode.
//! * [`mod@forward`]: tangents, computed along with the values; `transpose`: from rules for backward.
//! * [`mod@record`]: from an operation's inputs and output to a node.
//! * [`site`]: where in the user's program something happened; [`explain`]: errors that say so.
//! * [`census`]: which live graphs hold how much memory.
//! * [`inplace`]: writes to tensors with history, also through views.
//! * [`mod@backward`]: the scheduler; `accumulate`: gradients on their way into tensors.
//! * [`transform`]: inputs and results of function transforms.

pub(crate) mod accumulate;
pub mod arena;
pub mod backward;
pub mod census;
mod explain;
pub mod forward;
pub mod inplace;
pub mod mode;
pub mod node;
pub mod record;
pub mod site;
pub mod transform;
mod transpose;

pub use arena::{NodeRef, SLOT_BYTES, WeakNodeRef, live_nodes};
pub use backward::{Backward, backward, grad};
pub use mode::{GradMode, ValuesOnly, is_grad_enabled, is_inference_mode, set_grad_enabled};
pub use node::{Context, Edge, Gradients, Hook, Node, Op};
pub use record::{Saves, record, record_many};
pub use site::Site;
