//! Reference-counted memory with a version, shared by all views of it.
//!
//! A storage is one thin pointer to a 32-byte header. Small data lies in the same block as its
//! header, so that a small tensor costs one allocation:
//!
//! ```text
//! up to 32 bytes    [header 32 | data 32]                 one 64-byte block
//! up to 4 KiB       [header 32 | pad 32 | data ...]       one block, data 64-byte aligned
//! above             [header 32]  ->  [data ...]           two blocks, no size class is overshot
//! foreign memory    [header 32 | owner]  ->  somebody else's, which the owner keeps alive
//! ```
//!
//! The version counts writes through any alias. A tensor saved for backward remembers the
//! version it was saved at; a mismatch means that the value is no longer the one of the forward
//! pass. It counts in steps of two: the lowest bit of the word says that others can write to the
//! memory, and that [`exports`] has to look before the version is read. The place of the last write
//! is kept beside it, for the error that follows. Memory allocated in
//! [inference mode](crate::graph::inference) has no version that anybody may ask for. Other marks are bits
//! of the length, which is never that large.
#![allow(unsafe_code)]

use crate::graph::Site;
use crate::{Result, alloc, exports};
use std::any::Any;
use std::num::NonZeroU32;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The bit of the version word that says that others can write to the memory.
const WATCHED: u32 = 1;
/// What a write adds to the version word.
const WRITE: u32 = 2;

const HEADER: usize = 32;
const INLINE_MAX: usize = 4096;
/// Set in the length of foreign memory; no length reaches it.
const FOREIGN: usize = 1 << (usize::BITS - 1);
/// Set in the length of memory that was allocated in inference mode.
const INFERENCE: usize = 1 << (usize::BITS - 2);

/// Behind the header of foreign memory.
struct Foreign {
    /// Dropped last, when nobody can read the memory any more.
    _owner: Box<dyn Any + Send + Sync>,
    read_only: bool,
}

const FOREIGN_BLOCK: usize = HEADER + size_of::<Foreign>();

#[repr(C)]
struct Header {
    refcount: AtomicU32,
    /// Twice the number of writes, and [`WATCHED`].
    version: AtomicU32,
    /// Bytes of data, and whether they are [`FOREIGN`] or of [`INFERENCE`] mode.
    length: usize,
    data: NonNull<u8>,
    /// The site of the last write, 0 before the first.
    written: AtomicU32,
}

const _: () =
    assert!(size_of::<Header>() == HEADER && HEADER.is_multiple_of(align_of::<Foreign>()));

/// A counted handle to memory.
pub struct Storage(NonNull<Header>);

// SAFETY: the count is atomic and the owner of foreign memory is `Send + Sync`. Element access
// through raw pointers is the business of the kernels, which state their own requirements.
unsafe impl Send for Storage {}
// SAFETY: as above; `&Storage` gives out no reference to elements.
unsafe impl Sync for Storage {}

fn inline_offset(bytes: usize) -> Option<usize> {
    match bytes {
        0..=32 => Some(HEADER),
        33..=INLINE_MAX => Some(64),
        _ => None,
    }
}

impl Storage {
    /// Uninitialised memory. Every byte must be written before it is read.
    #[inline]
    pub fn uninitialised(bytes: usize) -> Result<Storage> {
        let (block, data) = match inline_offset(bytes) {
            Some(offset) => {
                let block = alloc::allocate(offset + bytes.max(HEADER))?;
                // SAFETY: the block is `offset + bytes` long.
                (block, unsafe { block.add(offset) })
            }
            None => {
                let data = alloc::allocate(bytes)?;
                (header_block(data, bytes)?, data)
            }
        };
        Ok(Storage::from_parts(block, bytes, data))
    }

    /// Memory full of zeros, which large requests get from the system without touching them.
    pub fn zeroed(bytes: usize) -> Result<Storage> {
        if inline_offset(bytes).is_some() {
            let storage = Storage::uninitialised(bytes)?;
            // SAFETY: the storage was just made, is `bytes` long and not shared.
            unsafe { storage.data().write_bytes(0, bytes) };
            return Ok(storage);
        }
        let data = alloc::allocate_zeroed(bytes)?;
        Ok(Storage::from_parts(header_block(data, bytes)?, bytes, data))
    }

