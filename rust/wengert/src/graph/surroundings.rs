//! All that a thread has been told about its operations, to be carried to another thread that
//! works on its behalf.

use super::forward::{self, Level};
use super::inference::{self, InferenceMode};
use super::masked::{is_masked, set_masked};
use super::saved::{self, SavedTensorHooks};
use super::watch::{self, WriteWatcher};
use super::{set_grad_enabled, task, transform};
use crate::batch;
use std::sync::Arc;

/// What a thread has been told.
pub struct Surroundings {
    record: bool,
    inferring: bool,
    masked: bool,
    levels: Vec<Arc<Level>>,
    follow: bool,
    hooks: Vec<Arc<dyn SavedTensorHooks>>,
    watcher: Option<WriteWatcher>,
    multithreading: bool,
    batches: Vec<batch::Level>,
    transforms: usize,
}

impl Surroundings {
    /// Those of this thread.
    pub fn here() -> Surroundings {
        Surroundings {
            record: inference::is_grad_asked_for(),
            inferring: inference::is_inference_mode(),
            masked: is_masked(),
            levels: forward::levels(),
            follow: forward::is_forward_enabled(),
            hooks: saved::saved_tensor_hooks(),
            watcher: watch::write_watcher(),
            multithreading: task::is_multithreading_enabled(),
            batches: batch::stack().to_vec(),
            transforms: transform::depth(),
        }
    }

    /// Makes them those of this thread while `work` runs.
    pub fn with<R>(self, work: impl FnOnce() -> R) -> R {
        let before = Surroundings::here();
        let _inference = InferenceMode::new(self.inferring);
        set_grad_enabled(self.record);
        self.install();
        let _back = Restore(Some(before));
        work()
    }

    fn install(self) {
        set_masked(self.masked);
        forward::set_levels(self.levels);
        forward::set_forward_enabled(self.follow);
        saved::set_saved_tensor_hooks(self.hooks);
        drop(watch::set_write_watcher(self.watcher));
        task::set_multithreading_enabled(self.multithreading);
        batch::set_stack(self.batches);
        transform::set_depth(self.transforms);
    }
}

/// Puts back what was before, also when `work` unwinds.
struct Restore(Option<Surroundings>);

impl Drop for Restore {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            let record = before.record;
            before.install();
            set_grad_enabled(record);
        }
    }
}
