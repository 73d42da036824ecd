//! The grain tables in use, within a bound.
//!
//! **Invariant**: a table that was changed stays until a flush has made it durable, and a table is never read from the
//! file while a newer one is here.

use super::tables::{Table, Tables};
use failback_blockio::{Device, DiskError};
use failback_model::limits::GRAIN_TABLES_MAX;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Where a table stands between memory and file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Clean,
    /// A flush is on its way with it.
    Flushing,
    Dirty,
}

#[derive(Debug)]
struct Cached {
    entries: Table,
    state: State,
    used_at: u64,
}

/// Tables in memory by their number.
#[derive(Debug, Default)]
pub(in crate::vmdk) struct TableCache {
    tables: HashMap<u32, Cached>,
    clock: u64,
    dirty: usize,
}

impl TableCache {
    /// The table, read if it is not here.
    pub(in crate::vmdk) fn get(
        &mut self,
        tables: &Tables,
        device: &dyn Device,
        table: u32,
    ) -> Result<&mut Table, DiskError> {
        self.clock += 1;
        if self.tables.len() >= GRAIN_TABLES_MAX && !self.tables.contains_key(&table) {
            self.evict();
        }
        let cached = match self.tables.entry(table) {
            Entry::Occupied(here) => here.into_mut(),
            Entry::Vacant(place) => {
                let (entries, _same) = tables.load(device, table)?;
                place.insert(Cached { entries, state: State::Clean, used_at: 0 })
            }
        };
        cached.used_at = self.clock;
        Ok(&mut cached.entries)
    }

    /// Marks a table that is here as changed.
    pub(in crate::vmdk) fn mark_dirty(&mut self, table: u32) {
        if let Some(cached) = self.tables.get_mut(&table)
            && cached.state != State::Dirty
        {
            cached.state = State::Dirty;
            self.dirty += 1;
        }
    }

    /// Whether so many tables are changed that they must be flushed before more are.
    pub(in crate::vmdk) fn is_full(&self) -> bool {
        self.dirty >= GRAIN_TABLES_MAX / 2
    }

    /// The changed tables as they are now, ascending: what a flush will write once their grains are durable.
    pub(in crate::vmdk) fn take_dirty(&mut self) -> Vec<(u32, Table)> {
        let mut taken: Vec<_> = self
            .tables
            .iter_mut()
            .filter(|(_, cached)| cached.state == State::Dirty)
            .map(|(&table, cached)| {
                cached.state = State::Flushing;
                (table, cached.entries.clone())
            })
            .collect();
        taken.sort_unstable_by_key(|&(table, _)| table);
        self.dirty = 0;
        taken
    }

    /// These tables are durable, unless they were changed again meanwhile.
    pub(in crate::vmdk) fn mark_flushed(&mut self, flushed: &[(u32, Table)]) {
        for (table, _) in flushed {
            if let Some(cached) = self.tables.get_mut(table)
                && cached.state == State::Flushing
            {
                cached.state = State::Clean;
            }
        }
    }

    /// Drops the older half of the tables that the file has too.
    fn evict(&mut self) {
        let clean = |cached: &Cached| cached.state == State::Clean;
        let mut ages: Vec<u64> =
            self.tables.values().filter(|cached| clean(cached)).map(|cached| cached.used_at).collect();
        if ages.is_empty() {
            return;
        }
        let middle = ages.len() / 2;
        let limit = *ages.select_nth_unstable(middle).1;
        self.tables.retain(|_, cached| !clean(cached) || cached.used_at > limit);
    }
}
