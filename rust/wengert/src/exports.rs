//! Memory that others may write to: noticing it without being told.
//!
//! A NumPy array over a tensor's memory writes without counting the write. So the version of such
//! memory is checked by its *content*: while an export lives, the bytes have a checksum, and whoever
//! asks for the version compares. A difference counts as a write, whoever made it.
//!
//! What it costs, and when:
//!
//! * A storage that was never exported pays nothing. The lowest bit of its version word says that it
//!   is, and is looked at where the version is read anyway.
//! * A checksum is a pass over the memory, at about the speed of memory. The first is taken when
//!   the memory is exported *and* graph nodes exist that may have saved it, or else when it is first
//!   saved. Exporting tensors in a program that differentiates nothing costs a look into the table.
//! * When the last array over the memory is gone, the bytes are compared once more and forgotten.
//!
//! It finds every write that is there to be found: one that is undone before anybody asks has no
//! consequence, and two different contents have the same checksum with a chance of 2⁻⁶⁴.
//!
//! Memory that came *from* NumPy is anybody's from the start. Checking it at each use would cost
//! those who never write to it, so this is a mode ([`set_check_imports`]), off by default.

use crate::graph::fork::{self, lock};
use crate::graph::live_nodes;
use crate::storage::Storage;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};

/// What is known about one storage that others can write to.
#[derive(Default)]
pub(crate) struct Entry {
    /// Arrays over it.
    exports: usize,
    /// Of the bytes when we last looked, if anybody may depend on them.
    checksum: Option<u64>,
    /// Whether the memory came from elsewhere and is to be checked as long as it is here.
    imported: bool,
    /// Whether a write of somebody else was found.
    written: bool,
}

pub(crate) type Entries = HashMap<usize, Arc<Mutex<Entry>>>;

/// By address of the header. A storage is here only while the bit in its version word is set.
static TABLE: LazyLock<Mutex<Entries>> = LazyLock::new(Mutex::default);
static CHECK_IMPORTS: AtomicBool = AtomicBool::new(false);

/// The table's lock, taken for a fork. That of an entry is held during a checksum only, and the
/// child finds out when it looks at the same array.
pub(crate) type Held = MutexGuard<'static, Entries>;

/// Takes the lock of the table, for a fork.
pub(crate) fn hold() -> Held {
    lock(&TABLE)
}

fn entry(storage: &Storage) -> Option<Arc<Mutex<Entry>>> {
    lock(&TABLE).get(&storage.address()).cloned()
}

/// Switches whether memory that came from elsewhere (`from_numpy`) is checked, for storages made
/// from now on; returns what it was.
pub fn set_check_imports(check: bool) -> bool {
    CHECK_IMPORTS.swap(check, Ordering::Relaxed)
}

/// Whether memory that comes from elsewhere is checked.
pub fn check_imports() -> bool {
    CHECK_IMPORTS.load(Ordering::Relaxed)
}

/// An array over a storage; as long as it lives, the storage is checked.
pub struct Export(Storage);

impl Export {
    /// Begins to check. `alone` says that nothing but the array's owner holds the memory, so that no
    /// graph can depend on it yet.
    pub fn new(storage: &Storage, alone: bool) -> Export {
        register(storage, false, !alone && live_nodes() > 0);
        Export(storage.clone())
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        let Some(entry) = entry(&self.0) else { return };
        if live_nodes() > 0 {
            settle(&self.0, &entry, false);
        }
        // Under the table's lock, so that nobody exports the storage again in between.
        let mut table = lock(&TABLE);
        let mut entry = lock(&entry);
        entry.exports -= 1;
        if entry.exports == 0 && !entry.imported {
            self.0.set_watched(false);
            table.remove(&self.0.address());
        }
    }
}

fn register(storage: &Storage, imported: bool, needed: bool) {
    fork::install();
    let entry = {
        let mut table = lock(&TABLE);
        storage.set_watched(true);
        table.entry(storage.address()).or_default().clone()
    };
    let mut entry = lock(&entry);
    entry.exports += usize::from(!imported);
    entry.imported |= imported;
    if needed && entry.checksum.is_none() {
        entry.checksum = Some(checksum(storage));
    }
}

/// Begins to check memory that came from elsewhere, if that is wanted.
pub(crate) fn imported(storage: &Storage) {
    if check_imports() {
        register(storage, true, live_nodes() > 0);
    }
}

/// Compares the bytes with those of the last look; a difference is a write. With `from_now` there
/// is a checksum afterwards, as somebody depends on the bytes.
fn settle(storage: &Storage, entry: &Mutex<Entry>, from_now: bool) {
    let mut entry = lock(entry);
    if entry.checksum.is_none() && !from_now {
        return;
    }
    let now = checksum(storage);
    if entry.checksum.is_some_and(|then| then != now) {
        storage.count_write();
        entry.written = true;
    }
    entry.checksum = Some(now);
}

