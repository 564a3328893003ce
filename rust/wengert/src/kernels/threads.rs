//! The one way to run code in parallel.
//!
//! A loop is cut into chunks whose borders depend on its length and grain only. The calling
//! thread and the workers of a pool of our own then take chunk after chunk from a shared
//! counter. Who runs a chunk is chance; what a chunk computes is not, so a result never depends
//! on the number of threads.
//!
//! - **The caller works too.** `n` threads are the caller and `n - 1` workers. The caller starts
//!   at once instead of waiting for a worker to wake up, and at the end it waits only for workers
//!   that are running a chunk. One that comes late, because its processor was busy with other
//!   processes, finds the loop closed.
//! - **Nested loops run inline.** Inside a chunk or a task every function here runs its work on
//!   the spot, so nothing ever waits for a worker while being one: there is nothing to deadlock.
//! - **Nothing starts early.** The pool is built by the first loop long enough to need it, never
//!   by loading the library.
//! - **A forked child has no threads** but the one that forked, so its copy of the pool is dead:
//!   work handed to it would wait for ever. The pool therefore carries the id of the process
//!   that built it. Another process forgets it, without a destructor that would talk to threads
//!   that are not there, and builds its own. No lock guards the pool (`arc_swap` is lock-free):
//!   one held by some other thread during the fork would stay locked in the child.
//! - **No threads to be had** (a process limit, no memory for stacks) is no error: the loop runs
//!   on the caller alone.

#![allow(unsafe_code)]

use super::interrupt::Patience;
use crate::error::{Error, Kind, Result};
use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use std::any::Any;
use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The most threads [`set_num_threads`] accepts.
pub const MAX_THREADS: usize = 1024;

/// How many threads to use; 0 until somebody asks.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// The pool of this process, or of the process it was forked from.
static POOL: ArcSwapOption<Pool> = ArcSwapOption::const_empty();

thread_local! {
    /// Whether this thread is running a chunk or a task.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` on consecutive parts of `0..len`, in parallel if there are more than `grain` items.
///
/// A part starts at a multiple of `grain` and ends at one or at `len`. Where there is nothing to
/// share (few items, already inside a task) `f` gets the whole range in one call, so the result must
/// not depend on where the range is cut; use [`parallel_chunks`] where it would.
/// `f` is not called for an empty range. A panic in `f` reaches the caller.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// let sum = AtomicU64::new(0);
/// wengert::kernels::threads::parallel_for(1000, 100, |range| {
///     sum.fetch_add(range.map(|i| i as u64).sum(), Ordering::Relaxed);
/// });
/// assert_eq!(sum.into_inner(), 499_500);
/// ```
#[inline]
pub fn parallel_for(len: usize, grain: usize, f: impl Fn(Range<usize>) + Sync) {
    if len <= grain || runs_inline() {
        if len > 0 {
            inline(len, grain, f);
        }
        return;
    }
    let grain = grain.max(1);
    share(len.div_ceil(grain), &|i| f(i * grain..len.min((i + 1) * grain)));
}

/// A loop on the calling thread.
fn inline(len: usize, grain: usize, f: impl Fn(Range<usize>)) {
    if len <= grain || in_parallel() {
        return f(0..len);
    }
    let mut patience = Patience::new();
    for start in (0..len).step_by(grain.max(1)) {
        f(start..len.min(start.saturating_add(grain.max(1))));
        patience.look();
    }
}

/// Calls `f(i, i * chunk..min((i + 1) * chunk, len))` for every `i`, in parallel if there are
/// several: the same calls, whoever makes them.
///
/// For reductions: write a partial result per chunk, then combine them in the order of `i`.
#[inline]
pub fn parallel_chunks(len: usize, chunk: usize, f: impl Fn(usize, Range<usize>) + Sync) {
    let chunk = chunk.max(1);
    let count = len.div_ceil(chunk);
    let call = |i: usize| f(i, i * chunk..len.min((i + 1).saturating_mul(chunk)));
    if count <= 1 || in_parallel() {
        (0..count).for_each(call);
    } else if runs_inline() {
        let mut patience = Patience::new();
        for i in 0..count {
            call(i);
            patience.look();
        }
    } else {
        share(count, &call);
    }
}

/// Runs both, in parallel if possible, and returns both results.
///
/// `a` runs on the calling thread. A panic in either reaches the caller after both have ended.
pub fn join<A, B: Send>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
    let mut right = None;
    let left = scope(|s| {
        s.spawn(|| right = Some(b()));
        a()
    });
    (left, right.expect("a scope ends after its tasks"))
}

/// Runs `body` on the calling thread and returns when all tasks it spawned have ended.
///
/// ```
/// let mut squares = [0; 4];
/// wengert::kernels::threads::scope(|s| {
///     for (i, square) in squares.iter_mut().enumerate() {
///         s.spawn(move || *square = i * i);
///     }
/// });
/// assert_eq!(squares, [0, 1, 4, 9]);
/// ```
pub fn scope<'scope, R>(body: impl for<'s> FnOnce(&Scope<'s, 'scope>) -> R) -> R {
    let pool = if runs_inline() { None } else { current() };
    match pool.as_deref().and_then(Pool::workers) {
        Some(workers) => workers.in_place_scope(|s| body(&Scope(Some(s)))),
        None => body(&Scope(None)),
    }
}

