//! A list of extents as JSON, as other programs print what changed.
//!
//! | who | shape | what counts as changed |
//! |---|---|---|
//! | `qemu-img map --output=json` | `start`, `length`, `depth`, `present`, … | what lies in the image itself: `depth` 0, unless `present` is false |
//! | `rbd diff --format json` | `offset`, `length`, `exists` | every extent, also one that is there no more |
//! | `nbdinfo --json --map=qemu:dirty-bitmap:NAME` | `offset`, `length`, `description` | every extent that is not `clean` |
//!
//! **Invariant**: a list that is not ascending, overlaps itself, or passes the disk's end is of another disk or damaged, and
//! none of it is used.

use failback_blockio::{ChangeFeed, DiskError};
use failback_model::limits::{EXTENT_LIST_MAX, EXTENT_LIST_MAX_BYTES};
use failback_model::{ByteRange, Code, Finding};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Changed runs, ascending and apart.
#[derive(Debug)]
pub(crate) struct ExtentList(Vec<ByteRange>);

/// One extent of any of the shapes; what else is said of it does not matter.
#[derive(Deserialize)]
struct Extent {
    start: Option<u64>,
    /// Where there is a `start`, a place in the image's file.
    offset: Option<u64>,
    length: u64,
    #[serde(default)]
    depth: u64,
    present: Option<bool>,
    description: Option<String>,
}

/// Takes extents one by one: a list is never held as JSON.
struct Taker {
    length_bytes: u64,
}

impl ExtentList {
    /// Reads a list of a disk of this length.
    pub(crate) fn open(path: &Path, length_bytes: u64) -> Result<Self, Finding> {
        let unusable = |why: String| {
            Finding::warning(Code::FeedUnusable, format!("{}: {why}", path.display())).about(path)
        };
        let file = File::open(path).map_err(|error| unusable(error.to_string()))?;
        parse_extents(BufReader::new(file), length_bytes).map(Self).map_err(unusable)
    }
}

/// Reads a list of a disk of this length: changed runs, ascending and apart; or why it cannot be used.
pub fn parse_extents(json: impl Read, length_bytes: u64) -> Result<Vec<ByteRange>, String> {
    let mut json = json.take(EXTENT_LIST_MAX_BYTES + 1);
    let parsed = {
        let mut reader = serde_json::Deserializer::from_reader(&mut json);
        let found = reader.deserialize_seq(Taker { length_bytes });
        found.and_then(|found| reader.end().map(|()| found))
    };
    if json.limit() == 0 {
        return Err(format!("it is longer than {EXTENT_LIST_MAX_BYTES} bytes"));
    }
    parsed.map_err(|error| error.to_string())
}

impl<'de> Visitor<'de> for Taker {
    type Value = Vec<ByteRange>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of extents")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut changed, mut end, mut count) = (Vec::<ByteRange>::new(), 0, 0);
        while let Some(extent) = list.next_element::<Extent>()? {
            count += 1;
            if count > EXTENT_LIST_MAX {
                return Err(A::Error::custom(format!("it has more than {EXTENT_LIST_MAX} extents")));
            }
            let start = extent.start.or(extent.offset);
            let start = start.ok_or_else(|| A::Error::custom("an extent has neither start nor offset"))?;
            let run = ByteRange::at(start, extent.length).filter(|run| run.end() <= self.length_bytes);
            let Some(run) = run else {
                let why = format!("an extent at {start} passes the disk's end, {}", self.length_bytes);
                return Err(A::Error::custom(why));
            };
            if run.start() < end || run.is_empty() {
                let why = format!("the extent at {} is empty or not behind the one before", run.start());
                return Err(A::Error::custom(why));
            }
            end = run.end();
            match changed.last_mut() {
                _ if extent.is_unchanged() => {}
                Some(before) if before.end() == run.start() => {
                    *before = ByteRange::new(before.start(), run.end())
                }
                _ => changed.push(run),
            }
        }
        Ok(changed)
    }
}

impl Extent {
    fn is_unchanged(&self) -> bool {
        self.depth > 0 || self.present == Some(false) || self.description.as_deref() == Some("clean")
    }
}

impl ChangeFeed for ExtentList {
    fn next_changed(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        let next = self.0.get(self.0.partition_point(|run| run.end() <= from_bytes));
        Ok(next.map(|run| ByteRange::new(run.start().max(from_bytes), run.end())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Vec<(u64, u64)>, String> {
        parse_extents(json.as_bytes(), 1 << 20)
            .map(|runs| runs.iter().map(|run| (run.start(), run.end())).collect())
    }

    #[test]
    fn each_shape_says_what_changed() {
        let qemu = r#"[{"start":0,"length":65536,"depth":0,"present":true,"zero":false,"data":true,"compressed":false,"offset":327680},
            {"start":65536,"length":65536,"depth":1,"present":true,"zero":false,"data":true,"offset":0},
            {"start":131072,"length":65536,"depth":0,"present":true,"zero":true,"data":false},
            {"start":196608,"length":65536,"depth":0,"present":false,"zero":true,"data":false}]"#;
        assert_eq!(parsed(qemu), Ok(vec![(0, 65536), (131_072, 196_608)]));
        let rbd = r#"[{"offset":0,"length":4096,"exists":"true"},{"offset":4096,"length":4096,"exists":"false"},{"offset":16384,"length":1,"exists":true}]"#;
        assert_eq!(parsed(rbd), Ok(vec![(0, 8192), (16384, 16385)]));
        let nbdinfo = r#"[{"offset":0,"length":65536,"type":0,"description":"clean"},{"offset":65536,"length":1,"type":1,"description":"dirty"}]"#;
        assert_eq!(parsed(nbdinfo), Ok(vec![(65536, 65537)]));
        assert_eq!(parsed("[]"), Ok(vec![]));
    }

    #[test]
    fn a_list_that_cannot_be_of_this_disk_is_not_used() {
        for (json, why) in [
            (r#"[{"start":4096,"length":4096},{"start":0,"length":4096}]"#, "not behind"),
            (r#"[{"start":0,"length":4096},{"start":4095,"length":4096}]"#, "not behind"),
            (r#"[{"start":0,"length":0}]"#, "empty"),
            (r#"[{"start":1048576,"length":1}]"#, "passes"),
            (r#"[{"start":18446744073709551615,"length":2}]"#, "passes"),
            (r#"[{"start":-1,"length":2}]"#, "invalid value"),
            (r#"[{"start":0.5,"length":2}]"#, "invalid type"),
            (r#"[{"length":2}]"#, "neither start"),
            (r#"[{"start":0}]"#, "missing field"),
            (r#"[{"start":0,"start":1,"length":2}]"#, "duplicate field"),
            (r#"[{"start":0,"length":2}"#, "EOF"),
            (r#"[{"start":0,"length":2}] []"#, "trailing"),
            (r#"{"start":0,"length":2}"#, "invalid type"),
            ("", "EOF"),
        ] {
            let said = parsed(json).expect_err(json);
            assert!(said.contains(why), "{json}: {said}");
        }
    }

    #[test]
    fn a_list_without_end_is_read_only_so_far() {
        let endless = std::io::repeat(b' ');
        assert!(parse_extents(endless, 1).expect_err("refused").contains("longer"));
    }
}
