//! Where the user's Python code is: a number per instruction, in some thirty machine instructions.
//!
//! Every recorded operation and every write asks (see `wengert::graph::site`), so it must cost
//! nothing that can be measured. The obvious way, `PyEval_GetFrame`, makes a frame object for each
//! call of a Python function that computes something, which takes longer than adding two numbers.
//!
//! So the interpreter's own record of the running function is read: the thread state points to it,
//! and it points to the instruction that is being executed. Four loads. Where these pointers lie is
//! not promised by CPython's stable interface, so it is **measured**: when the module is loaded,
//! known frames are looked up the official way, and the words of the internal structures that hold
//! the answers are found by comparing ([`Layout::measure`]), twice, on different frames. Where that
//! does not succeed, the official functions are used, which are merely slower.
//!
//! The address of an instruction identifies it as long as its code object lives. Each address seen
//! gets a number, and a table of the last [`KEPT`] numbers keeps their code objects alive. A small
//! cache in front of the table, indexed by the address, answers nearly always. Lines and names are
//! looked up from the code object when an error needs them.
//!
//! Frames of this package and of Python's import system are passed over: the line that a user
//! wants to see is in the user's code.
//!
//! Everything here runs with the interpreter lock held, which also protects the cache: threads
//! that give the lock up hold a site ([`detached`]).
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::ptr;
use std::sync::LazyLock;
use wengert::graph::Site;
use wengert::graph::site::{Held, Host, Place, set_host};
use wengert::kernels::interrupt::Interruptible;

/// How many places are remembered; the oldest are forgotten first.
pub const KEPT: usize = 1 << 16;
/// Lines in a stack.
const DEEPEST: usize = 64;
/// Entries of the cache, a power of two.
const CACHED: usize = 1 << 12;

type Code = *mut ffi::PyObject;

/// Where CPython keeps what we need, as distances in bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Layout {
    /// In the thread state: the pointer to the running frame, or to a structure that holds it.
    state: usize,
    /// In that structure, if there is one.
    inner: Option<usize>,
    /// In the frame: the code object.
    code: usize,
    /// In the frame: the address of the instruction.
    instruction: usize,
    /// In the frame: the calling frame.
    previous: usize,
    /// From a code object to its first instruction.
    first: usize,
}

/// A place in the program as we know it.
struct Known {
    number: u32,
    address: usize,
    code: Py<PyAny>,
    /// Bytes from the code object's first instruction.
    offset: u32,
}

/// What an address in the cache stands for.
#[derive(Clone, Copy)]
struct Cached {
    address: usize,
    /// A site's number, or [`PASS_OVER`].
    number: u32,
}

/// Stands for code of this package.
const PASS_OVER: u32 = 0;

struct State {
    layout: Option<Layout>,
    /// The class of code objects: frames may stand for other things.
    code_type: *mut ffi::PyTypeObject,
    cache: [Cached; CACHED],
    numbers: HashMap<usize, u32>,
    /// A ring: number `n` is at `n % KEPT`.
    known: Vec<Known>,
    next: u32,
    /// Paths that begin so are passed over.
    home: String,
}

struct Guarded(UnsafeCell<Option<Box<State>>>);
// SAFETY: used with the interpreter lock held, and no reference into it outlives a function here
// that runs no Python code meanwhile; where Python runs, the reference is taken anew.
unsafe impl Sync for Guarded {}

static STATE: Guarded = Guarded(UnsafeCell::new(None));

/// # Safety
/// The interpreter lock is held, and no other reference is in use.
#[inline]
unsafe fn state<'a>() -> Option<&'a mut State> {
    // SAFETY: passed on.
    unsafe { (*STATE.0.get()).as_deref_mut() }
}

/// # Safety
/// There is a pointer at that distance.
#[inline]
unsafe fn word(base: usize, distance: usize) -> usize {
    // SAFETY: passed on.
    unsafe { ptr::with_exposed_provenance::<usize>(base + distance).read() }
}