/// Where tasks of a [`scope`] are spawned.
pub struct Scope<'s, 'scope>(Option<&'s rayon::Scope<'scope>>);

impl<'scope> Scope<'_, 'scope> {
    /// Runs `task` on a worker, or at once where there is none. A panic in it reaches the caller
    /// of [`scope`].
    pub fn spawn(&self, task: impl FnOnce() + Send + 'scope) {
        match self.0 {
            Some(workers) => workers.spawn(|_| inside(task)),
            None => inside(task),
        }
    }
}

/// How many threads a loop may use, the calling one included.
///
/// By default what the process may use (CPU affinity and control group quota), or
/// `WENGERT_NUM_THREADS`, or else `OMP_NUM_THREADS`, where set.
pub fn num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => initial_threads(),
        n => n,
    }
}

/// Sets what [`num_threads`] returns. Loops that are running keep the threads they have.
///
/// # Errors
/// `Value` unless `1 <= n <= `[`MAX_THREADS`].
pub fn set_num_threads(n: usize) -> Result<()> {
    if n == 0 {
        return Err(Error::plain(Kind::Value, "set_num_threads expects a positive integer"));
    }
    if n > MAX_THREADS {
        crate::bail!(Value, "set_num_threads", "{n} is more than the limit of {MAX_THREADS}");
    }
    if THREADS.swap(n, Ordering::Relaxed) != n {
        // The last loop still using it drops the old pool, which ends its threads.
        POOL.store(None);
    }
    Ok(())
}

/// Whether the calling thread runs a chunk or a task, so that any loop it starts runs inline.
#[inline]
pub fn in_parallel() -> bool {
    INSIDE.get()
}

#[inline]
fn runs_inline() -> bool {
    in_parallel() || num_threads() == 1
}

/// Calls `f` with every number below `count`, on all threads.
fn share(count: usize, f: &(dyn Fn(usize) + Sync)) {
    let pool = current();
    let Some((pool, workers)) = pool.as_ref().and_then(|pool| Some((pool, pool.workers()?))) else {
        let mut patience = Patience::new();
        return inside(|| {
            for i in 0..count {
                f(i);
                patience.look();
            }
        });
    };
    // SAFETY: only the lifetime changes, which a pointer does not rely on.
    let f = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Loop>(f) };
    let job = Arc::new(Job {
        f,
        count,
        next: AtomicUsize::new(0),
        helpers: AtomicUsize::new(0),
        caller: std::thread::current(),
        panic: Mutex::new(None),
    });
    let close = Close(&job);
    let wanted = workers.current_num_threads();
    for _ in 0..wanted.min(count - 1) {
        // Workers that are busy for long would otherwise find a long queue of closed loops.
        if pool.invited.load(Ordering::Relaxed) >= 4 * wanted {
            break;
        }
        pool.invited.fetch_add(1, Ordering::Relaxed);
        let (job, pool) = (Arc::clone(&job), Arc::clone(pool));
        workers.spawn(move || {
            pool.invited.fetch_sub(1, Ordering::Relaxed);
            job.help();
        });
    }
    // SAFETY: this is `share`.
    unsafe { job.run(Some(Patience::new())) };
    drop(close);
    if let Some(payload) = job.panic.lock().take() {
        std::panic::resume_unwind(payload);
    }
}

/// The body of a loop, of any lifetime.
type Loop = *const (dyn Fn(usize) + Sync);

/// A parallel loop. Workers hold it for as long as they like, but may touch `f` only while the
/// caller waits for them.
struct Job {
    f: Loop,
    count: usize,
    /// The first chunk that nobody has taken.
    next: AtomicUsize,
    /// Workers that are running chunks, and [`CLOSED`].
    helpers: AtomicUsize,
    caller: std::thread::Thread,
    /// Of the first worker that panicked.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: all fields but `f` are, and `f` points to a closure that is `Sync`.
unsafe impl Send for Job {}
// SAFETY: as above.
unsafe impl Sync for Job {}

/// Added to [`Job::helpers`] when no further worker may begin.
const CLOSED: usize = 1 << (usize::BITS - 1);

impl Job {
    /// Runs chunks until none is left. The caller of the loop has patience, and a worker none.
    ///
    /// # Safety
    /// [`share`] must not have returned or unwound.
    unsafe fn run(&self, mut patience: Option<Patience>) {
        // SAFETY: `share` borrows the closure.
        let f = unsafe { &*self.f };
        inside(|| {
            loop {
                let i = self.next.fetch_add(1, Ordering::Relaxed);
                if i >= self.count {
                    break;
                }
                f(i);
                if let Some(patience) = &mut patience {
                    patience.look();
                }
            }
        });
    }

