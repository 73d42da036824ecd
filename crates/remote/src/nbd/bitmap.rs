//! A dirty bitmap of an NBD export as a change feed.

use super::NbdUri;
use super::error::NbdError;
use super::map::ExtentMap;
use super::pool::{Connector, Patience, Pool};
use failback_blockio::{ChangeFeed, DiskError, Operation};
use failback_model::{ByteRange, Code, Finding};
use std::path::PathBuf;

const NAMESPACE: &str = "qemu:dirty-bitmap:";
const DIRTY: u32 = 1;

/// What a bitmap of QEMU says was written to.
#[derive(Debug)]
pub(crate) struct Bitmap {
    name: PathBuf,
    pool: Pool,
    map: ExtentMap,
}

impl Bitmap {
    /// Connects and asks for the bitmap.
    pub(crate) fn open(uri: &NbdUri, bitmap: &str) -> Result<Self, Finding> {
        let name = PathBuf::from(&uri.text);
        let failed = |error: NbdError| error.at(Operation::Open, &name, None).to_finding();
        let connector = Connector::new(uri, Some(&format!("{NAMESPACE}{bitmap}")), Patience::default())
            .map_err(failed)?;
        let pool = Pool::open(connector, 1).map_err(failed)?;
        if pool.export().context.is_none() {
            let known = match pool.connector().contexts(NAMESPACE) {
                Ok(names) if !names.is_empty() => {
                    let names = names.iter().map(|name| name.strip_prefix(NAMESPACE).unwrap_or(name));
                    format!("it has {}", names.collect::<Vec<_>>().join(", "))
                }
                _ => "it has none".into(),
            };
            let evidence = format!("{}: the export has no dirty bitmap '{bitmap}'; {known}", uri.text);
            return Err(Finding::warning(Code::FeedUnusable, evidence));
        }
        Ok(Self { name, pool, map: ExtentMap::new(|flags| flags & DIRTY != 0) })
    }
}

impl ChangeFeed for Bitmap {
    fn next_changed(&self, from_bytes: u64) -> Result<Option<ByteRange>, DiskError> {
        self.map
            .next(&self.pool, from_bytes)
            .map_err(|error| error.at(Operation::Read, &self.name, from_bytes))
    }
}