#[inline]
fn slot(address: usize) -> usize {
    // Instructions are two bytes long, functions lie far apart: spread both.
    ((address >> 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (usize::BITS - 12)) & (CACHED - 1)
}

const _: () = assert!(CACHED == 1 << 12);

fn here() -> Site {
    // SAFETY: the engine asks only on threads that run Python code, with the lock held.
    let Some(state) = (unsafe { state() }) else { return Site::UNKNOWN };
    let Some(layout) = &state.layout else { return slow_here() };
    // SAFETY: as above, so there is a thread state. Its layout and that of frames were measured.
    let (frame, address) = unsafe {
        let mut frame = word(ffi::PyThreadState_Get() as usize, layout.state);
        if let Some(inner) = layout.inner {
            frame = word(frame, inner);
        }
        if frame == 0 {
            return Site::UNKNOWN;
        }
        (frame, word(frame, layout.instruction))
    };
    let cached = &state.cache[slot(address)];
    if cached.address == address
        && let Some(number) = NonZeroU32::new(cached.number)
    {
        return Site::new(number);
    }
    search(frame)
}

/// The innermost frame that is the user's.
#[cold]
fn search(mut frame: usize) -> Site {
    while frame != 0 {
        // SAFETY: with the lock held the frames of this thread stay as they are.
        let (number, previous) = unsafe { (number_of(frame), previous_of(frame)) };
        if let Some(number) = NonZeroU32::new(number) {
            return Site::new(number);
        }
        frame = previous;
    }
    Site::UNKNOWN
}

/// # Safety
/// The lock is held, the layout is known and `frame` is one of this thread's frames.
unsafe fn previous_of(frame: usize) -> usize {
    // SAFETY: passed on.
    unsafe { state().and_then(|s| s.layout).map_or(0, |l| word(frame, l.previous)) }
}

/// # Safety
/// As for [`previous_of`].
unsafe fn number_of(frame: usize) -> u32 {
    // SAFETY: passed on.
    unsafe {
        let Some(state) = state() else { return PASS_OVER };
        let Some(layout) = state.layout else { return PASS_OVER };
        let address = word(frame, layout.instruction);
        let cached = state.cache[slot(address)];
        if cached.address == address {
            return cached.number;
        }
        // Newer versions mark borrowed references in the low bits.
        let code = (word(frame, layout.code) & !7) as Code;
        if code.is_null() || ffi::Py_TYPE(code) != state.code_type {
            return PASS_OVER;
        }
        let offset = address.wrapping_sub(code as usize + layout.first);
        number(address, code, offset as u32)
    }
}

/// The number of an instruction, by its address and what that means.
///
/// # Safety
/// The lock is held and `code` is a code object.
unsafe fn number(address: usize, code: Code, offset: u32) -> u32 {
    // SAFETY: passed on. Between the two uses of the state, attribute access on a code object runs
    // no Python code.
    unsafe {
        let Some(known) = state().map(|s| s.numbers.get(&address).copied()) else {
            return PASS_OVER;
        };
        let py = Python::assume_attached();
        let number = match known {
            Some(number) => number,
            None => {
                let code = Bound::from_borrowed_ptr(py, code);
                let pass_over = is_ours(&code);
                let Some(state) = state() else { return PASS_OVER };
                let number = if pass_over { PASS_OVER } else { state.next };
                if !pass_over {
                    // A bit is left to those who store sites. The wrapped number has the ring's first place.
                    state.next =
                        if state.next >= u32::MAX / 2 { KEPT as u32 } else { state.next + 1 };
                }
                remember(state, Known { number, address, code: code.unbind(), offset });
                number
            }
        };
        if let Some(state) = state() {
            state.cache[slot(address)] = Cached { address, number };
        }
        number
    }
}

/// Puts a place into the table and forgets the oldest.
fn remember(state: &mut State, known: Known) {
    state.numbers.insert(known.address, known.number);
    if known.number == PASS_OVER {
        // Code of the package and of the import system: as long as the process.
        std::mem::forget(known.code);
        return;
    }
    let at = known.number as usize % KEPT;
    let Some(old) = state.known.get_mut(at) else {
        state.known.push(known);
        return;
    };
    let old = std::mem::replace(old, known);
    state.numbers.remove(&old.address);
    let cached = &mut state.cache[slot(old.address)];
    if cached.address == old.address {
        *cached = Cached { address: 0, number: PASS_OVER };
    }
    // The last thing done with the state: freeing a code object could run code.
    drop(old);
}

/// Whether code belongs to this package or to Python's machinery.
fn is_ours(code: &Bound<'_, PyAny>) -> bool {
    let name = code.getattr("co_filename").and_then(|f| f.extract::<String>());
    let Ok(name) = name else { return true };
    // SAFETY: the lock is held, as we have a `Bound`; nothing below runs Python code.
    let home = unsafe { state() }.map_or("", |s| s.home.as_str());
    name.starts_with("<frozen ") || name == "<shim>" || (!home.is_empty() && name.starts_with(home))
}

/// The way through official functions, which make frame objects.
#[cold]
fn slow_here() -> Site {
    // SAFETY: the lock is held, see `here`. The frame is borrowed from the running thread.
    unsafe {
        let py = Python::assume_attached();
        let mut frame = Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast());
        while let Some(f) = frame {
            let Some((code, offset)) = official(&f) else { return Site::UNKNOWN };
            let number = number(code.as_ptr() as usize + offset as usize, code.as_ptr(), offset);
            if let Some(number) = NonZeroU32::new(number) {
                return Site::new(number);
            }
            frame = f.getattr("f_back").ok().filter(|b| !b.is_none());
        }
    }
    Site::UNKNOWN
}

