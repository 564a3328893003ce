//! Views: whose memory a tensor shows, and what becomes of its history when that memory is
//! written to.
//!
//! A view knows its base, which is never itself a view: the base of a view of a view is that of
//! the first. A recorded write through any of them gives the *base* a new history (see
//! [`inplace`](crate::graph::inplace)) and counts it in `rebased`. A view that is asked for its
//! history compares that number with the one it saw last; if they differ, its history becomes "the
//! part of the new base that I show". So nobody needs a list of the views of a base.
//!
//! That step is wrong for some views: those made while nothing was recorded, for whom it is
//! anybody's guess whether the write should count; and those whose node has several outputs or is
//! a user's, because the step would silently bypass it. Writing to them, or using them after a
//! write, is refused, in PyTorch's words.

use super::*;
use crate::graph::explain::{Story, operation};
use crate::graph::inplace::become_part;
use crate::graph::{GradMode, Site, is_grad_enabled, is_inference_mode};

/// How a view was made, as far as writing to it is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum ViewKind {
    /// By one operation with one result, while operations were recorded: writes can be.
    #[default]
    Recorded,
    /// By taking the place of its base (`t_()` and the like): for users it is no view.
    Turned,
    /// As one of several results (`unbind`, `split`).
    Several,
    /// While nothing was recorded.
    NoGrad,
    /// In inference mode.
    Inference,
    /// By a function with a derivative of the user's own.
    Custom,
}

impl ViewKind {
    const ALL: [ViewKind; 6] = [
        ViewKind::Recorded,
        ViewKind::Turned,
        ViewKind::Several,
        ViewKind::NoGrad,
        ViewKind::Inference,
        ViewKind::Custom,
    ];

    fn may_be_written(self) -> bool {
        matches!(self, ViewKind::Recorded | ViewKind::Turned)
    }
}

impl Tensor {
    /// A view of the same storage, remembered as such.
    #[inline]
    pub fn view_as_layout(&self, layout: Layout) -> Tensor {
        self.view_of_kind(layout, ViewKind::Recorded)
    }

    /// A view of the given kind, unless this tensor is itself a view that must not be written to,
    /// or nothing is recorded.
    pub(crate) fn view_of_kind(&self, layout: Layout, kind: ViewKind) -> Tensor {
        if self.is_batched() {
            super::batched::refuse_memory();
        }
        if self.is_inference() {
            // There is no history that a write through it could change.
            return Tensor::from_parts(self.storage().clone(), layout, self.dtype());
        }
        let inference = is_inference_mode();
        let inherited = self.made_as();
        let kind = if !inherited.may_be_written() {
            inherited
        } else if inference {
            ViewKind::Inference
        } else if !is_grad_enabled() {
            ViewKind::NoGrad
        } else {
            kind
        };
        let base = self.base().unwrap_or_else(|| self.clone());
        let view =
            Tensor::build(self.storage().clone(), layout, self.dtype(), false, Some(base), kind);
        if crate::graph::transform::may_be_active() {
            view.inherit_birth(self);
        }
        if matches!(kind, ViewKind::Inference | ViewKind::NoGrad) {
            // Not recorded, but the view still stands for a tensor that requires grad.
            view.0.requires_grad.store(self.requires_grad(), Ordering::Relaxed);
        }
        view
    }

    /// How this was made, [`ViewKind::Recorded`] for what is no view.
    #[inline]
    fn made_as(&self) -> ViewKind {
        ViewKind::ALL[self.0.view.load(Ordering::Relaxed) as usize]
    }

    /// The tensor whose memory this one views.
    #[inline]
    pub fn base(&self) -> Option<Tensor> {
        if !self.has_base() {
            return None;
        }
        self.0.autograd.lock().base.clone()
    }

    /// How this view was made; `None` for what is no view to users.
    pub fn view_kind(&self) -> Option<ViewKind> {
        if !self.has_base() || self.is_batched() {
            return None;
        }
        let kind = self.made_as();
        (kind != ViewKind::Turned && self.base().is_some()).then_some(kind)
    }

    /// Says how this view was made, for those who know better than the operation that made it.
    pub fn set_view_kind(&self, kind: ViewKind) {
        self.0.view.store(kind as u8, Ordering::Relaxed);
    }

    /// Whether this view's base became part of a graph by a write since the view was made.
    pub(super) fn joined_graph(&self) -> bool {
        if let Some(physical) = self.physical() {
            return physical.requires_grad();
        }
        let autograd = self.0.autograd.lock();
        let Some(base) = &autograd.base else { return false };
        self.is_behind(base) && base.0.autograd.lock().edge.is_some()
    }

    /// Whether the base got a new history since this view last looked.
    fn is_behind(&self, base: &Tensor) -> bool {
        base.0.rebased.load(Ordering::Acquire) != self.0.rebased.load(Ordering::Relaxed)
    }

