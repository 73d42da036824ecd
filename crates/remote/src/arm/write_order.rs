//! Whether Azure keeps the order of writes across a machine's disks in a restore point, and why not.
//!
//! From Microsoft's support matrix of restore points (crash consistency). Where it is silent we promise nothing either.

use super::resource::is_same;
use serde_json::Value;

/// Why the disks of a machine are of different instants; `None`: a crash-consistent restore point holds them all.
pub(crate) fn why_per_disk(machine: Option<&Value>, disks: &[(String, Value)]) -> Option<String> {
    let of_disks = disks.iter().find_map(|(name, disk)| why_not_disk(name, disk));
    of_disks.or_else(|| match machine {
        Some(machine) => why_not_machine(machine, disks),
        None => Some("the disks do not all belong to one machine".into()),
    })
}

fn why_not_disk(name: &str, disk: &Value) -> Option<String> {
    let kind = disk["sku"]["name"].as_str().unwrap_or_default();
    if is_late(disk) {
        return Some(format!("{name} is of the kind {kind}, which no crash-consistent restore point holds"));
    }
    let shares = disk["properties"]["maxShares"].as_u64().unwrap_or(1);
    (shares > 1).then(|| format!("{name} is shared by machines, which no restore point holds"))
}

/// Whether a disk's snapshots are copied in the background, and are read only then.
pub(crate) fn is_late(disk: &Value) -> bool {
    matches!(disk["sku"]["name"].as_str(), Some("UltraSSD_LRS" | "PremiumV2_LRS" | "PremiumV2_ZRS"))
}

fn why_not_machine(machine: &Value, disks: &[(String, Value)]) -> Option<String> {
    let properties = &machine["properties"];
    if properties["securityProfile"]["securityType"] == "ConfidentialVM" {
        return Some("no crash-consistent restore point holds a confidential machine".into());
    }
    let storage = &properties["storageProfile"];
    let data = storage["dataDisks"].as_array().map_or(&[][..], Vec::as_slice);
    for attached in std::iter::once(&storage["osDisk"]).chain(data) {
        let id = attached["managedDisk"]["id"].as_str().unwrap_or_default();
        let is_ours = disks.iter().any(|(_, disk)| is_same(disk["id"].as_str().unwrap_or_default(), id));
        if is_ours && attached["caching"] == "ReadWrite" {
            let name = super::resource::last(id);
            return Some(format!("{name} is cached for writing by its host, which keeps no order of writes"));
        }
    }
    let size = properties["hardwareProfile"]["vmSize"].as_str().unwrap_or_default();
    why_not_size(size, data.len())
}

/// By a size's name: `Standard_` family, vCPUs, letters of what it has, version.
fn why_not_size(size: &str, data_disks: usize) -> Option<String> {
    let name = size.to_ascii_lowercase();
    let mut words = name.split('_').skip(1);
    let features = words.next().unwrap_or_default();
    if !features.contains('s') {
        return Some(format!("size {size} takes no premium storage, so no crash-consistent restore point"));
    }
    let version: u32 = words.last().and_then(|word| word.strip_prefix('v')?.parse().ok()).unwrap_or(1);
    let of_amd = features.trim_start_matches(|c: char| c.is_ascii_alphabetic()).contains('a');
    let is_newest = version >= 7 || version == 6 && !of_amd;
    (is_newest && data_disks > 1)
        .then(|| format!("Azure promises no order across several data disks of a machine of size {size}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn disk(id: &str, kind: &str) -> (String, Value) {
        (id.into(), json!({"id": id, "sku": {"name": kind}, "properties": {}}))
    }

    fn machine(size: &str, caching: &str, data: &[&str]) -> Value {
        let data: Vec<_> =
            data.iter().map(|id| json!({"managedDisk": {"id": id}, "caching": "None"})).collect();
        json!({"properties": {
            "hardwareProfile": {"vmSize": size},
            "storageProfile": {"osDisk": {"managedDisk": {"id": "os"}, "caching": caching}, "dataDisks": data},
        }})
    }

    #[test]
    fn what_azure_promises_is_believed_and_nothing_else() {
        let disks = [disk("os", "Premium_LRS"), disk("d1", "StandardSSD_LRS")];
        let why = |machine: Value| why_per_disk(Some(&machine), &disks);
        assert_eq!(why(machine("Standard_D4s_v5", "ReadOnly", &["d1"])), None);
        assert_eq!(why(machine("Standard_DS3_v2", "None", &["d1", "d2"])), None);
        assert_eq!(why(machine("Standard_D4as_v6", "None", &["d1", "d2"])), None);
        assert_eq!(why(machine("Standard_D4s_v6", "None", &["d1"])), None, "one data disk");
        let says = |machine: Value, word: &str| {
            assert!(why(machine.clone()).is_some_and(|why| why.contains(word)), "{word}: {machine}");
        };
        says(machine("Standard_D4s_v6", "None", &["d1", "d2"]), "several data disks");
        says(machine("Standard_D4as_v7", "None", &["d1", "d2"]), "several data disks");
        says(machine("Standard_D4_v3", "None", &["d1"]), "premium storage");
        says(machine("Standard_D4s_v5", "ReadWrite", &["d1"]), "cached for writing");
        let mut confidential = machine("Standard_DC4as_v5", "None", &["d1"]);
        confidential["properties"]["securityProfile"] = json!({"securityType": "ConfidentialVM"});
        says(confidential, "confidential");
    }

    #[test]
    fn disks_of_the_newest_kinds_and_of_nobody_are_taken_one_by_one() {
        let machine = machine("Standard_D4s_v5", "None", &["d1"]);
        for kind in ["UltraSSD_LRS", "PremiumV2_LRS"] {
            let why = why_per_disk(Some(&machine), &[disk("os", "Premium_LRS"), disk("d1", kind)]);
            assert!(why.is_some_and(|why| why.contains(kind)));
        }
        let shared = json!({"sku": {"name": "Premium_LRS"}, "properties": {"maxShares": 2}});
        assert!(why_per_disk(Some(&machine), &[("d".into(), shared)]).is_some());
        assert!(why_per_disk(None, &[disk("os", "Premium_LRS"), disk("d1", "Premium_LRS")]).is_some());
    }
}
