//! What is done with the operations of this thread: recorded for backward, followed by tangents,
//! both, or nothing.
//!
//! The answer is one word per thread, which an operation loads once. Everything but the two usual
//! answers (record, do nothing) has a bit above [`RECORD`], so that `word > RECORD` is the one
//! question an operation asks to find out that it is not on the usual path.
//!
//! In **inference mode** nothing is recorded, whatever the gradient flag says, and memory that is
//! allocated is marked: what lies in it has no version and can never take part in a graph. The mark
//! is on the [storage](crate::storage), so it holds for every alias. Most programs have no thread
//! in this mode, which a counter of such threads tells an allocation without looking at the word.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Operations whose inputs require grad leave a node.
pub(super) const RECORD: u32 = 1;

/// A level of forward mode is open: operations on dual tensors give dual tensors.
pub(super) const FORWARD: u32 = 2;

/// Inference mode is on, and [`RECORD`] off.
const INFERENCE: u32 = 4;

/// What [`set_grad_enabled`] was last told, while inference mode overrules it.
const ASKED: u32 = 8;

/// How many threads are in inference mode. A thread sees its own entry, which is all it asks for.
static INFERRING: AtomicUsize = AtomicUsize::new(0);

/// What a thread knows. The number of the newest node stands beside the mode because whoever
/// records needs both, and finding a thread's variables costs a call in a shared library.
pub(super) struct PerThread {
    /// See the bits above.
    pub mode: Cell<u32>,
    /// Number of the newest node that this thread made or built upon.
    pub newest: Cell<u64>,
}

thread_local! {
    pub(super) static THREAD: PerThread =
        const { PerThread { mode: Cell::new(RECORD), newest: Cell::new(0) } };
}

/// The word.
#[inline]
pub(super) fn mode() -> u32 {
    THREAD.with(|t| t.mode.get())
}

/// Sets or clears bits of the word; gives what it was.
#[inline]
pub(super) fn switch(bits: u32, on: bool) -> u32 {
    THREAD.with(|t| {
        let old = t.mode.get();
        t.mode.set(if on { old | bits } else { old & !bits });
        old
    })
}

/// Whether operations on this thread are recorded.
#[inline]
pub fn is_grad_enabled() -> bool {
    mode() & RECORD != 0
}

/// Switches recording on this thread and returns what was asked for before. In inference mode the
/// answer is kept for later, but nothing is recorded.
#[inline]
pub fn set_grad_enabled(enabled: bool) -> bool {
    let flag = grad_bit(mode());
    switch(flag, enabled) & flag != 0
}

/// The bit in which a thread's word has what [`set_grad_enabled`] was last told.
#[inline]
fn grad_bit(mode: u32) -> u32 {
    if mode & INFERENCE == 0 { RECORD } else { ASKED }
}

/// What [`set_grad_enabled`] was last told: [`is_grad_enabled`], but for inference mode.
pub fn grad_flag() -> bool {
    let mode = mode();
    mode & grad_bit(mode) != 0
}

/// Whether this thread is in inference mode.
#[inline]
pub fn is_inference_mode() -> bool {
    INFERRING.load(Ordering::Relaxed) != 0 && mode() & INFERENCE != 0
}

/// The modes of a thread at one moment, to be put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Modes(u32);

impl Modes {
    /// Those of this thread.
    pub fn current() -> Modes {
        Modes(mode())
    }

    /// Makes them those of this thread, and returns what was before.
    pub fn set(self) -> Modes {
        let before = THREAD.with(|t| t.mode.replace(self.0));
        if (before ^ self.0) & INFERENCE != 0 {
            match self.0 & INFERENCE {
                0 => INFERRING.fetch_sub(1, Ordering::Relaxed),
                _ => INFERRING.fetch_add(1, Ordering::Relaxed),
            };
        }
        Modes(before)
    }

    /// Puts back what [`set_inference_mode`] changed, and nothing else.
    pub fn leave_inference_mode(self) {
        let own = RECORD | INFERENCE | ASKED;
        Modes(mode() & !own | self.0 & own).set();
    }

    /// Makes them those of this thread until the guard is dropped.
    #[must_use = "the modes are restored when the guard is dropped"]
    pub fn hold(self) -> ModesGuard {
        ModesGuard(self.set())
    }
}

/// Switches inference mode on this thread and returns what was. Leaving it switches recording on,
/// entering it off.
pub fn set_inference_mode(enabled: bool) -> Modes {
    let rest = mode() & !(RECORD | INFERENCE | ASKED);
    Modes(rest | if enabled { INFERENCE } else { RECORD }).set()
}

/// Puts the modes of a thread back.
///
/// ```
/// use wengert::Tensor;
/// use wengert::graph::mode::{ModesGuard, is_inference_mode};
/// let x = Tensor::from_slice(&[1.0f32], &[1]).unwrap();
/// x.set_requires_grad(true).unwrap();
/// let y = {
///     let _on = ModesGuard::inference(true);
///     &x * &x
/// };
/// assert!(y.is_inference() && !y.requires_grad() && !is_inference_mode());
/// ```
pub struct ModesGuard(Modes);

impl ModesGuard {
    /// Switches inference mode to `enabled`.
    #[must_use = "the modes are restored when the guard is dropped"]
    pub fn inference(enabled: bool) -> ModesGuard {
        ModesGuard(set_inference_mode(enabled))
    }
}

impl Drop for ModesGuard {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Whether anything beyond values may come of an operation: a node, or tangents.
#[inline]
pub(crate) fn is_tracking() -> bool {
    mode() & (RECORD | FORWARD) != 0
}

/// Whether a level of forward mode is open and not switched off.
#[inline]
pub(crate) fn is_forward() -> bool {
    mode() & FORWARD != 0
}

/// Recording switched until this guard is dropped, also by an error on the way.
///
/// ```
/// use wengert::graph::{GradMode, is_grad_enabled};
/// {
///     let _off = GradMode::new(false);
///     assert!(!is_grad_enabled());
/// }
/// assert!(is_grad_enabled());
/// ```
pub struct GradMode(bool);

impl GradMode {
    /// Switches recording to `enabled`.
    #[must_use = "the mode is restored when the guard is dropped"]
    pub fn new(enabled: bool) -> GradMode {
        GradMode(set_grad_enabled(enabled))
    }
}

impl Drop for GradMode {
    fn drop(&mut self) {
        set_grad_enabled(self.0);
    }
}

/// Values only until this guard is dropped: nothing is recorded, and no tangents are computed.
///
/// For the steps inside an operation that has a rule of its own. A user's `no_grad` is
/// [`GradMode`], which leaves tangents alone.
pub struct ValuesOnly(u32);

impl ValuesOnly {
    /// Switches everything off.
    #[must_use = "the mode is restored when the guard is dropped"]
    #[allow(clippy::new_without_default)]
    pub fn new() -> ValuesOnly {
        ValuesOnly(THREAD.with(|t| t.mode.replace(t.mode.get() & (INFERENCE | ASKED))))
    }
}

impl Drop for ValuesOnly {
    fn drop(&mut self) {
        THREAD.with(|t| t.mode.set(self.0));
    }
}

/// No tangents until this guard is dropped; recording stays as it is.
pub(crate) struct WithoutForward(bool);

impl WithoutForward {
    #[must_use = "the mode is restored when the guard is dropped"]
    pub(crate) fn new() -> WithoutForward {
        WithoutForward(switch(FORWARD, false) & FORWARD != 0)
    }
}

impl Drop for WithoutForward {
    fn drop(&mut self) {
        switch(FORWARD, self.0);
    }
}
