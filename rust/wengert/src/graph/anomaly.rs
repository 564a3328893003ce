//! Anomaly mode: which operation a NaN, or an error of backward, comes from.
//!
//! While the mode is on, everywhere in the process:
//!
//! * Whoever embeds the engine is told of every node that is made, and by which node's rule, so that
//!   it can keep where that was (with the node's [notes](super::Node::notes), say).
//! * A rule that gives a NaN fails, if that is wished for. The error names the operation and, as the
//!   line of an operation is known without this mode too, its line.
//! * Whoever embeds the engine is told of the node at which a pass failed.
//!
//! Off, it costs a look at a global per node that is made and per node that is run. On, passes run
//! on one thread, so that what fails first is what the serial order meets first.

use super::explain::{Story, operation};
use super::mode::ValuesOnly;
use super::node::Gradients;
use super::{NodeRef, task};
use crate::ops::{compare, reduce};
use crate::tensor::Tensor;
use crate::{Kind, Result};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

const ON: u8 = 1;
const CHECK_NAN: u8 = 2;

static MODE: AtomicU8 = AtomicU8::new(CHECK_NAN);

/// Whether the mode is on.
#[inline]
pub fn is_enabled() -> bool {
    MODE.load(Ordering::Relaxed) & ON != 0
}

/// Whether, in this mode, rules that give NaN fail.
pub fn checks_nan() -> bool {
    MODE.load(Ordering::Relaxed) & CHECK_NAN != 0
}

/// Switches the mode, for all threads.
pub fn set(enabled: bool, check_nan: bool) {
    let mode = if enabled { ON } else { 0 } | if check_nan { CHECK_NAN } else { 0 };
    MODE.store(mode, Ordering::Relaxed);
}

/// Who wants to know. Both functions are called with no lock of the graph held.
pub struct Reporter {
    /// A node was made, during the rule of another one if that is given.
    pub made: fn(&NodeRef, Option<&NodeRef>),
    /// A pass failed at a node.
    pub failed: fn(&NodeRef),
}

static REPORTER: OnceLock<Reporter> = OnceLock::new();

/// Installs the reporter; the first one wins.
pub fn set_reporter(reporter: Reporter) {
    let _ = REPORTER.set(reporter);
}

/// A node was made.
#[cold]
pub(super) fn made(node: &NodeRef) {
    if let Some(reporter) = REPORTER.get() {
        (reporter.made)(node, task::current_node().as_ref());
    }
}

/// Looks at what the run of a node gave.
#[cold]
pub(super) fn examine(node: &NodeRef, ran: Result<Gradients>) -> Result<Gradients> {
    if !is_enabled() {
        return ran;
    }
    let ran = ran.and_then(|gradients| {
        if checks_nan() {
            for (k, gradient) in gradients.iter().enumerate() {
                check(node, k, gradient.as_ref())?;
            }
        }
        Ok(gradients)
    });
    if ran.is_err()
        && let Some(reporter) = REPORTER.get()
    {
        (reporter.failed)(node);
    }
    ran
}

fn check(node: &NodeRef, k: usize, gradient: Option<&Tensor>) -> Result<()> {
    let Some(gradient) = gradient else { return Ok(()) };
    let _values = ValuesOnly::new();
    let gradient = gradient.physical().as_ref().unwrap_or(gradient).detach();
    if !reduce::any(&compare::ne(&gradient, &gradient)?)? {
        return Ok(());
    }
    let name = node.name();
    Err(Story::new(format!("Function '{name}' returned nan values in its {k}th output."))
        .at(&format!("{} ran", operation(name)), node.site())
        .fix(
            "keep its input away from where the derivative is not a number (sqrt and norm at 0, 0/0, \
             inf - inf), for example with clamp() or an eps; where() does not help if the branch not \
             taken is NaN, but autograd.masked_gradients() does.",
        )
        .error(Kind::Grad))
}
