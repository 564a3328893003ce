//! What ran when: spans of operations, of rules in backward, and of what users name.
//!
//! Whoever runs something asks for a [`Span`]; its end is the end of its scope. While nobody
//! records, that is a test of one flag in memory that all threads read and nobody writes. While
//! somebody does, finished spans are put into one list, with the time since the recording began
//! on a clock that all threads share, so that forward and backward lie on one axis.
//!
//! Spans of one thread are nested like the calls that they stand for: who contains whom follows
//! from begin and end, and is worked out by whoever reads the list.

use crate::alloc;
use crate::graph::{Site, mode};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

/// What is recorded besides names and times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Shapes of inputs.
    pub shapes: bool,
    /// Bytes allocated less those freed.
    pub memory: bool,
    /// Lines of the program.
    pub sites: bool,
}

/// What a span stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Category {
    /// A call of an operation.
    #[default]
    Operation,
    /// A node's turn in a backward pass.
    Backward,
    /// Something that a user gave a name.
    User,
}

/// A span that has ended.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// PyTorch's name: `aten::add`.
    pub name: Cow<'static, str>,
    /// What it stands for.
    pub category: Category,
    /// Nanoseconds since the recording began.
    pub begin: u64,
    /// Nanoseconds since the recording began.
    pub end: u64,
    /// A number of the thread, from 1.
    pub thread: u32,
    /// Shapes of the inputs that are tensors.
    pub shapes: Vec<Vec<usize>>,
    /// Bytes of tensor memory allocated in the process meanwhile, less those freed.
    pub bytes: i64,
    /// Lines of the program, innermost first.
    pub sites: Vec<Site>,
    /// Number of the node that was recorded, or whose rule ran.
    pub sequence: Option<u64>,
}

static ON: AtomicBool = AtomicBool::new(false);
static RECORDING: Mutex<Option<Recording>> = Mutex::new(None);
static THREADS: AtomicU32 = AtomicU32::new(1);

thread_local! {
    static THREAD: Cell<u32> = const { Cell::new(0) };
}

struct Recording {
    options: Options,
    start: Instant,
    events: Vec<Event>,
}

/// Whether somebody records.
#[inline]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Begins a recording. False if there is one already.
pub fn start(options: Options) -> bool {
    let mut recording = RECORDING.lock();
    if recording.is_some() {
        return false;
    }
    *recording = Some(Recording { options, start: Instant::now(), events: Vec::new() });
    ON.store(true, Ordering::Relaxed);
    true
}

/// Ends the recording and gives its events, in the order of their ends.
pub fn stop() -> Vec<Event> {
    ON.store(false, Ordering::Relaxed);
    RECORDING.lock().take().map(|r| r.events).unwrap_or_default()
}

/// Nanoseconds since the recording began, and what it records.
fn now() -> Option<(u64, Options)> {
    let recording = RECORDING.lock();
    recording.as_ref().map(|r| (r.start.elapsed().as_nanos() as u64, r.options))
}

fn thread() -> u32 {
    if THREAD.get() == 0 {
        THREAD.set(THREADS.fetch_add(1, Ordering::Relaxed));
    }
    THREAD.get()
}

/// Bytes of tensor memory in use.
fn in_use() -> i64 {
    alloc::memory_stats().allocated_bytes as i64
}

/// Something that runs; recorded when this is dropped.
pub struct Span {
    event: Event,
    newest: u64,
    options: Options,
}

/// Begins a span if somebody records; `about` says what is to be remembered of it.
///
/// ```
/// use wengert::profile::{self, Category, Options, span};
/// profile::start(Options::default());
/// {
///     let _span = span(Category::User, || "work".into(), |_, _| ());
/// }
/// assert_eq!(profile::stop()[0].name, "work");
/// ```
#[inline]
#[must_use = "the span ends when it is dropped"]
pub fn span(
    category: Category,
    name: impl FnOnce() -> Cow<'static, str>,
    about: impl FnOnce(&mut Event, Options),
) -> Option<Box<Span>> {
    if is_on() { begin(category, name(), about) } else { None }
}

#[cold]
#[inline(never)]
fn begin(
    category: Category,
    name: Cow<'static, str>,
    about: impl FnOnce(&mut Event, Options),
) -> Option<Box<Span>> {
    let (_, options) = now()?;
    let mut event = Event { name, category, thread: thread(), ..Event::default() };
    about(&mut event, options);
    if options.memory {
        event.bytes = -in_use();
    }
    let newest = mode::newest();
    // The clock last: what was done until here is not the operation's.
    event.begin = now()?.0;
    Some(Box::new(Span { event, newest, options }))
}

impl Drop for Span {
    #[cold]
    fn drop(&mut self) {
        let Some((end, _)) = now() else { return };
        let event = &mut self.event;
        event.end = end;
        if self.options.memory {
            event.bytes += in_use();
        }
        let newest = mode::newest();
        if event.category == Category::Operation && newest != self.newest {
            event.sequence = Some(newest);
        }
        let event = std::mem::take(event);
        // A recording that began meanwhile has another clock.
        if let Some(recording) = RECORDING.lock().as_mut()
            && event.begin <= event.end
        {
            recording.events.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor, graph};

    #[test]
    fn spans_of_forward_and_backward_are_on_one_axis() {
        let x = Tensor::full(&[3], 2.0, DType::Float64).unwrap();
        x.set_requires_grad(true).unwrap();
        assert!(start(Options { shapes: true, memory: true, sites: true }));
        assert!(!start(Options::default()), "one recording at a time");
        let y = {
            let _span = span(Category::Operation, || "aten::mul".into(), |_, _| ());
            &x * &x
        };
        let gradient = Tensor::full(&[3], 1.0, DType::Float64).unwrap();
        graph::backward(&[y], &[Some(gradient)], None, Default::default()).unwrap();
        let events = stop();
        let find = |name: &str| events.iter().find(|e| e.name == name && e.thread == thread());
        let forward = find("aten::mul").unwrap();
        let outer = find("autograd::engine::evaluate_function: MulBackward0").unwrap();
        let inner = find("MulBackward0").unwrap();
        assert!(forward.end <= outer.begin);
        assert!(outer.begin <= inner.begin && inner.end <= outer.end);
        assert!(forward.sequence.is_some() && forward.sequence == inner.sequence);
        assert_eq!(inner.shapes, [[3]]);
        assert!(forward.bytes > 0);
        assert!(!is_on() && stop().is_empty());
    }
}
