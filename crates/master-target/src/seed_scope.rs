//! Which images may serve a disk as seeds: contents never cross from one `seed_scope` into another.
//!
//! **Invariant**: an image is judged by the files and devices that it is made of, whatever name it goes by.

use crate::config::{Disk, Machine};
use failback_image::{Access, ImageIdentity, ImageSpec, is_file_of, same_disk};
use std::path::PathBuf;

/// The registered disks whose contents a disk must not hold.
pub(crate) struct OtherScopes(Vec<Other>);

enum Other {
    Image(ImageIdentity),
    /// Not there yet, or not to be read: its path still says which file it is.
    Path(PathBuf),
}

impl OtherScopes {
    /// Those of other scopes than this disk's, as they are now.
    pub(crate) fn of(machines: &[Machine], machine: &Machine, disk: &Disk) -> Self {
        let registered = machines.iter().flat_map(|other| other.disk.iter().map(move |disk| (other, disk)));
        let others =
            registered.filter(|(owner, other)| owner.seed_scope_of(other) != machine.seed_scope_of(disk));
        let look = |other: ImageSpec| match failback_image::open(&other, Access::Read) {
            Ok(image) => Other::Image(image.identity()),
            Err(_) => Other::Path(other.path),
        };
        Self(others.map(|(_, other)| look(ImageSpec::parse(&other.path))).collect())
    }

    /// Whether an image is none of them, nor a part of one. A seed that cannot be opened holds nothing that could cross.
    pub(crate) fn allow(&self, seed: &str) -> bool {
        let Ok(seed) = failback_image::open(&ImageSpec::parse(seed), Access::Read) else { return true };
        let seed = seed.identity();
        !self.0.iter().any(|other| match other {
            Other::Image(other) => same_disk(&seed, other),
            Other::Path(path) => is_file_of(&seed, path),
        })
    }
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
            |machines: &[Machine], seed: String| OtherScopes::of(machines, &own, &own.disk[0]).allow(&seed);
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
