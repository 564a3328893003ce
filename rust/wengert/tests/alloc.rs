//! The allocator against a model, in a process of its own: its statistics are global.

use proptest::prelude::*;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, mpsc};
use wengert::alloc::*;

/// One test at a time, each starting with an empty cache and the default-like limit.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    let guard = LOCK.lock().unwrap_or_else(|e| e.into_inner());
    set_cache_limit(256 << 20);
    empty_cache();
    guard
}

/// A block that knows what was written into it.
struct Block {
    ptr: NonNull<u8>,
    bytes: usize,
    tag: u8,
}

// SAFETY: the block is owned; memory may be used and freed by any thread.
unsafe impl Send for Block {}

impl Block {
    fn new(bytes: usize, tag: u8) -> Block {
        let ptr = allocate(bytes).unwrap();
        assert_eq!(ptr.as_ptr() as usize % ALIGNMENT, 0);
        // SAFETY: the block has that many bytes.
        unsafe { ptr.write_bytes(tag, bytes) };
        Block { ptr, bytes, tag }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: all bytes were written in `new` or zeroed by the allocator.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody else wrote into it, so no other block shares its memory.
        assert!(self.bytes().iter().all(|&b| b == self.tag));
        // SAFETY: allocated with this size, and dropped once.
        unsafe { deallocate(self.ptr, self.bytes) };
    }
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(usize),
    Zeroed(usize),
    Free(usize),
    FreeElsewhere(usize),
    EmptyCache,
    Limit(usize),
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        30 => 0usize..2000,
        15 => 0usize..300_000,
        5 => 200_000usize..3_000_000,
        1 => (60usize << 20)..(70 << 20),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => sizes().prop_map(Step::Allocate),
        2 => (0usize..600_000).prop_map(Step::Zeroed),
        8 => any::<usize>().prop_map(Step::Free),
        1 => any::<usize>().prop_map(Step::FreeElsewhere),
        1 => Just(Step::EmptyCache),
        1 => (0usize..100 << 20).prop_map(Step::Limit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_keeps_blocks_apart_and_counts_right(
        steps in prop::collection::vec(steps(), 1..120),
    ) {
        let _alone = alone();
        let start = memory_stats();
        let mut live: Vec<Block> = Vec::new();
        for (i, step) in steps.into_iter().enumerate() {
            match step {
                Step::Allocate(bytes) => live.push(Block::new(bytes, i as u8)),
                Step::Zeroed(bytes) => {
                    let ptr = allocate_zeroed(bytes).unwrap();
                    let block = Block { ptr, bytes, tag: 0 };
                    prop_assert!(block.bytes().iter().all(|&b| b == 0));
                    live.push(block);
                }
                Step::Free(_) | Step::FreeElsewhere(_) if live.is_empty() => {}
                Step::Free(which) => drop(live.swap_remove(which % live.len())),
                Step::FreeElsewhere(which) => {
                    let block = live.swap_remove(which % live.len());
                    std::thread::spawn(move || drop(block)).join().unwrap();
                }
                Step::EmptyCache => empty_cache(),
                Step::Limit(bytes) => set_cache_limit(bytes),
            }
            let now = memory_stats();
            let wanted: usize = live.iter().map(|b| b.bytes).sum();
            let used = now.allocated_bytes - start.allocated_bytes;
            prop_assert!(used >= wanted, "{used} < {wanted}");
            // A class is at most a quarter above the request, and a block a quarter above its class.
            let padding = (live.len() * 256) as f64;
            prop_assert!(used as f64 <= wanted as f64 * 1.5626 + padding, "{used} for {wanted}");
            prop_assert!(now.peak_allocated_bytes >= now.allocated_bytes);
        }
        live.clear();
        let end = memory_stats();
        prop_assert_eq!(end.allocated_bytes, start.allocated_bytes);
        prop_assert_eq!(end.allocated_blocks, start.allocated_blocks);
        empty_cache();
        prop_assert_eq!(memory_stats().cached_bytes, 0);
    }
}

#[test]
fn a_freed_block_is_the_next_one_handed_out() {
    let _alone = alone();
    for bytes in [1, 64, 1000, 100_000, 1 << 20, 10_000_000, 100 << 20] {
        let first = Block::new(bytes, 1);
        let address = first.ptr;
        drop(first);
        let before = memory_stats().system_allocations;
        let second = Block::new(bytes, 2);
        assert_eq!(second.ptr, address, "{bytes} bytes");
        assert_eq!(memory_stats().system_allocations, before, "{bytes} bytes");
    }
}

#[test]
fn a_request_takes_a_block_up_to_a_quarter_larger_and_no_more() {
    let _alone = alone();
    let system_allocations_of = |held: usize, wanted: usize| {
        empty_cache();
        drop(Block::new(held, 1));
        let before = memory_stats().system_allocations;
        drop(Block::new(wanted, 2));
        memory_stats().system_allocations - before
    };
    // Room for the canaries of `debug-poison` behind each.
    let mib = (1 << 20) - 64;
    assert_eq!(system_allocations_of(5 * mib, 4 * mib), 0);
    assert_eq!(system_allocations_of(6 * mib, 4 * mib), 1);
    assert_eq!(system_allocations_of(100 * mib, 82 * mib), 0);
    assert_eq!(system_allocations_of(100 * mib, 78 * mib), 1);
    assert_eq!(system_allocations_of(mib, 2 * mib), 1);
}

#[test]
fn the_limit_holds_and_the_least_recently_used_goes_first() {
    let _alone = alone();
    set_cache_limit(10 << 20);
    let mib = (1 << 20) - 64;
    let blocks: Vec<_> = (1..=5).map(|i| Block::new(i * mib, i as u8)).collect();
    let addresses: Vec<_> = blocks.iter().map(|b| b.ptr).collect();
    drop(blocks);
    // 1 + 2 + 3 + 4 fill the limit; freeing 5 pushes out 1, 2 and 3.
    let stats = memory_stats();
    assert_eq!(stats.cached_bytes, 9 << 20);
    assert_eq!(stats.cache_limit, 10 << 20);
    let before = stats.system_allocations;
    let five = Block::new(5 * mib, 1);
    assert_eq!(five.ptr, addresses[4]);
    let four = Block::new(4 * mib, 1);
    assert_eq!(four.ptr, addresses[3]);
    assert_eq!(memory_stats().system_allocations, before);
    drop((four, five));

    // A block above the whole limit is not kept, and does not push the others out.
    drop(Block::new(11 * mib, 1));
    assert_eq!(memory_stats().cached_bytes, 9 << 20);
    set_cache_limit(0);
    assert_eq!(memory_stats().cached_bytes, 0);
}

#[test]
fn zeroed_blocks_are_zero_after_reuse() {
    let _alone = alone();
    for bytes in [3, 64, 5000, 256 << 10, (256 << 10) + 1, 3 << 20, 65 << 20] {
        drop(Block::new(bytes, 0xAB));
        for _ in 0..2 {
            let ptr = allocate_zeroed(bytes).unwrap();
            // The destructor checks every byte.
            drop(Block { ptr, bytes, tag: 0 });
            empty_cache();
        }
    }
}

#[test]
fn impossible_requests_are_errors() {
    let _alone = alone();
    let start = memory_stats();
    for bytes in [1 << 60, isize::MAX as usize, usize::MAX - 63, usize::MAX - 1, usize::MAX] {
        for result in [allocate(bytes), allocate_zeroed(bytes)] {
            let error = result.unwrap_err();
            assert_eq!(error.kind(), wengert::Kind::Memory);
            assert_eq!(
                error.to_string(),
                format!(
                    "DefaultCPUAllocator: can't allocate memory: \
                     you tried to allocate {bytes} bytes."
                )
            );
        }
    }
    assert_eq!(memory_stats().allocated_bytes, start.allocated_bytes);
}

#[test]
fn blocks_freed_by_another_thread_come_back() {
    let _alone = alone();
    let start = memory_stats();
    let rounds = 20_000;
    for bytes in [64, 4096] {
        let before = memory_stats().system_allocations;
        std::thread::scope(|s| {
            let (send, receive) = mpsc::sync_channel::<Block>(64);
            s.spawn(move || {
                (0..rounds).for_each(|i| send.send(Block::new(bytes, i as u8)).unwrap())
            });
            s.spawn(move || receive.into_iter().for_each(drop));
        });
        // Chains travel back through the shelf: what is fresh are a few chains, not every block.
        let fresh = memory_stats().system_allocations - before;
        assert!(fresh < 1000, "{fresh} fresh blocks of {bytes} bytes");
    }
    let end = memory_stats();
    assert_eq!(end.allocated_bytes, start.allocated_bytes);
    assert_eq!(end.allocated_blocks, start.allocated_blocks);
}

#[test]
fn many_threads_at_once_lose_nothing() {
    let _alone = alone();
    let start = memory_stats();
    let exchange = Mutex::new(Vec::<Block>::new());
    std::thread::scope(|s| {
        for t in 0..6u64 {
            let exchange = &exchange;
            s.spawn(move || {
                let mut state = t + 1;
                let mut own = Vec::new();
                for i in 0..4000 {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    let bytes = 1usize << (state >> 60 << 1).min(19);
                    own.push(Block::new(bytes + (state >> 40) as usize % 100, i as u8));
                    if own.len() > 8 {
                        let block = own.swap_remove((state >> 33) as usize % own.len());
                        exchange.lock().unwrap().push(block);
                    }
                    if state & 64 == 0 {
                        let taken = exchange.lock().unwrap().pop();
                        drop(taken);
                    }
                }
            });
        }
    });
    drop(exchange);
    let end = memory_stats();
    assert_eq!(end.allocated_bytes, start.allocated_bytes);
    assert_eq!(end.allocated_blocks, start.allocated_blocks);
    empty_cache();
    assert_eq!(memory_stats().cached_bytes, 0, "ended threads keep nothing");
}

#[test]
fn blocks_may_be_freed_while_thread_locals_are_destroyed() {
    struct Late(std::cell::RefCell<Vec<Block>>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.borrow_mut().clear();
            drop(Block::new(100, 7));
        }
    }
    thread_local! {
        static LATE: Late = const { Late(std::cell::RefCell::new(Vec::new())) };
    }
    let _alone = alone();
    let start = memory_stats();
    for early in [true, false] {
        std::thread::spawn(move || {
            // Destructors run in the reverse order of first use, or in order: try both.
            if early {
                LATE.with(|_| ());
            }
            let blocks = [Block::new(100, 1), Block::new(1 << 20, 2)];
            LATE.with(|late| late.0.borrow_mut().extend(blocks));
        })
        .join()
        .unwrap();
    }
    let end = memory_stats();
    assert_eq!(end.allocated_bytes, start.allocated_bytes);
    assert_eq!(end.allocated_blocks, start.allocated_blocks);
}

