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
//! * [`node`]: what a node is; [`context`]: what its rule sees; [`attributes`]: what it shows.
//! * [`mode`]: whether recording is on.
//! * [`mod@forward`]: tangents, computed along with the values; `transpose`: from rules for backward.
//! * [`inference`]: inference mode; [`anomaly`]: which operation a NaN comes from; [`masked`]: no NaN
//!   from what was masked out.
//! * [`mod@record`]: from an operation's inputs and output to a node.
//! * [`saved`]: hooks that store saved tensors in their own way; [`watch`]: who wants to know of
//!   writes.
//! * [`custom`]: operations whose derivative a user wrote.
//! * [`surroundings`]: what was said to a thread, for another one that works on its behalf.
//! * [`site`]: where in the user's program something happened; [`explain`]: errors that say so.
//! * [`census`]: which live graphs hold how much memory; [`garbage`]: what only owns itself.
//! * [`inplace`]: writes to tensors with history, also through views.
//! * [`hooks`]: code that sees gradients pass; `task`: passes as that code sees them.
//! * [`mod@backward`]: the scheduler; `point`, where gradients enter it; `accumulate` and `commit`,
//!   how they get into tensors.
//! * [`transform`]: inputs and results of function transforms.

pub(crate) mod accumulate;
pub mod anomaly;
pub mod arena;
pub mod attributes;
pub mod backward;
mod call;
pub mod census;
mod commit;
pub mod context;
pub mod custom;
pub mod explain;
pub(crate) mod fork;
pub mod forward;
pub mod garbage;
pub mod hooks;
pub mod inference;
pub mod inplace;
pub mod masked;
pub mod mode;
pub mod node;
mod point;
pub mod record;
pub mod saved;
pub mod site;
pub mod surroundings;
pub mod task;
pub mod transform;
mod transpose;
pub mod watch;

pub use arena::{NodeRef, SLOT_BYTES, WeakNodeRef, live_nodes};
pub use attributes::{Attribute, Attributes};
pub use backward::{Backward, backward, backward_at, grad, grad_at};
pub use context::Context;
pub use hooks::{Hook, Host, LeafHook, PostHook, PreHook, Replaced, TensorHook};
pub use inference::is_inference_mode;
pub use mode::{GradMode, ValuesOnly, is_grad_enabled, set_grad_enabled};
pub use node::{Edge, Gradients, Node, Op};
pub use point::Point;
pub use record::{Saves, record, record_many};
pub use site::Site;
