//! Support for tests and measurements: what they run on, made from seeds. Only ever a dev-dependency.

mod disk;
mod random;

pub use disk::{Content, GeneratedDisk, Mutation};
pub use random::Random;