#[test]
fn peak_follows_and_resets() {
    let _alone = alone();
    let start = memory_stats().allocated_bytes;
    reset_peak_memory_stats();
    drop(Block::new(8 << 20, 1));
    let peak = memory_stats().peak_allocated_bytes;
    assert!(peak >= start + (8 << 20));
    reset_peak_memory_stats();
    assert!(memory_stats().peak_allocated_bytes <= peak - (8 << 20));
}

#[cfg(unix)]
#[test]
fn a_forked_child_can_allocate_whatever_the_parent_was_doing() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let _alone = alone();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while !stop.load(Relaxed) {
                    // Both go through a lock of the shelves.
                    drop(Block::new(300_000, 1));
                    drop((0..300).map(|_| Block::new(64, 2)).collect::<Vec<_>>());
                }
            });
        }
        for _ in 0..50 {
            // SAFETY: the child calls nothing but the allocator, which is what is tested, and
            // `_exit`; `alarm` ends it if it hangs.
            let status = unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::alarm(20);
                    for bytes in [64, 1000, 300_000, 5 << 20] {
                        let block = allocate(bytes).ok();
                        let Some(block) = block else { libc::_exit(1) };
                        block.write_bytes(3, bytes);
                        deallocate(block, bytes);
                    }
                    empty_cache();
                    libc::_exit(i32::from(memory_stats().cached_bytes != 0));
                }
                let mut status = -1;
                libc::waitpid(child, &mut status, 0);
                status
            };
            assert_eq!(status, 0);
        }
        stop.store(true, Relaxed);
    });
}

#[cfg(feature = "debug-poison")]
mod poison {
    use super::*;

    fn panics(f: impl FnOnce() + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(f).is_err()
    }

    #[test]
    fn fresh_memory_is_nan() {
        let _alone = alone();
        for bytes in [64, 1 << 20] {
            let ptr = allocate(bytes).unwrap();
            // SAFETY: the allocator filled the block with poison.
            unsafe {
                assert!(ptr.cast::<f32>().read().is_nan());
                deallocate(ptr, bytes);
            }
        }
    }

    #[test]
    fn stray_writes_are_found() {
        let _alone = alone();
        for bytes in [100, 1 << 20] {
            let ptr = allocate(bytes).unwrap();
            // SAFETY: the block is followed by canaries, which are memory of the block too; the
            // second call frees it after the first refused.
            unsafe {
                let canary = ptr.add(bytes).read();
                ptr.add(bytes).write(0);
                assert!(panics(|| deallocate(ptr, bytes)));
                ptr.add(bytes).write(canary);
                deallocate(ptr, bytes);
                // The block is idle but still memory of the process.
                ptr.add(50).write(0);
            }
            assert!(panics(|| drop(allocate(bytes))));
        }
    }
}