/// Code object of a frame and the offset of its instruction.
fn official<'py>(frame: &Bound<'py, PyAny>) -> Option<(Bound<'py, PyAny>, u32)> {
    // SAFETY: a frame, as callers know, of which this gives a new reference.
    let code = unsafe {
        Bound::from_owned_ptr_or_opt(frame.py(), ffi::PyFrame_GetCode(frame.as_ptr().cast()).cast())
    }?;
    let offset = match *PYFRAME_GETLASTI {
        // SAFETY: a frame.
        Some(offset) => unsafe { offset(frame.as_ptr()) }.into(),
        None => frame.getattr("f_lasti").ok()?.extract::<i64>().ok()?,
    };
    // A frame that has not begun says -1.
    Some((code, u32::try_from(offset.max(0)).ok()?))
}

type GetLasti = unsafe extern "C" fn(*mut ffi::PyObject) -> std::ffi::c_int;

/// CPython exports it, but not as a part of its stable interface.
static PYFRAME_GETLASTI: LazyLock<Option<GetLasti>> = LazyLock::new(|| {
    #[cfg(unix)]
    // SAFETY: the function's signature is this one in every version that has it.
    return unsafe {
        let found = libc::dlsym(libc::RTLD_DEFAULT, c"PyFrame_GetLasti".as_ptr());
        (!found.is_null()).then(|| std::mem::transmute::<*mut std::ffi::c_void, GetLasti>(found))
    };
    #[cfg(not(unix))]
    None
});

impl Layout {
    /// Finds the running frame's internal structure by what the official functions say about it.
    ///
    /// Reads the thread state and frames of the running thread, which are longer than what is
    /// looked at, and the structure between the two that versions below 3.13 have.
    fn measure(py: Python<'_>) -> Option<Layout> {
        const WORD: usize = size_of::<usize>();
        let find = |base: usize, words: usize, wanted: usize, mask: usize| {
            // SAFETY: see above; callers pass the address of such a structure.
            (0..words).map(|i| i * WORD).find(|&d| unsafe { word(base, d) } & mask == wanted)
        };
        if WORD != 8 || version(py)? < (3, 11) {
            return None;
        }
        // SAFETY: the lock is held; the frame object is borrowed from the running thread.
        let object: Bound<'_, PyAny> =
            unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetFrame().cast())? };
        let (code, offset) = official(&object)?;
        let back = object.getattr("f_back").ok().filter(|b| !b.is_none())?;
        // A frame object begins with its head, the calling frame object and the internal frame.
        let internal = |o: &Bound<'_, PyAny>| {
            let head = size_of::<ffi::PyObject>();
            // SAFETY: so it is laid out since 3.11, and it is longer than that.
            unsafe { word(o.as_ptr() as usize, head + WORD) }
        };
        let (frame, caller) = (internal(&object), internal(&back));
        if frame == 0 || caller == 0 || frame % WORD != 0 {
            return None;
        }
        // SAFETY: attached threads have a state.
        let thread = unsafe { ffi::PyThreadState_Get() } as usize;
        let (state, inner) = if version(py)? >= (3, 13) {
            (find(thread, 16, frame, usize::MAX)?, None)
        } else {
            // `cframe`, behind three pointers and seven numbers.
            let state = 7 * WORD;
            // SAFETY: see above.
            let between = unsafe { word(thread, state) };
            if between == 0 || between % WORD != 0 {
                return None;
            }
            (state, Some(find(between, 2, frame, usize::MAX)?))
        };
        let code_at = find(frame, 8, code.as_ptr() as usize, !7)?;
        let previous = find(frame, 8, caller, usize::MAX)?;
        // Instructions lie inside the code object, behind its fixed part.
        let length = code.getattr("co_code").ok()?.len().ok()?;
        let begin = code.as_ptr() as usize;
        let instruction = (0..10).map(|i| i * WORD).find(|&d| {
            // SAFETY: see above.
            let address = unsafe { word(frame, d) };
            d != code_at && address > begin + 64 && address < begin + 1024 + length
        })?;
        // SAFETY: see above.
        let address = unsafe { word(frame, instruction) };
        let first = (address - begin).checked_sub(offset as usize)?;
        Some(Layout { state, inner, code: code_at, instruction, previous, first })
    }
}

fn version(py: Python<'_>) -> Option<(u8, u8)> {
    let v = py.version_info();
    Some((v.major, v.minor))
}

/// The code object that a site is in, and the offset of the instruction.
pub fn instruction(py: Python<'_>, site: Site) -> Option<(Py<PyAny>, u32)> {
    // SAFETY: the lock is held; counting a reference runs no Python code.
    let known = unsafe { state() }?.known.get(site.get() as usize % KEPT)?;
    (known.number == site.get()).then(|| (known.code.clone_ref(py), known.offset))
}

