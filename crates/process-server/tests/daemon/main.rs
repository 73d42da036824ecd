//! The daemon from outside: its files, and its life as a process.

mod files;
mod life;
