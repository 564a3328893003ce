//! What a rule sees: the tensors its operation saved, unpacked, and which gradients are wanted.
//!
//! A saved tensor is handed out only if nobody wrote to its storage since, which the storage's version
//! tells. Two kinds need care:
//!
//! * An operation's **own output** is saved as an alias without history, because an output that
//!   knows its node, saved in that node, would never die. The history is attached again when it
//!   is unpacked for a second-order pass.
//! * An **input** is saved with the index of its edge, so that unpacking finds the history the
//!   input had when it was used, whatever happened to the tensor since.
//!
//! A pass that frees the graph takes what was saved out of the node; the next one is told where that
//! was. What hooks store is fetched from them, without the node's lock, see [`saved`](super::saved).

use super::arena::NodeRef;
use super::explain;
use super::node::{Edge, Origin, Saved};
use super::site::Site;
use crate::Result;
use crate::tensor::Tensor;
use smallvec::SmallVec;

/// What a rule sees when it runs.
pub struct Context {
    saved: SmallVec<[(u8, Tensor); 2]>,
    needs: SmallVec<[bool; 4]>,
    keeps_graph: bool,
}

impl Context {
    /// What a rule sees, put together by hand.
    pub(super) fn new(saved: SmallVec<[(u8, Tensor); 2]>, needs: SmallVec<[bool; 4]>) -> Context {
        Context { saved, needs, keeps_graph: true }
    }

    /// The same with copies of saved tensors that cannot be saved again, if there are any.
    pub(super) fn without_inference_tensors(&self) -> Result<Option<Context>> {
        if !self.saved.iter().any(|(_, t)| t.is_inference()) {
            return Ok(None);
        }
        let copy = |(role, t): &(u8, Tensor)| Ok((*role, crate::ops::cast::clone(t)?));
        let saved = self.saved.iter().map(copy).collect::<Result<_>>()?;
        Ok(Some(Context { saved, needs: self.needs.clone(), keeps_graph: self.keeps_graph }))
    }

    /// The same for a rule that is to answer for one input only.
    pub(super) fn only(&self, input: usize) -> Context {
        let needs = (0..self.needs.len()).map(|i| i == input).collect();
        Context { saved: self.saved.clone(), needs, keeps_graph: self.keeps_graph }
    }

    /// The tensor saved under `role`.
    ///
    /// # Panics
    /// If the rule asks for what its operation did not save: a defect of the row, which the
    /// row macros rule out.
    pub fn saved(&self, role: u8) -> &Tensor {
        let found = self.saved.iter().find(|(r, _)| *r == role);
        &found.expect("a rule asked for a tensor that its operation did not save").1
    }

    /// How many elements the saved tensors have.
    pub(crate) fn elements(&self) -> usize {
        self.saved.iter().map(|(_, t)| t.numel()).sum()
    }

    /// Whether the gradient of input `index` is wanted.
    pub fn needs(&self, index: usize) -> bool {
        self.needs.get(index).copied().unwrap_or(false)
    }

    /// Whether the pass leaves the graph as it is, so that it can be walked again.
    pub fn keeps_graph(&self) -> bool {
        self.keeps_graph
    }
}

impl NodeRef {
    /// Gives what was saved of the outputs, which was saved before they had any, their tangents.
    pub(super) fn keep_tangents<'a>(&self, output: impl Fn(usize) -> Option<&'a Tensor>) {
        let state = self.state.lock();
        for s in &state.saved {
            if let (Some(tensor), Origin::Output(k)) = (&s.tensor, s.origin)
                && let Some(output) = output(k as usize)
            {
                tensor.share_tangents(output);
            }
        }
    }

    /// Prepares a run of the rule: copies the saved tensors, or takes them for a pass that `frees`
    /// the graph, and checks that nobody wrote to them.
    pub(super) fn unpack(
        &self,
        frees: Option<Site>,
        is_root: bool,
        needs: SmallVec<[bool; 4]>,
    ) -> Result<Context> {
        let keeps_graph = frees.is_none();
        if self.op.fetches_saved() {
            return Ok(Context { saved: SmallVec::new(), needs, keeps_graph });
        }
        let recording = super::is_grad_enabled();
        let mut state = self.state.lock();
        if let Some(first) = state.freed {
            drop(state);
            return Err(explain::freed(self, first));
        }
        let mut saved = SmallVec::new();
        let mut packed = SmallVec::<[(u8, usize); 2]>::new();
        for (i, s) in state.saved.iter().enumerate() {
            let Some(tensor) = &s.tensor else {
                packed.push((s.role, i));
                continue;
            };
            if tensor.storage().version() != s.version {
                let (tensor, version, origin) = (tensor.clone(), s.version, s.origin);
                drop(state);
                return Err(explain::stale(self, &tensor, version, origin));
            }
            let tensor = if recording { self.with_history(s, tensor) } else { tensor.clone() };
            saved.push((s.role, tensor));
        }
        if !packed.is_empty() {
            drop(state);
            for (role, index) in packed {
                if let Some(tensor) = self.saved_tensor(index)? {
                    saved.push((role, tensor));
                }
            }
            if let Some(site) = frees {
                self.free_saved(site);
            }
            return Ok(Context { saved, needs, keeps_graph });
        }
        // What saved nothing can be walked again, as a view that several losses share; but not from
        // where a pass began: going backward from one tensor twice is the same mistake in any graph.
        if is_root || !state.saved.is_empty() {
            state.freed = frees;
        }
        let retired = frees.map(|_| std::mem::take(&mut state.saved));
        drop(state);
        drop(retired);
        Ok(Context { saved, needs, keeps_graph })
    }

    /// The tensor saved under a role, with its history; `None` if the rule did not need it.
    ///
    /// # Errors
    /// If it was freed, or written to since.
    pub fn saved(&self, role: u8) -> Result<Option<Tensor>> {
        match self.saved_place(role)? {
            Some(index) => self.saved_tensor(index),
            None => Ok(None),
        }
    }

    /// Which of the saved tensors has a role.
    ///
    /// # Errors
    /// If they were freed.
    pub fn saved_place(&self, role: u8) -> Result<Option<usize>> {
        self.check_not_freed()?;
        Ok(self.state.lock().saved.iter().position(|s| s.role == role))
    }

    /// A saved tensor as it was when it was saved.
    pub(super) fn with_history(&self, s: &Saved, saved: &Tensor) -> Tensor {
        let tensor = self.with_edge(s, saved);
        if !tensor.same(saved) && saved.is_dual() {
            tensor.share_tangents(saved);
        }
        tensor
    }

    fn with_edge(&self, s: &Saved, tensor: &Tensor) -> Tensor {
        match s.origin {
            Origin::Value => tensor.clone(),
            Origin::Output(k) => {
                tensor.alias_with_edge(Some(Edge { node: self.clone(), output: k as u32 }))
            }
            Origin::Input(i) => {
                let then = self.edges.get(i as usize).and_then(|e| e.as_ref());
                let now = tensor.edge_if_any();
                let same = match (then, &now) {
                    (None, None) => true,
                    (Some(a), Some(b)) => a.node == b.node && a.output == b.output,
                    _ => false,
                };
                if same { tensor.clone() } else { tensor.alias_with_edge(then.cloned()) }
            }
        }
    }
}
