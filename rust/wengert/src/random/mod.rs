//! Generator streams.
