//! Numbers that whoever runs a test may ask for: `tools/long` asks for more than every change is tested with.

/// The number in an environment variable, or else the usual one. Panics where it is no number.
#[track_caller]
pub fn asked(name: &str, usual: u64) -> u64 {
    let asked = std::env::var(name);
    asked.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}
