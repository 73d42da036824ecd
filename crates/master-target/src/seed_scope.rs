//! Which images may serve a disk as seeds: contents never cross from one `seed_scope` into another.
//!
//! **Invariant**: an image is judged by the files and devices that it is made of, whatever name it goes by.

use crate::config::{Disk, Machine};
use failback_image::{Access, ImageSpec, is_file_of, same_disk};

/// Whether an image may serve a disk as a seed: not if it is, or is a part of, a registered disk of another scope.
/// A seed that cannot be opened holds nothing that could cross.
pub(crate) fn is_seed_allowed(machines: &[Machine], machine: &Machine, disk: &Disk, seed: &str) -> bool {
    let Ok(seed) = failback_image::open(&ImageSpec::parse(seed), Access::Read) else { return true };
    let seed = seed.identity();
    let registered = machines.iter().flat_map(|other| other.disk.iter().map(move |disk| (other, disk)));
    registered
        .filter(|(owner, other)| owner.seed_scope_of(other) != machine.seed_scope_of(disk))
        .map(|(_, other)| ImageSpec::parse(&other.path))
        .all(|other| {
            let is_it = match failback_image::open(&other, Access::Read) {
                Ok(image) => same_disk(&seed, &image.identity()),
                // Not there yet, or not to be read: its path still says which file it is.
                Err(_) => is_file_of(&seed, &other.path),
            };
            !is_it
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_image::CreateOptions;
    use serde_json::json;
    use std::path::Path;

    fn machine(id: &str, path: &Path, scope: Option<&str>) -> Machine {
        let disk = json!({"id": "disk0", "path": path, "seed_scope": scope});
        let machine = json!({"id": id, "allow": ["failback://process-server/a"], "disk": [disk]});
        serde_json::from_value(machine).expect("a machine")
    }

    #[test]
    fn a_disk_of_another_scope_is_no_seed_whatever_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let vmdk = at("secret.vmdk");
        failback_image::create(&ImageSpec::parse(&vmdk), &CreateOptions::new(1 << 20))
            .expect("created")
            .close()
            .expect("closed");
        let raw = at("secret.raw");
        std::fs::write(&raw, [1; 4096]).expect("written");
        std::os::unix::fs::symlink(&raw, at("link.raw")).expect("linked");
        std::fs::hard_link(&raw, at("hard.raw")).expect("linked");
        std::fs::write(at("free.raw"), [2; 4096]).expect("written");
        let own = machine("own", &at("own.raw"), None);
        let machines = [own.clone(), machine("a", &vmdk, None), machine("b", &raw, None)];
        let is_allowed =
            |machines: &[Machine], seed: String| is_seed_allowed(machines, &own, &own.disk[0], &seed);
        let text = |name: &str| at(name).display().to_string();
        for name in ["secret.vmdk", "secret.raw", "link.raw", "hard.raw"] {
            assert!(!is_allowed(&machines, text(name)), "{name}");
        }
        for name in ["secret.raw", "secret-flat.vmdk"] {
            assert!(!is_allowed(&machines, format!("raw:{}", text(name))), "{name}");
        }
        assert!(is_allowed(&machines, text("free.raw")));
        assert!(is_allowed(&machines, text("nothing.raw")), "it holds nothing");
        let shared = machine("b", &raw, Some("own"));
        assert!(is_allowed(&[own.clone(), shared], text("link.raw")), "one scope");
    }
}
