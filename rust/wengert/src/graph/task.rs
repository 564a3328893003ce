//! Running passes as the code they call may see them.
//!
//! A hook may ask which pass it was called by, whether that pass will reach a node, and for a
//! function to be called when the pass is over. What a pass will run is its [`Plan`], which is
//! fixed before the first rule; both the pass and this thread's stack of running passes hold it. A
//! pass joins that stack when it first calls code that may ask.

use super::arena::NodeRef;
use super::hooks::Host;
use crate::Result;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// The nodes that a pass found, each with its number, and which of them it will run.
#[derive(Default)]
pub(super) struct Plan {
    pub id: u32,
    /// Numbers of nodes whose scratch word another pass uses.
    pub elsewhere: HashMap<usize, u32>,
    /// By number; `None` if all will run.
    pub needed: Option<Vec<bool>>,
}

impl Plan {
    /// The scratch word of the node with this number.
    pub(super) fn stamp(&self, index: u32) -> u64 {
        (self.id as u64) << 32 | index as u64
    }

    /// The number of a node, if it has one.
    #[inline]
    pub(super) fn find(&self, node: &NodeRef) -> Option<u32> {
        let word = node.slot().scratch.load(Ordering::Relaxed);
        if word >> 32 == self.id as u64 {
            return Some(word as u32);
        }
        if self.elsewhere.is_empty() { None } else { self.elsewhere.get(&node.address()).copied() }
    }

    /// Whether anything that was asked for lies behind, or at, the node with this number.
    #[inline]
    pub(super) fn needs(&self, index: u32) -> bool {
        self.needed.as_ref().is_none_or(|needed| needed[index as usize])
    }
}

type Callback = Box<dyn FnOnce() -> Result<()>>;

/// A pass that runs on this thread.
struct Task {
    plan: Rc<Plan>,
    node: Option<NodeRef>,
    callbacks: Vec<Callback>,
    notes: Option<Host>,
}

thread_local! {
    /// Passes on this thread, each called by a hook or a rule of the one below.
    static TASKS: RefCell<Vec<Task>> = const { RefCell::new(Vec::new()) };
    static MULTITHREADING: Cell<bool> = const { Cell::new(true) };
}

/// A pass is running on this thread until this is dropped.
pub(super) struct Running(());

impl Running {
    pub(super) fn begin(plan: Rc<Plan>) -> Running {
        TASKS.with_borrow_mut(|t| {
            t.push(Task { plan, node: None, callbacks: Vec::new(), notes: None })
        });
        Running(())
    }

    /// Calls what was queued, also what that queues in turn.
    pub(super) fn finish(self) -> Result<()> {
        loop {
            let next = TASKS.with_borrow_mut(|t| {
                let queued = &mut t.last_mut()?.callbacks;
                if queued.is_empty() { None } else { Some(queued.remove(0)) }
            });
            match next {
                Some(callback) => callback()?,
                None => return Ok(()),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Dropped outside the borrow: a queued function may own anything.
        let task = TASKS.with_borrow_mut(Vec::pop);
        drop(task);
    }
}

/// Says whose hooks are running until the guard is dropped.
pub(super) struct At(Option<NodeRef>);

impl At {
    /// The innermost pass has begun.
    pub(super) fn node(node: &NodeRef) -> At {
        At(Self::swap(Some(node.clone())))
    }

    fn swap(node: Option<NodeRef>) -> Option<NodeRef> {
        TASKS.with_borrow_mut(|t| match t.last_mut() {
            Some(task) => std::mem::replace(&mut task.node, node),
            None => node,
        })
    }
}

impl Drop for At {
    fn drop(&mut self) {
        drop(Self::swap(self.0.take()));
    }
}

/// How many passes are running on this thread, each called from the one before.
pub fn depth() -> usize {
    TASKS.with_borrow(Vec::len)
}

/// The number of the innermost pass on this thread.
pub fn current_task() -> Option<u32> {
    TASKS.with_borrow(|t| Some(t.last()?.plan.id))
}

/// Whether all passes on this thread accumulate into all leaves they reach.
pub fn is_unrestricted() -> bool {
    TASKS.with_borrow(|t| t.iter().all(|task| task.plan.needed.is_none()))
}

/// The node whose hooks the innermost pass on this thread is running.
pub fn current_node() -> Option<NodeRef> {
    TASKS.with_borrow(|t| t.last()?.node.clone())
}

/// Whether the innermost pass on this thread runs this node, or has done so; `None` if there is no
/// pass.
pub fn will_run(node: &NodeRef) -> Option<bool> {
    TASKS.with_borrow(|t| {
        let plan = &t.last()?.plan;
        Some(plan.find(node).is_some_and(|index| plan.needs(index)))
    })
}

/// What the embedding language keeps with the innermost pass on this thread while that runs, made
/// when first asked for; `None` if there is no pass.
pub fn notes(make: impl FnOnce() -> Host) -> Option<Host> {
    let known = TASKS.with_borrow(|t| t.last().map(|task| task.notes.clone()))?;
    if known.is_some() {
        return known;
    }
    let made = make();
    TASKS.with_borrow_mut(|t| t.last_mut()?.notes.replace(made.clone()));
    Some(made)
}

/// Has a function called when the innermost pass on this thread has ended well, after gradients
/// were accumulated. Gives it back if there is no pass.
pub fn at_end(callback: Callback) -> Result<(), Callback> {
    TASKS.with_borrow_mut(|t| match t.last_mut() {
        Some(task) => {
            task.callbacks.push(callback);
            Ok(())
        }
        None => Err(callback),
    })
}

/// Whether backward passes of this thread may use other threads.
pub fn is_multithreading_enabled() -> bool {
    MULTITHREADING.get()
}

/// Lets backward passes of this thread use other threads or not; returns what was so before.
pub fn set_multithreading_enabled(enabled: bool) -> bool {
    MULTITHREADING.replace(enabled)
}
