//! Where in the user's program something happened.
//!
//! An error of backward is found long after the line that caused it. So each recorded operation,
//! each write to memory and each pass that frees a graph remembers its [`Site`]: a number that the
//! embedding language made up, four bytes, kept in padding. What it stands for is looked up when
//! an error or a report needs it, and never otherwise.
//!
//! The language registers two functions, a [`Host`]. `here` answers in a few instructions where
//! its running code is. It can do so only on a thread that executes its code: while a thread
//! computes without the interpreter, it *holds* the site from before ([`Held`]); worker threads
//! hold [`Site::UNKNOWN`] for ever.
//!
//! Without a host, in a Rust program, every site is unknown, and messages leave it out.

use crate::per_thread::{PerThread, here};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::OnceLock;

/// A place in the user's program, as a number that the [`Host`] understands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Site(NonZeroU32);

impl Site {
    /// A place that nobody knows.
    pub const UNKNOWN: Site = Site(NonZeroU32::MIN);

    /// The site of a number, which is above one.
    pub const fn new(number: NonZeroU32) -> Site {
        Site(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// Where the embedding language's code is now.
    #[inline]
    pub fn here() -> Site {
        Site::of(here())
    }

    /// [`Site::here`] for somebody who has the thread's variables at hand.
    #[inline]
    pub(super) fn of(thread: &PerThread) -> Site {
        match thread.held.get() {
            Some(held) => held,
            None => HOST.get().map_or(Site::UNKNOWN, |host| (host.here)()),
        }
    }

    /// What the host knows about the place.
    pub fn place(self) -> Option<Place> {
        if self == Site::UNKNOWN {
            return None;
        }
        (HOST.get()?.place)(self)
    }
}

/// File, line and function of a [`Site`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Path of the source file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Name of the function.
    pub function: String,
    /// The source of the line, if it can be read.
    pub text: Option<String>,
}

/// As in `train.py:12, in step: loss.backward()`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}, in {}", self.file, self.line, self.function)?;
        match &self.text {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

/// What an embedding language tells about its running code.
pub struct Host {
    /// Where it is now. Called only on threads that execute its code; raises no error.
    pub here: fn() -> Site,
    /// What a site stands for. Called from any thread, with no lock of the graph held.
    pub place: fn(Site) -> Option<Place>,
}

static HOST: OnceLock<Host> = OnceLock::new();

/// Installs the embedding language's functions; the first one wins.
pub fn set_host(host: Host) {
    let _ = HOST.set(host);
}

/// A site that stands for everything this thread does until the guard is dropped.
///
/// ```
/// use wengert::graph::site::{Held, Site};
/// let _held = Held::new(Site::UNKNOWN);
/// assert_eq!(Site::here(), Site::UNKNOWN);
/// ```
pub struct Held(Option<Site>);

impl Held {
    /// Holds `site`.
    #[must_use = "the site is held as long as the guard lives"]
    pub fn new(site: Site) -> Held {
        Held(here().held.replace(Some(site)))
    }

    /// For a thread that never runs the host's code.
    pub fn forever(site: Site) {
        here().held.set(Some(site));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        here().held.set(self.0);
    }
}
