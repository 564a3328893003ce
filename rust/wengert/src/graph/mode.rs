//! What a thread does with operations: whether it records them, and whether it infers.
//!
//! Both are bits of one word per thread, so that the question asked by every operation, "is this
//! recorded?", is one comparison.
//!
//! In **inference mode** nothing is recorded, whatever the gradient flag says, and memory that is
//! allocated is marked: what lies in it has no version and can never take part in a graph. The mark
//! is on the [storage](crate::storage), so it holds for every alias. Most programs have no thread
//! in this mode, which a counter of such threads tells an allocation without looking at the word.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

const GRAD: u8 = 1;
const INFERENCE: u8 = 2;

thread_local! {
    static MODE: Cell<u8> = const { Cell::new(GRAD) };
}

/// How many threads are in inference mode. A thread sees its own entry, which is all it asks for.
static INFERRING: AtomicUsize = AtomicUsize::new(0);

/// Whether operations on this thread are recorded.
#[inline]
pub fn is_grad_enabled() -> bool {
    MODE.get() & (GRAD | INFERENCE) == GRAD
}

/// Switches recording on this thread and returns what was asked for before. In inference mode the
/// answer is kept for later, but nothing is recorded.
#[inline]
pub fn set_grad_enabled(enabled: bool) -> bool {
    let mode = MODE.get();
    MODE.set(mode & !GRAD | enabled as u8);
    mode & GRAD != 0
}

/// What [`set_grad_enabled`] was last told: [`is_grad_enabled`], but for inference mode.
pub fn grad_flag() -> bool {
    MODE.get() & GRAD != 0
}

/// Whether this thread is in inference mode.
#[inline]
pub fn is_inference_mode() -> bool {
    INFERRING.load(Ordering::Relaxed) != 0 && MODE.get() & INFERENCE != 0
}

/// The modes of a thread at one moment, to be put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// Those of this thread.
    pub fn current() -> Modes {
        Modes(MODE.get())
    }

    /// Makes them those of this thread, and returns what was before.
    pub fn set(self) -> Modes {
        let before = MODE.replace(self.0);
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
        let own = GRAD | INFERENCE;
        Modes(MODE.get() & !own | self.0 & own).set();
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
    let rest = MODE.get() & !(GRAD | INFERENCE);
    Modes(rest | if enabled { INFERENCE } else { GRAD }).set()
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