/// File, line and function of a site.
fn place(site: Site) -> Option<Place> {
    Python::attach(|py| {
        let (code, offset) = instruction(py, site)?;
        describe(code.bind(py), offset).ok()
    })
}

fn describe(code: &Bound<'_, PyAny>, offset: u32) -> PyResult<Place> {
    let py = code.py();
    let file: String = code.getattr("co_filename")?.extract()?;
    let mut line: u32 = code.getattr("co_firstlineno")?.extract()?;
    for part in code.call_method0("co_lines")?.try_iter()? {
        let (start, end, at): (u32, u32, Option<u32>) = part?.extract()?;
        if start <= offset && offset < end {
            line = at.unwrap_or(line);
            break;
        }
    }
    let function: String = code.getattr("co_qualname")?.extract()?;
    let source = py.import("linecache")?.call_method1("getline", (&file, line));
    let text = source.and_then(|s| s.extract::<String>()).unwrap_or_default();
    let text = Some(text.trim().to_owned()).filter(|t| !t.is_empty());
    Ok(Place { file, line, function, text })
}

/// Runs engine code without the interpreter lock. What it records has the site of now. Long loops may
/// be left by unwinding with an error (Ctrl-C), which the caller catches.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let site = Site::here();
    #[allow(clippy::disallowed_methods)] // This is what is to be called instead.
    py.detach(|| {
        let _held = Held::new(site);
        let _interruptible = Interruptible::new(true);
        work()
    })
}

/// The user's lines that lead here, innermost first.
pub fn stack() -> Vec<Site> {
    let mut sites = Vec::new();
    // SAFETY: the lock is held, as callers run for Python; frames as in `here`.
    unsafe {
        let Some(layout) = state().and_then(|s| s.layout) else { return vec![Site::here()] };
        let mut frame = word(ffi::PyThreadState_Get() as usize, layout.state);
        if let Some(inner) = layout.inner {
            frame = word(frame, inner);
        }
        while frame != 0 && sites.len() < DEEPEST {
            sites.extend(NonZeroU32::new(number_of(frame)).map(Site::new));
            frame = word(frame, layout.previous);
        }
    }
    sites
}

/// A site as users see it: `(file, line, function)`, or None.
pub fn location(site: Site) -> Option<(String, u32, String)> {
    site.place().map(|p| (p.file, p.line, p.function))
}

/// Looks at the calling frame; for the start of the module.
#[pyfunction]
fn _measure(py: Python<'_>) -> PyResult<()> {
    let measured = Layout::measure(py);
    // SAFETY: the lock is held.
    if let Some(state) = unsafe { state() }
        && state.layout != measured
    {
        state.layout = None;
    }
    Ok(())
}

/// Whether sites are read from the interpreter's own structures, for tests and benches.
#[pyfunction]
fn _sites_are_fast(_py: Python<'_>) -> bool {
    // SAFETY: the lock is held.
    unsafe { state() }.is_some_and(|s| s.layout.is_some())
}

/// Uses the official functions from now on, for tests and benches.
#[pyfunction]
fn _make_sites_slow(_py: Python<'_>) {
    // SAFETY: the lock is held.
    if let Some(state) = unsafe { state() } {
        state.layout = None;
    }
}

/// Measures the interpreter and tells the engine whom to ask.
pub fn install(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    let file: Option<String> = m.getattr("__file__").and_then(|f| f.extract()).ok();
    let home = file.as_deref().and_then(|f| Path::new(f).parent()?.to_str());
    let home = home.map_or(String::new(), |h| format!("{h}{}", std::path::MAIN_SEPARATOR));
    let state = State {
        layout: Layout::measure(py),
        code_type: py.eval(c"type((lambda: 0).__code__)", None, None)?.as_ptr().cast(),
        cache: [Cached { address: 0, number: PASS_OVER }; CACHED],
        numbers: HashMap::new(),
        known: Vec::new(),
        // Numbers 0 and 1 are taken; the ring begins at its beginning.
        next: KEPT as u32,
        home,
    };
    // SAFETY: the lock is held and the module is initialised once.
    unsafe { *STATE.0.get() = Some(Box::new(state)) };
    // The second look, from inside functions that call each other.
    let names = PyDict::new(py);
    names.set_item(PyString::intern(py, "look"), wrap_pyfunction!(_measure, m)?)?;
    py.run(c"def inner(look):\n    a = 1\n    look()\n    return a\ndef outer(look):\n    return inner(look)\nouter(look)", Some(&names), None)?;
    m.add_function(wrap_pyfunction!(_sites_are_fast, m)?)?;
    m.add_function(wrap_pyfunction!(_make_sites_slow, m)?)?;
    set_host(Host { here, place });
    Ok(())
}
