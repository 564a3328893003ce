//! What `set_printoptions` sets: the choices a user has about how tensors print.
//!
//! An [`Options`] is a plain value that every printing function takes, so that printing itself
//! depends on nothing global. The process-wide value behind `set_printoptions` is kept here too,
//! for the callers that have no value of their own: [`printoptions`] reads it,
//! [`set_printoptions`] changes it as PyTorch's function of that name does.

use crate::bail;
use crate::error::{Error, Kind, Result};
use parking_lot::RwLock;
use std::str::FromStr;

/// How tensors print; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Digits after the point of floating-point elements. Sixteen bits, because that is as
    /// many as the standard library's formatter takes.
    pub precision: u16,
    /// Tensors with more elements than this show only their edges. A float, because the profile
    /// `full` (and many users) say infinity.
    pub threshold: f64,
    /// How many elements at either end of a dimension are shown when only edges are.
    pub edgeitems: usize,
    /// Characters per line, at which rows and suffixes wrap.
    pub linewidth: usize,
    /// Scientific notation: always, never, or (`None`) when the values call for it.
    pub sci_mode: Option<bool>,
}

impl Options {
    const DEFAULT: Options =
        Options { precision: 4, threshold: 1000.0, edgeitems: 3, linewidth: 80, sci_mode: None };

    /// These options after a call of `set_printoptions` with `change`.
    ///
    /// # Errors
    /// `Value` if a number of `change` is negative, NaN or too large.
    pub fn changed(self, change: &Change) -> Result<Options> {
        let mut new = match change.profile {
            None => self,
            Some(profile) => profile.options(),
        };
        if let Some(digits) = change.precision {
            new.precision = non_negative("precision", digits)?;
        }
        if let Some(threshold) = change.threshold {
            if threshold.is_nan() {
                bail!(Value, OP, "threshold must be a number, got nan");
            }
            new.threshold = threshold;
        }
        if let Some(items) = change.edgeitems {
            new.edgeitems = non_negative("edgeitems", items)?;
        }
        if let Some(width) = change.linewidth {
            new.linewidth = non_negative("linewidth", width)?;
        }
        new.sci_mode = change.sci_mode;
        Ok(new)
    }
}

impl Default for Options {
    fn default() -> Self {
        Options::DEFAULT
    }
}

/// A named set of options that `set_printoptions(profile=…)` starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// The defaults.
    Default,
    /// Two digits, two items at the edges.
    Short,
    /// Every element is shown.
    Full,
}

impl Profile {
    fn options(self) -> Options {
        let default = Options::DEFAULT;
        match self {
            Profile::Default => default,
            Profile::Short => Options { precision: 2, edgeitems: 2, ..default },
            Profile::Full => Options { threshold: f64::INFINITY, ..default },
        }
    }
}

impl FromStr for Profile {
    type Err = Error;

    /// Reads `default`, `short` or `full`; PyTorch silently ignores anything else, here it is an
    /// error of kind `Value`.
    fn from_str(name: &str) -> Result<Profile> {
        match name {
            "default" => Ok(Profile::Default),
            "short" => Ok(Profile::Short),
            "full" => Ok(Profile::Full),
            _ => bail!(Value, OP, "profile must be 'default', 'short' or 'full', got '{name}'"),
        }
    }
}

/// The arguments of one call of `set_printoptions`; `None` leaves an option as it is.
///
/// Two rules are PyTorch's and easily overlooked: the profile comes first, whatever the order of
/// the arguments, and `sci_mode` is set by *every* call, so leaving it out resets it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    /// The set of options to start from.
    pub profile: Option<Profile>,
    /// See [`Options::precision`].
    pub precision: Option<i64>,
    /// See [`Options::threshold`].
    pub threshold: Option<f64>,
    /// See [`Options::edgeitems`].
    pub edgeitems: Option<i64>,
    /// See [`Options::linewidth`].
    pub linewidth: Option<i64>,
    /// See [`Options::sci_mode`].
    pub sci_mode: Option<bool>,
}

const OP: &str = "set_printoptions";

fn non_negative<T: TryFrom<i64>>(name: &str, value: i64) -> Result<T> {
    if value < 0 {
        bail!(Value, OP, "{name} must not be negative, got {value}");
    }
    T::try_from(value)
        .map_err(|_| Error::new(Kind::Value, OP, format!("{name} is too large: {value}")))
}

static PROCESS_WIDE: RwLock<Options> = RwLock::new(Options::DEFAULT);

/// The process-wide options.
pub fn printoptions() -> Options {
    *PROCESS_WIDE.read()
}

/// Replaces the process-wide options and returns the old ones (what a context manager restores).
pub fn replace_printoptions(options: Options) -> Options {
    std::mem::replace(&mut *PROCESS_WIDE.write(), options)
}

/// Changes the process-wide options, all or (on error) none of them.
///
/// ```
/// use wengert::format::{Change, Profile, printoptions, set_printoptions};
/// set_printoptions(&Change { precision: Some(2), ..Change::default() })?;
/// assert_eq!(printoptions().precision, 2);
/// set_printoptions(&Change { profile: Some(Profile::Default), ..Change::default() })?;
/// assert_eq!(printoptions().precision, 4);
/// # Ok::<(), wengert::Error>(())
/// ```
///
/// # Errors
/// `Value` if a number of `change` is negative, NaN or too large.
pub fn set_printoptions(change: &Change) -> Result<()> {
    let mut options = PROCESS_WIDE.write();
    *options = options.changed(change)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_starts_from_its_profile_and_always_sets_sci_mode() {
        let before = Options { edgeitems: 7, sci_mode: Some(true), ..Options::default() };
        let kept = before.changed(&Change { linewidth: Some(40), ..Change::default() }).unwrap();
        assert_eq!(kept, Options { edgeitems: 7, linewidth: 40, ..Options::default() });

        let change =
            Change { profile: Some(Profile::Short), precision: Some(6), ..Change::default() };
        let short = before.changed(&change).unwrap();
        assert_eq!(short, Options { precision: 6, edgeitems: 2, ..Options::default() });

        let full = Change { profile: Some("full".parse().unwrap()), ..Change::default() };
        assert_eq!(before.changed(&full).unwrap().threshold, f64::INFINITY);
    }

    #[test]
    fn nonsense_is_refused() {
        let nonsense = [
            Change { precision: Some(-1), ..Change::default() },
            Change { precision: Some(65_536), ..Change::default() },
            Change { threshold: Some(f64::NAN), ..Change::default() },
            Change { edgeitems: Some(-3), ..Change::default() },
            Change { linewidth: Some(-80), ..Change::default() },
        ];
        for change in nonsense {
            let error = Options::default().changed(&change).unwrap_err();
            assert_eq!(error.kind(), Kind::Value);
            assert_eq!(error.op(), "set_printoptions");
        }
        let error = "loud".parse::<Profile>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "set_printoptions: profile must be 'default', 'short' or 'full', got 'loud'"
        );
    }
}
