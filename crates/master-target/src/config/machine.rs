//! A machine and its disks as the master target knows them.

use failback_image::{CreateOptions, ImageSpec, Provisioning, VmdkType};
use failback_model::limits::SLOT_MAX_BYTES;
use failback_model::{DiskId, GroupId, MachineId, PeerIdentity};
use failback_service::config::{ByteSize, Fault, unstable_device};
use failback_service::registry::{DiskEntry, MachineEntry};
use failback_service::text;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A machine whose disks come home.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its id: 1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub id: MachineId,
    /// Who may write its disks: names that certificates prove, such as `failback://process-server/azure-1`.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>")]
    pub allow: Vec<PeerIdentity>,
    /// Replication group: machines of one group are failed back together, `failback cutover GROUP`.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<String>")]
    pub group: Option<GroupId>,
    /// A disk of the machine.
    #[serde(default)]
    pub disk: Vec<Disk>,
}

/// A disk to be written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Its id. Paths never cross the wire: a process server names the disk by this.
    #[serde(with = "text")]
    #[schemars(with = "String")]
    pub id: DiskId,
    /// Image or device to write, as `failback sync` takes it: `/mnt/nfs/web01/web01.vmdk`, `/dev/disk/by-id/wwn-0x...`.
    pub path: String,
    /// Make the image if it does not exist (alternate-location recovery).
    #[serde(default)]
    pub create: bool,
    /// Length of an image that is made, at least the source's; none: the source's.
    #[serde(default)]
    pub length: Option<ByteSize>,
    /// How an image that is made takes space: `thin`, `thick` or `eager`.
    #[serde(default)]
    pub provisioning: ProvisioningWord,
    /// Kind of a VMDK that is made: `vmfs`, `monolithicFlat`, `twoGbMaxExtentFlat`, `monolithicSparse`,
    /// `twoGbMaxExtentSparse`.
    #[serde(default, with = "text")]
    #[schemars(with = "String")]
    pub vmdk_type: VmdkWord,
    /// Extend an image file that is shorter than its source.
    #[serde(default)]
    pub grow: bool,
    /// Where the disk hangs on its machine, such as `scsi0:1`: noted in its sidecar for whoever rebuilds the machine.
    #[serde(default)]
    pub slot: Option<String>,
    /// Images whose blocks may be copied instead of travelling: old copies, templates, siblings.
    #[serde(default)]
    pub seeds: Vec<String>,
    /// Whose disks may serve as its seeds: a registered disk of another scope is refused as a seed; none: the machine's
    /// id.
    #[serde(default)]
    pub seed_scope: Option<String>,
}

/// How an image takes space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProvisioningWord {
    /// As it is written.
    #[default]
    Thin,
    /// All at once, zeroed as it is written.
    Thick,
    /// All at once, zeroed at once.
    Eager,
}

impl From<ProvisioningWord> for Provisioning {
    fn from(word: ProvisioningWord) -> Self {
        match word {
            ProvisioningWord::Thin => Self::Thin,
            ProvisioningWord::Thick => Self::Thick,
            ProvisioningWord::Eager => Self::Eager,
        }
    }
}

/// Kind of a VMDK by the name that VMware gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VmdkWord(pub VmdkType);

impl fmt::Display for VmdkWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FromStr for VmdkWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let in_place = |kind: &VmdkType| *kind != VmdkType::StreamOptimized;
        let mut kinds = VmdkType::ALL.into_iter().filter(in_place);
        let found = kinds.find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        found.map(Self).ok_or_else(|| format!("{text:?} is no kind of VMDK that can be written in place"))
    }
}

impl Disk {
    /// What an image that is made is like.
    pub fn create_options(&self) -> CreateOptions {
        CreateOptions {
            provisioning: Some(self.provisioning.into()),
            vmdk_type: self.vmdk_type.0,
            ..CreateOptions::new(self.length.map_or(0, |length| length.0))
        }
    }

