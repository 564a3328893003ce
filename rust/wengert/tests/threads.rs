//! The thread pool as a whole: its size, its chunks, panics, and what a fork leaves of it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use wengert::Kind;
use wengert::kernels::threads::*;

/// The number of threads belongs to the process: one test at a time.
static SERIAL: Mutex<()> = Mutex::new(());

fn with_threads(n: usize, test: impl FnOnce()) {
    let _guard = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    set_num_threads(n).unwrap();
    test();
}

/// The ranges of a loop, sorted.
fn ranges(len: usize, grain: usize) -> Vec<(usize, usize)> {
    let seen = Mutex::new(Vec::new());
    parallel_for(len, grain, |r| seen.lock().unwrap().push((r.start, r.end)));
    let mut seen = seen.into_inner().unwrap();
    seen.sort();
    seen
}

/// Waits until `n` threads have come here. A barrier that gives up where threads are missing.
fn meet(arrived: &AtomicUsize, n: usize) {
    arrived.fetch_add(1, Ordering::SeqCst);
    let end = Instant::now() + Duration::from_secs(20);
    while arrived.load(Ordering::SeqCst) < n {
        assert!(Instant::now() < end, "{n} threads were expected");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn sum(len: usize, grain: usize) -> usize {
    let sum = AtomicUsize::new(0);
    parallel_for(len, grain, |r| {
        sum.fetch_add(r.sum(), Ordering::Relaxed);
    });
    sum.into_inner()
}

#[test]
fn chunks_depend_on_length_and_grain_only() {
    for n in [1, 2, 3, 7] {
        with_threads(n, || {
            assert_eq!(ranges(10, 4), [(0, 4), (4, 8), (8, 10)]);
            assert_eq!(ranges(4, 4), [(0, 4)]);
            assert_eq!(ranges(2, 0), [(0, 1), (1, 2)]);
            assert_eq!(ranges(0, 4), []);
            assert_eq!(ranges(0, 0), []);
        });
    }
}

#[test]
fn fixed_chunks_are_the_same_inline() {
    for n in [1, 2, 5] {
        with_threads(n, || {
            for nested in [false, true] {
                let seen = Mutex::new(Vec::new());
                let run = || parallel_chunks(10, 4, |i, r| seen.lock().unwrap().push((i, r)));
                if nested {
                    scope(|s| s.spawn(run));
                } else {
                    run();
                }
                let mut seen = seen.into_inner().unwrap();
                seen.sort_by_key(|&(i, _)| i);
                assert_eq!(seen, [(0, 0..4), (1, 4..8), (2, 8..10)]);
            }
            parallel_chunks(0, 0, |_, _| unreachable!());
            parallel_chunks(1, usize::MAX, |i, r| assert_eq!((i, r), (0, 0..1)));
        });
    }
}

#[test]
fn number_of_threads_can_change_at_any_time() {
    with_threads(2, || {
        for n in [1, 4, 3, 8, 2] {
            set_num_threads(n).unwrap();
            assert_eq!(num_threads(), n);
            // As many chunks as threads, each waiting for all others: needs n real threads.
            let arrived = AtomicUsize::new(0);
            let ids = Mutex::new(HashSet::new());
            parallel_chunks(n, 1, |_, _| {
                meet(&arrived, n);
                ids.lock().unwrap().insert(std::thread::current().id());
            });
            assert_eq!(ids.into_inner().unwrap().len(), n);
        }
        // From within a loop, too: the loop keeps its pool alive.
        parallel_for(8, 1, |r| set_num_threads(2 + r.start % 3).unwrap());
        assert_eq!(sum(1000, 10), 499_500);
    });
}

#[test]
fn bad_numbers_of_threads() {
    with_threads(2, || {
        let zero = set_num_threads(0).unwrap_err();
        assert_eq!(zero.kind(), Kind::Value);
        assert_eq!(zero.to_string(), "set_num_threads expects a positive integer");
        let many = set_num_threads(1_000_000).unwrap_err();
        assert_eq!(many.kind(), Kind::Value);
        assert_eq!(many.to_string(), "set_num_threads: 1000000 is more than the limit of 1024");
        assert_eq!(num_threads(), 2);
    });
}

#[test]
fn nested_loops_run_inline() {
    with_threads(3, || {
        assert!(!in_parallel());
        let inner = Mutex::new(Vec::new());
        parallel_for(4, 1, |_| {
            assert!(in_parallel());
            let here = std::thread::current().id();
            parallel_for(100, 1, |r| {
                assert_eq!(std::thread::current().id(), here);
                inner.lock().unwrap().push(r);
            });
            let both = join(|| std::thread::current().id(), || std::thread::current().id());
            assert_eq!(both, (here, here));
        });
        assert_eq!(inner.into_inner().unwrap(), vec![0..100; 4]);
        assert!(!in_parallel());
    });
}

#[test]
fn join_and_scope_return_results() {
    for n in [1, 2, 4] {
        with_threads(n, || {
            assert_eq!(join(|| 6 * 7, || "b".to_string()), (42, "b".to_string()));
            let mut out = vec![0; 100];
            let returned = scope(|s| {
                for (i, x) in out.iter_mut().enumerate() {
                    s.spawn(move || *x = sum(i + 1, 3));
                }
                100
            });
            assert_eq!(returned, 100);
            assert!(out.iter().enumerate().all(|(i, &x)| x == i * (i + 1) / 2));
        });
    }
}

#[test]
fn panics_reach_the_caller() {
    std::panic::set_hook(Box::new(|info| {
        if info.payload().downcast_ref() != Some(&"expected") {
            eprintln!("{info}");
        }
    }));
    for n in [1, 2, 4] {
        with_threads(n, || {
            for bad in [0, 5, 99] {
                let run = || parallel_for(100, 1, |r| assert!(!r.contains(&bad), "expected"));
                let payload = catch_unwind(run).unwrap_err();
                assert_eq!(payload.downcast_ref(), Some(&"expected"));
            }
            let spawned = || scope(|s| s.spawn(|| panic!("expected")));
            assert!(catch_unwind(spawned).is_err());
            let mut other = false;
            let left = || join(|| panic!("expected"), || other = true);
            assert!(catch_unwind(AssertUnwindSafe(left)).is_err() && other);
            assert!(!in_parallel());
            assert_eq!(sum(1000, 10), 499_500);
        });
    }
    let _ = std::panic::take_hook();
}

#[test]
fn late_workers_are_not_waited_for() {
    with_threads(2, || {
        // The only worker is busy with the first loop while a second one runs.
        let (busy, done) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|s| {
            s.spawn(|| {
                parallel_chunks(2, 1, |_, _| {
                    busy.fetch_add(1, Ordering::SeqCst);
                    let end = Instant::now() + Duration::from_secs(20);
                    while !done.load(Ordering::SeqCst) {
                        assert!(Instant::now() < end, "the second loop waits for the first");
                        std::thread::yield_now();
                    }
                });
            });
            while busy.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            for _ in 0..100 {
                assert_eq!(sum(1000, 10), 499_500);
            }
            done.store(true, Ordering::SeqCst);
        });
    });
}

#[test]
fn many_callers_at_once() {
    with_threads(3, || {
        std::thread::scope(|s| {
            for t in 0..6 {
                s.spawn(move || {
                    for i in 0..200 {
                        if t == 0 && i % 20 == 0 {
                            set_num_threads(2 + i % 3).unwrap();
                        }
                        assert_eq!(sum(1000, 10), 499_500);
                    }
                });
            }
        });
    });
}

/// Runs `child` in a forked process and waits for it; `Err` says how it failed.
#[cfg(unix)]
fn in_fork(child: impl FnOnce() -> bool) -> Result<(), String> {
    // SAFETY: the child uses what the library promises to work after a fork (that is the test)
    // and ends with `_exit`, which runs no handlers of the test program.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let ok = catch_unwind(AssertUnwindSafe(child)).unwrap_or(false);
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(if ok { 0 } else { 1 }) };
    }
    assert!(pid > 0, "fork failed");
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let mut status = 0;
        // SAFETY: `pid` is our child, not yet waited for; `status` outlives the call.
        match unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } {
            0 if Instant::now() > end => {
                // SAFETY: the child was not waited for, so the id is still its own.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                // SAFETY: as above.
                unsafe { libc::waitpid(pid, &mut status, 0) };
                return Err("the child hangs".into());
            }
            0 => std::thread::sleep(Duration::from_millis(1)),
            _ if status == 0 => return Ok(()),
            _ => return Err(format!("the child failed with status {status:#x}")),
        }
    }
}

