//! Vectorising elementary functions.