    /// What a worker does.
    fn help(&self) {
        let open = |n: usize| (n & CLOSED == 0).then_some(n + 1);
        if self.helpers.fetch_update(Ordering::Acquire, Ordering::Relaxed, open).is_err() {
            return;
        }
        // SAFETY: now counted in `helpers` and not `CLOSED`, so that `share`, which ends with
        // `Close`, waits until the count goes down.
        let result = catch_unwind(AssertUnwindSafe(|| unsafe { self.run(None) }));
        if let Err(payload) = result {
            // Leaves nothing to do for the others.
            self.next.store(self.count, Ordering::Relaxed);
            self.panic.lock().get_or_insert(payload);
        }
        // Releases what the chunks wrote, and all use of `f`.
        if self.helpers.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.caller.unpark();
        }
    }
}

/// Ends a loop, also when the caller's own chunk panics: keeps late workers out and waits for
/// those that are inside.
struct Close<'a>(&'a Job);

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.0.next.store(self.0.count, Ordering::Relaxed);
        let mut helpers = self.0.helpers.fetch_or(CLOSED, Ordering::AcqRel) | CLOSED;
        let mut spins = 0;
        while helpers != CLOSED {
            // A worker is usually about to finish; if not, its processor may be needed.
            if spins < 100 {
                spins += 1;
                std::hint::spin_loop();
            } else {
                std::thread::park();
            }
            helpers = self.0.helpers.load(Ordering::Acquire);
        }
    }
}

/// Runs `f` with [`in_parallel`] true.
fn inside<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            INSIDE.set(self.0);
        }
    }
    let _restore = Restore(INSIDE.replace(true));
    f()
}

/// The workers beside the calling thread.
struct Pool {
    /// The only process in which the workers exist.
    pid: u32,
    /// The workers and the caller.
    threads: usize,
    /// Tasks that no worker has begun.
    invited: AtomicUsize,
    /// `None` if threads could not be started.
    workers: Option<ManuallyDrop<rayon::ThreadPool>>,
}

impl Pool {
    fn new(threads: usize) -> Pool {
        let workers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads - 1)
            .thread_name(|i| format!("wengert-{}", i + 1))
            .start_handler(|_| {
                crate::per_thread::set_worker();
                crate::graph::site::Held::forever(crate::graph::Site::UNKNOWN);
            })
            .build();
        let workers = workers.ok().map(ManuallyDrop::new);
        Pool { pid: std::process::id(), threads, invited: AtomicUsize::new(0), workers }
    }

    fn workers(&self) -> Option<&rayon::ThreadPool> {
        self.workers.as_deref()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // In a forked child the destructor would take locks that dead threads may hold.
        if self.pid == std::process::id() {
            drop(self.workers.take().map(ManuallyDrop::into_inner));
        }
    }
}

/// The pool of this process, built if necessary; `None` for a single thread.
fn current() -> Option<Arc<Pool>> {
    let mut seen = POOL.load();
    loop {
        let threads = num_threads();
        if threads == 1 {
            return None;
        }
        if let Some(pool) = &*seen
            && pool.pid == std::process::id()
            && pool.threads == threads
        {
            return Some(Arc::clone(pool));
        }
        let built = Arc::new(Pool::new(threads));
        let previous = POOL.compare_and_swap(&seen, Some(Arc::clone(&built)));
        let won = match (&*previous, &*seen) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        if won {
            return Some(built);
        }
        // Another thread was faster: use its pool, drop ours.
        seen = previous;
    }
}

#[cold]
fn initial_threads() -> usize {
    let variable = |name| std::env::var(name).ok().and_then(|text| parse_threads(&text));
    let n = variable("WENGERT_NUM_THREADS")
        .or_else(|| variable("OMP_NUM_THREADS"))
        .or_else(|| std::thread::available_parallelism().ok().map(usize::from))
        .unwrap_or(1)
        .min(MAX_THREADS);
    // Whoever set a number in the meantime wins.
    match THREADS.compare_exchange(0, n, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => n,
        Err(set) => set,
    }
}

/// A positive number, or the first of a list (OpenMP's form for nested loops); else nothing.
fn parse_threads(text: &str) -> Option<usize> {
    text.split(',').next()?.trim().parse().ok().filter(|&n| n > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_count_from_the_environment() {
        assert_eq!(parse_threads("4"), Some(4));
        assert_eq!(parse_threads(" 4 ,2"), Some(4));
        for bad in ["", "0", "-1", "four", "1.5", "99999999999999999999999"] {
            assert_eq!(parse_threads(bad), None, "{bad}");
        }
    }

    #[test]
    fn flag_is_restored_after_a_panic() {
        assert!(!in_parallel());
        let result = std::panic::catch_unwind(|| inside(|| std::panic::resume_unwind(Box::new(1))));
        assert!(result.is_err() && !in_parallel());
    }
}