    fn faults(&self) -> Vec<Fault> {
        let empty = |key: &str, text: &str| {
            text.is_empty().then(|| Fault::new(key, "it is empty", "name an image or a device"))
        };
        let length = self.length.filter(|_| !self.create).map(|_| {
            Fault::new("length", "it is for an image that is made", "add create = true, or leave it out")
        });
        let device = unstable_device("path", &self.path);
        let is_word = |slot: &&String| {
            (1..=SLOT_MAX_BYTES).contains(&slot.len()) && slot.chars().all(|c| c.is_ascii_graphic())
        };
        let slot = self.slot.as_ref().filter(|slot| !is_word(slot)).map(|slot| {
            Fault::new("slot", format!("{slot:?} is no slot"), "give controller and unit, such as scsi0:1")
        });
        let mut faults: Vec<_> =
            empty("path", &self.path).into_iter().chain(length).chain(device).chain(slot).collect();
        for (at, seed) in self.seeds.iter().enumerate() {
            let key = format!("seeds.{at}");
            faults.extend(empty(&key, seed));
            faults.extend(unstable_device(&key, seed));
            if *seed == self.path {
                faults.push(Fault::new(key, "it is the disk itself", "leave it out"));
            }
        }
        faults
    }
}

impl DiskEntry for Disk {
    fn id(&self) -> &DiskId {
        &self.id
    }
}

impl MachineEntry for Machine {
    type Disk = Disk;

    fn id(&self) -> &MachineId {
        &self.id
    }

    fn disks(&self) -> &[Disk] {
        &self.disk
    }

    fn disks_mut(&mut self) -> &mut Vec<Disk> {
        &mut self.disk
    }

    fn faults(&self) -> Vec<Fault> {
        let nobody = self.allow.is_empty().then(|| {
            let remedy = "name the process servers' certificates, as 'failback pki show' lists them";
            Fault::new("allow", "nobody may write this machine's disks", remedy)
        });
        let disks = self.disk.iter().enumerate().flat_map(|(at, disk)| {
            disk.faults().into_iter().map(move |fault| fault.within(&format!("disk.{at}")))
        });
        nobody.into_iter().chain(disks).collect()
    }
}

impl Machine {
    /// The scope that contents of one of its disks stay in: what the disk says, else the machine.
    pub(crate) fn seed_scope_of<'a>(&'a self, disk: &'a Disk) -> &'a str {
        disk.seed_scope.as_deref().unwrap_or(self.id.as_str())
    }
}

/// Faults that lie between machines: one path written twice, seeds of another scope, a group named as a machine is.
pub(super) fn faults_between(machines: &[Machine]) -> Vec<Fault> {
    let mut paths: HashMap<PathBuf, (&Machine, &Disk)> = HashMap::new();
    let mut faults = Vec::new();
    for (at, machine) in machines.iter().enumerate() {
        let is_named = |group: &GroupId| machines.iter().any(|other| other.id.as_str() == group.as_str());
        if let Some(group) = machine.group.as_ref().filter(|group| is_named(group)) {
            let reason = format!("{group} is a machine's id");
            let remedy = "give the group a name that no machine has: 'failback cutover' takes either";
            faults.push(Fault::new(format!("machine.{at}.group"), reason, remedy));
        }
    }
    let all = || {
        machines.iter().enumerate().flat_map(|(at, machine)| {
            machine
                .disk
                .iter()
                .enumerate()
                .map(move |(disk_at, disk)| (format!("machine.{at}.disk.{disk_at}"), machine, disk))
        })
    };
    for (key, machine, disk) in all() {
        if let Some((other, first)) = paths.insert(ImageSpec::parse(&disk.path).path, (machine, disk)) {
            let reason = format!("{} is the path of {}/{} already", disk.path, other.id, first.id);
            faults.push(Fault::new(format!("{key}.path"), reason, "give each disk an image of its own"));
        }
    }
    for (key, machine, disk) in all() {
        for (at, seed) in disk.seeds.iter().enumerate() {
            if let Some((other, sibling)) = paths.get(&ImageSpec::parse(seed).path)
                && other.seed_scope_of(sibling) != machine.seed_scope_of(disk)
            {
                let reason = format!("{seed} is {}/{}, of another seed_scope", other.id, sibling.id);
                let remedy =
                    "contents must not cross scopes: leave it out, or give both disks one seed_scope";
                faults.push(Fault::new(format!("{key}.seeds.{at}"), reason, remedy));
            }
        }
    }
    faults
}