/// Looks at watched memory before its version is read.
#[cold]
pub(crate) fn look(storage: &Storage, saving: bool) {
    if let Some(entry) = entry(storage) {
        settle(storage, &entry, saving);
    }
}

/// After a write of our own, which was counted: these are the bytes now.
#[cold]
pub(crate) fn written(storage: &Storage) {
    if let Some(entry) = entry(storage) {
        let mut entry = lock(&entry);
        if entry.checksum.is_some() {
            entry.checksum = Some(checksum(storage));
        }
    }
}

/// A watched storage is going away.
#[cold]
pub(crate) fn forget(address: usize) {
    let entry = lock(&TABLE).remove(&address);
    drop(entry);
}

/// Whether somebody else wrote to the storage since it was exported.
pub(crate) fn was_written_elsewhere(storage: &Storage) -> bool {
    storage.is_watched() && entry(storage).is_some_and(|entry| lock(&entry).written)
}

/// A hash of all bytes. Four lanes, because one would wait for its multiplications; each step is a
/// bijection of the lane, and the rotation keeps changes in the highest bits (signs) from cancelling
/// each other.
#[allow(unsafe_code)]
fn checksum(storage: &Storage) -> u64 {
    const FACTORS: [u64; 4] = [
        0x9E37_79B9_7F4A_7C15,
        0xC2B2_AE3D_27D4_EB4F,
        0x1656_67B1_9E37_79F9,
        0x27D4_EB2F_1656_67C5,
    ];
    // SAFETY: a handle keeps `bytes` initialised or foreign bytes readable. Others may write to
    // them meanwhile, as they may while any kernel reads them; a torn value is a difference or
    // none, and both are right answers.
    let bytes = unsafe { std::slice::from_raw_parts(storage.data(), storage.bytes()) };
    let step =
        |lane: u64, word: u64, factor: u64| (lane.rotate_left(29) ^ word).wrapping_mul(factor);
    let mut lanes = FACTORS;
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        for (k, lane) in lanes.iter_mut().enumerate() {
            let word = block[8 * k..8 * k + 8].try_into().map_or(0, u64::from_le_bytes);
            *lane = step(*lane, word, FACTORS[k]);
        }
    }
    let mut hash = bytes.len() as u64;
    for &byte in blocks.remainder() {
        hash = step(hash, byte.into(), FACTORS[0]);
    }
    for lane in lanes {
        hash = step(hash, lane, FACTORS[1]);
        hash ^= hash >> 32;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(bytes: &[u8]) -> Storage {
        let s = Storage::uninitialised(bytes.len()).unwrap();
        poke(&s, 0, bytes);
        s
    }

    #[allow(unsafe_code)]
    fn poke(s: &Storage, at: usize, bytes: &[u8]) {
        // SAFETY: callers stay inside the storage.
        unsafe { s.data().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    #[test]
    fn a_write_that_nobody_counted_is_found() {
        let s = storage(&[1; 100]);
        let export = Export::new(&s, false);
        let saved = s.version_for_saving();
        assert_eq!(s.version(), saved);
        poke(&s, 99, &[2]);
        assert_eq!(s.version(), saved + 1);
        assert_eq!(s.version(), saved + 1);
        assert!(was_written_elsewhere(&s));
        drop(export);
        assert!(!s.is_watched());
        assert_eq!(s.version(), saved + 1);
    }

    #[test]
    fn our_own_writes_count_once() {
        let s = storage(&[1; 64]);
        let _export = Export::new(&s, false);
        let saved = s.version_for_saving();
        poke(&s, 0, &[7]);
        s.bump_version();
        assert_eq!(s.version(), saved + 1);
    }

    #[test]
    fn changes_of_all_signs_do_not_cancel() {
        let words: Vec<u8> = (0..64u64).flat_map(|i| (i + 1).to_le_bytes()).collect();
        let negated: Vec<u8> = (0..64u64).flat_map(|i| ((i + 1) | 1 << 63).to_le_bytes()).collect();
        assert_ne!(checksum(&storage(&words)), checksum(&storage(&negated)));
        let mut swapped = words.clone();
        swapped[..64].rotate_left(32);
        assert_ne!(checksum(&storage(&words)), checksum(&storage(&swapped)));
        for i in 0..words.len() {
            let mut one = words.clone();
            one[i] ^= 0x80;
            assert_ne!(checksum(&storage(&words)), checksum(&storage(&one)));
        }
    }
}