#[cfg(unix)]
#[test]
fn a_forked_child_has_working_threads() {
    with_threads(3, || {
        for _ in 0..20 {
            assert_eq!(sum(1000, 10), 499_500);
            let busy = AtomicBool::new(true);
            std::thread::scope(|s| {
                // Somebody else is inside the pool, or swapping it, at the moment of the fork.
                s.spawn(|| {
                    while busy.load(Ordering::Relaxed) {
                        sum(1000, 10);
                        set_num_threads(2 + num_threads() % 2).unwrap();
                    }
                });
                let grandchild = || in_fork(|| sum(1000, 10) == 499_500).is_ok();
                let result = in_fork(|| {
                    let works = sum(1000, 10) == 499_500 && join(|| 1, || 2) == (1, 2);
                    set_num_threads(4).unwrap();
                    let arrived = AtomicUsize::new(0);
                    parallel_chunks(4, 1, |_, _| meet(&arrived, 4));
                    works && grandchild()
                });
                busy.store(false, Ordering::Relaxed);
                assert_eq!(result, Ok(()));
            });
        }
    });
}

#[cfg(target_os = "linux")]
#[test]
fn without_threads_to_be_had_loops_run_inline() {
    with_threads(3, || {
        let result = in_fork(|| {
            set_num_threads(64).unwrap();
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
            // Room for little more than there is: no stack fits.
            let bytes = pages * 4096 + (1 << 20);
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            // SAFETY: a valid structure; the limit concerns this child only.
            let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
            let here = std::thread::current().id();
            parallel_for(100, 1, |_| assert_eq!(std::thread::current().id(), here));
            set == 0
                && sum(1000, 10) == 499_500
                && std::thread::Builder::new().spawn(|| {}).is_err()
        });
        assert_eq!(result, Ok(()));
    });
}