    /// Memory of somebody else, kept alive by `owner`.
    ///
    /// # Safety
    /// `data` is valid for reads of `bytes` bytes until `owner` is dropped, and for writes too
    /// unless `read_only`.
    pub unsafe fn foreign(
        data: NonNull<u8>,
        bytes: usize,
        owner: Box<dyn Any + Send + Sync>,
        read_only: bool,
    ) -> Result<Storage> {
        let block = alloc::allocate(FOREIGN_BLOCK)?;
        // SAFETY: the block has room behind the header, aligned as asserted above, and is ours.
        unsafe { block.add(HEADER).cast::<Foreign>().write(Foreign { _owner: owner, read_only }) };
        let storage = Storage::from_parts(block, bytes | FOREIGN, data);
        exports::imported(&storage);
        Ok(storage)
    }

    #[inline]
    fn from_parts(block: NonNull<u8>, length: usize, data: NonNull<u8>) -> Storage {
        let mark = if crate::graph::is_inference_mode() { INFERENCE } else { 0 };
        let header = block.cast::<Header>();
        // SAFETY: the block is at least HEADER bytes long, 64-byte aligned and ours alone.
        unsafe {
            header.write(Header {
                refcount: AtomicU32::new(1),
                version: AtomicU32::new(0),
                length: length | mark,
                data,
                written: AtomicU32::new(0),
            });
        }
        Storage(header)
    }

    #[inline]
    fn header(&self) -> &Header {
        // SAFETY: a handle keeps its header alive.
        unsafe { self.0.as_ref() }
    }

    /// Start of the memory. Reading and writing it is up to the caller's argument.
    #[inline]
    pub fn data(&self) -> *mut u8 {
        self.header().data.as_ptr()
    }

    /// Length in bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.header().length & !(FOREIGN | INFERENCE)
    }

    /// Whether this memory was allocated in inference mode.
    #[inline]
    pub fn is_inference(&self) -> bool {
        self.header().length & INFERENCE != 0
    }

    /// How many writes there have been, through any view.
    #[inline]
    pub fn version(&self) -> u32 {
        let word = self.header().version.load(Ordering::Acquire);
        if word & WATCHED == 0 { word / WRITE } else { self.version_after_look(false) }
    }

    /// [`Storage::version`] for somebody who depends on the bytes from now on.
    #[inline]
    pub fn version_for_saving(&self) -> u32 {
        let word = self.header().version.load(Ordering::Acquire);
        if word & WATCHED == 0 { word / WRITE } else { self.version_after_look(true) }
    }

    #[cold]
    fn version_after_look(&self, saving: bool) -> u32 {
        exports::look(self, saving);
        self.header().version.load(Ordering::Acquire) / WRITE
    }

    /// Counts a write, which has been made where the program is now.
    #[inline]
    pub fn bump_version(&self) {
        self.header().written.store(Site::here().get(), Ordering::Relaxed);
        if self.header().version.fetch_add(WRITE, Ordering::AcqRel) & WATCHED != 0 {
            exports::written(self);
        }
    }

    /// A write that is going on, and is counted even if it is left half done by unwinding.
    #[inline]
    pub(crate) fn write(&self) -> Write<'_> {
        Write(self)
    }

    /// Counts a write of somebody else.
    pub(crate) fn count_write(&self) {
        self.header().written.store(0, Ordering::Relaxed);
        self.header().version.fetch_add(WRITE, Ordering::AcqRel);
    }

    /// Whether others can write to the memory unseen.
    pub(crate) fn is_watched(&self) -> bool {
        self.header().version.load(Ordering::Acquire) & WATCHED != 0
    }

    pub(crate) fn set_watched(&self, watched: bool) {
        let word = &self.header().version;
        if watched {
            word.fetch_or(WATCHED, Ordering::AcqRel);
        } else {
            word.fetch_and(!WATCHED, Ordering::AcqRel);
        }
    }

    /// Counts on from where another memory's writes stood, which this one replaces.
    pub(crate) fn continue_version(&self, version: u32) {
        self.header().version.store(version * WRITE, Ordering::Release);
    }

    /// Sets how many writes there have been: for those who know better than the count.
    pub fn set_version(&self, version: u32) {
        let set = |word| Some(version.wrapping_mul(WRITE) | word & WATCHED);
        let _ = self.header().version.fetch_update(Ordering::AcqRel, Ordering::Acquire, set);
    }

    /// What identifies the storage while it lives.
    pub(crate) fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }

    /// Where the last write was.
    pub fn written(&self) -> Site {
        let number = NonZeroU32::new(self.header().written.load(Ordering::Relaxed));
        number.map_or(Site::UNKNOWN, Site::new)
    }

    /// What lies behind the header of foreign memory.
    #[inline]
    fn foreign_part(&self) -> Option<NonNull<Foreign>> {
        // SAFETY: the flag is set only by `foreign`, which made the block long enough.
        (self.header().length & FOREIGN != 0).then(|| unsafe { self.0.byte_add(HEADER).cast() })
    }

    /// Whether writing is forbidden (a read-only NumPy array, for one).
    #[inline]
    pub fn is_read_only(&self) -> bool {
        // SAFETY: a handle keeps the block alive, and this part of it never changes.
        self.foreign_part().is_some_and(|f| unsafe { f.as_ref() }.read_only)
    }

    /// Whether this handle is the only one.
    #[inline]
    pub fn is_unique(&self) -> bool {
        self.header().refcount.load(Ordering::Acquire) == 1
    }

    /// Whether both handles are to the same memory block.
    pub fn same(&self, other: &Storage) -> bool {
        self.0 == other.0
    }

    #[cold]
    fn release(&mut self) {
        if self.is_watched() {
            exports::forget(self.address());
        }
        let (bytes, data) = (self.bytes(), self.header().data);
        let foreign = self.foreign_part();
        let block = self.0.cast::<u8>();
        // SAFETY: the count reached zero, so that nobody else uses the blocks, nor do we below.
        // The sizes repeat those of the constructors. The owner may run any code, so it goes last.
        unsafe {
            match (foreign, inline_offset(bytes)) {
                (Some(foreign), _) => {
                    let foreign = foreign.read();
                    alloc::deallocate(block, FOREIGN_BLOCK);
                    drop(foreign);
                }
                (None, Some(offset)) => alloc::deallocate(block, offset + bytes.max(HEADER)),
                (None, None) => {
                    alloc::deallocate(data, bytes);
                    alloc::deallocate(block, HEADER);
                }
            }
        }
    }
}

