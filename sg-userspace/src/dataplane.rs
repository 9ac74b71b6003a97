//! From tables to the kernel: load, write, attach, flip.
pub mod object;
pub mod sys;