    /// Gives a base a new history; its views notice when they are next asked for theirs.
    pub(crate) fn rebase(&self, edge: Edge) {
        self.change_edge(edge);
        self.0.rebased.fetch_add(1, Ordering::Release);
    }

    /// Makes this view a recorded part of what its base is now.
    pub(crate) fn follow_base(&self) -> Result<()> {
        let Some(base) = self.base() else { return Ok(()) };
        let rebased = base.0.rebased.load(Ordering::Acquire);
        let edge = become_part(self, &base)?;
        self.0.rebased.store(rebased, Ordering::Relaxed);
        if let Some(edge) = edge {
            self.change_edge(edge);
        }
        Ok(())
    }

    /// Brings the history of a view up to date if its base was written to through another view.
    pub(super) fn refresh(&self) -> Result<()> {
        if !self.has_base() {
            return Ok(());
        }
        let stale = self.0.autograd.lock().base.as_ref().is_some_and(|base| self.is_behind(base));
        if stale {
            self.check_view_kind("its base or another view of its base has been")?;
            let _mode = GradMode::new(true);
            self.follow_base()?;
        }
        Ok(())
    }

    /// Another history for the values of now. Whoever wanted to keep the gradient in `.grad` gets
    /// that of the new values; hooks stay with the old ones, as in PyTorch.
    fn change_edge(&self, edge: Edge) {
        let old = {
            let mut autograd = self.0.autograd.lock();
            let retains = autograd.rare.as_ref().is_some_and(|rare| rare.retains_grad);
            let old = autograd.edge.replace(edge.clone());
            self.0.requires_grad.store(true, Ordering::Relaxed);
            if retains { old } else { return drop_outside(autograd, old) }
        };
        if let Some(old) = &old {
            old.node.forget_grad(self);
        }
        edge.node.retain_grad(edge.output, self.downgrade());
    }

    /// Refuses a recorded write to a view that must not be written to.
    pub(crate) fn check_view_kind(&self, modified: &str) -> Result<()> {
        if !self.has_base() {
            return Ok(());
        }
        let kind = self.made_as();
        if kind.may_be_written() {
            return Ok(());
        }
        let edge = self.0.autograd.lock().edge.clone();
        // The write that is about to happen, or the last one.
        let write = if modified == "is being" { Site::here() } else { self.storage().written() };
        Err(refusal(kind, edge, modified, write))
    }
}

/// Drops what a lock protected after the lock.
fn drop_outside<T>(lock: impl Sized, value: T) {
    drop(lock);
    drop(value);
}

/// PyTorch's words.
#[cold]
fn refusal(kind: ViewKind, edge: Option<Edge>, modified: &str, write: Site) -> Error {
    let made = edge.as_ref().map(|e| (operation(e.node.name()), e.node.site()));
    let output =
        edge.as_ref().map(|e| format!("Output {} of {}", e.output, operation(e.node.name())));
    let what = match (&output, kind) {
        (Some(output), ViewKind::Several | ViewKind::Custom) => {
            format!("{output} is a view and {modified} modified inplace.")
        }
        _ => {
            let prefix = output.map_or_else(
                || "A view was created in".to_owned(),
                |output| format!("{output} is a view of a view which was created in"),
            );
            match kind {
                ViewKind::Inference => format!(
                    "{prefix} inference mode and {modified} modified inplace in normal mode."
                ),
                _ => format!(
                    "{prefix} no_grad mode and {modified} modified inplace with grad mode enabled."
                ),
            }
        }
    };
    let why = match kind {
        ViewKind::Several => {
            "This view is the output of a function that returns multiple views. Such functions do \
             not allow the output views to be modified inplace. You should replace the inplace \
             operation by an out-of-place one."
        }
        ViewKind::Custom => {
            "This view was created inside a custom Function (or because an input was returned \
             as-is) and the autograd logic to handle view+inplace would override the custom \
             backward associated with the custom Function, leading to incorrect gradients. This \
             behavior is forbidden. You can fix this by cloning the output of the custom Function."
        }
        _ => {
            let mode = if kind == ViewKind::Inference { "inference_mode" } else { "no_grad" };
            let why = format!(
                "Given that this use case is ambiguous and error-prone, it is forbidden. You can \
                 clarify your code by moving both the view and the inplace either both inside the \
                 {mode} block (if you don't want the inplace to be tracked) or both outside (if \
                 you want the inplace to be tracked)."
            );
            return story(format!("{what} {why}"), made, write);
        }
    };
    story(format!("{what} {why}"), made, write)
}

/// The words, with the lines of the write and of what made the view.
fn story(text: String, made: Option<(&str, Site)>, write: Site) -> Error {
    let story = Story::new(text).at("The write is", write);
    match made {
        Some((name, site)) => story.at(&format!("{name} made the view"), site),
        None => story,
    }
    .error(Kind::Grad)
}