/// See [`Storage::write`].
pub(crate) struct Write<'a>(&'a Storage);

impl Drop for Write<'_> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.bump_version();
        }
    }
}

/// A block for the header alone; gives the data back if there is no memory for it.
fn header_block(data: NonNull<u8>, bytes: usize) -> Result<NonNull<u8>> {
    alloc::allocate(HEADER).inspect_err(|_| {
        // SAFETY: `data` was allocated with `bytes` by our caller and is given up here.
        unsafe { alloc::deallocate(data, bytes) }
    })
}

impl Clone for Storage {
    #[inline]
    fn clone(&self) -> Self {
        self.header().refcount.fetch_add(1, Ordering::Relaxed);
        Storage(self.0)
    }
}

impl Drop for Storage {
    #[inline]
    fn drop(&mut self) {
        // A sole owner stays the sole owner, and need not subtract.
        if self.is_unique() || self.header().refcount.fetch_sub(1, Ordering::Release) == 1 {
            std::sync::atomic::fence(Ordering::Acquire);
            self.release();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn all_sizes_are_aligned_and_writable() {
        for bytes in [0, 1, 32, 33, 64, 100, 4096, 4097, 1 << 20] {
            let s = Storage::uninitialised(bytes).unwrap();
            assert_eq!(s.data() as usize % if bytes <= 32 { 32 } else { 64 }, 0);
            // SAFETY: the storage is `bytes` long and ours.
            unsafe { s.data().write_bytes(0xAB, bytes) };
            assert_eq!(s.bytes(), bytes);
        }
        let z = Storage::zeroed(10_000).unwrap();
        // SAFETY: as above.
        assert!((0..10_000).all(|i| unsafe { *z.data().add(i) } == 0));
    }

    #[test]
    fn foreign_memory_outlives_all_views() {
        let owner = Arc::new(vec![1u8, 2, 3]);
        let data = NonNull::new(owner.as_ptr().cast_mut()).unwrap();
        // SAFETY: the vector is kept alive by the Arc and never moves.
        let s = unsafe { Storage::foreign(data, 3, Box::new(owner.clone()), true) }.unwrap();
        let view = s.clone();
        drop(s);
        assert_eq!(Arc::strong_count(&owner), 2);
        assert!(view.is_read_only());
        drop(view);
        assert_eq!(Arc::strong_count(&owner), 1);
    }
}
