//! What was changed at run time, as it is kept between runs.

use super::{Intent, MachineEntry, State};
use failback_model::{Code, Finding, MachineId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A machine's definition of the control socket's, in place of the configuration's.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Overlay<M> {
    #[serde(with = "crate::text")]
    pub(super) id: MachineId,
    /// Its definition; none: released.
    pub(super) now: Option<M>,
    /// What the configuration said when it was changed. Where the configuration says something else now, it wins.
    pub(super) over: Option<M>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedIntent {
    #[serde(with = "crate::text")]
    pub(super) id: MachineId,
    #[serde(flatten)]
    pub(super) intent: Intent,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved<M> {
    version: Version,
    pub(super) overlays: Vec<Overlay<M>>,
    pub(super) intents: Vec<SavedIntent>,
}

/// Version of the file: another one is refused instead of being misread.
#[derive(Serialize, Deserialize)]
enum Version {
    #[serde(rename = "1")]
    One,
}

impl<M> Default for Saved<M> {
    fn default() -> Self {
        Self { version: Version::One, overlays: Vec::new(), intents: Vec::new() }
    }
}

impl<M: Clone> Saved<M> {
    pub(super) fn new(
        overlays: &BTreeMap<MachineId, Overlay<M>>,
        intents: &BTreeMap<MachineId, Intent>,
    ) -> Self {
        let intents =
            intents.iter().map(|(id, intent)| SavedIntent { id: id.clone(), intent: intent.clone() });
        Self {
            version: Version::One,
            overlays: overlays.values().cloned().collect(),
            intents: intents.collect(),
        }
    }
}

impl<M: MachineEntry> State<M> {
    /// Works the machines out of configuration and overlays; drops overlays that the configuration overtook.
    pub(super) fn settle(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let configured = &self.configured;
        self.overlays.retain(|id, overlay| {
            let is_current = configured.get(id) == overlay.over.as_ref();
            if !is_current {
                let evidence = format!(
                    "machine {id}: the configuration changed, so what was registered at run time is dropped"
                );
                findings.push(Finding::info(Code::ConfigInvalid, evidence).with_remedy("nothing to do"));
            }
            is_current
        });
        self.machines = self.configured.clone();
        for (id, overlay) in &self.overlays {
            match &overlay.now {
                Some(machine) => self.machines.insert(id.clone(), machine.clone()),
                None => self.machines.remove(id),
            };
        }
        let machines = &self.machines;
        self.intents.retain(|id, _| machines.contains_key(id));
        findings
    }
}
