//! Times as people write them: `90s`, `30m`, `2h`, `15d`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A length of time in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// Units, the largest first.
const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];

impl Period {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Milliseconds, as times since 1970 are counted.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Period {
    /// The shortest exact text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let exact = |(unit, _): &&(u64, &str)| seconds != 0 && seconds.is_multiple_of(*unit);
        let (unit, word) = UNITS.iter().find(exact).unwrap_or(&(1, "s"));
        write!(f, "{}{word}", seconds / unit)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a time is a whole number with s, m, h or d behind it, such as 30m".to_string();
        let (number, word) = text.split_at(text.len() - usize::from(text.is_ascii() && !text.is_empty()));
        let (seconds, _) = UNITS.iter().find(|(_, unit)| *unit == word).ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(*seconds).map(Self::seconds).ok_or_else(wrong)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        crate::text::deserialize(deserializer)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        let seconds = [("90s", 90), ("30m", 1800), ("2h", 7200), ("1d", 86_400), ("0s", 0), ("24h", 86_400)];
        for (text, expected) in seconds {
            assert_eq!(text.parse(), Ok(Period::seconds(expected)), "{text}");
        }
        for text in ["", "5", "m", "-1m", "1.5h", "1w", "1ä", "99999999999999999999d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
        assert_eq!([0, 90, 120, 86_400].map(|s| Period::seconds(s).to_string()), ["0s", "90s", "2m", "1d"]);
    }
}
