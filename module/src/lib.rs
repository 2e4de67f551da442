//! Reads kernel livepatch modules and decides what may be loaded together.
