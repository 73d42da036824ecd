//! The two daemons as processes: disks come home over loopback, whatever happens to the ends and to the link between.
//!
//! What a test says of an end state, qemu-img judges.

mod blob_cycles;
mod boots;
mod clocks;
mod consistency;
mod cycles;
mod divergence;
mod home;
mod hostile;
mod kills;
mod links;
mod media;
mod peers;
mod receipts;
mod recovery;
mod registry;
mod soak;
mod status;
mod steering;
mod trusted;
mod wan;

use crate::command::qemu_img;
use crate::sites::{Daemon, Proxy, Sites, merged, new_disk, sent_to, source_disk, target_machine};
use failback_testkit::asked;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Fails unless qemu-img finds the same bytes in two raw disks.
fn assert_equal(source: &Path, target: &Path) {
    qemu_img(&["compare", "-f", "raw", "-F", "raw"], &[source, target]);
}

/// Memory that a daemon may have resident, whatever its disks (DESIGN.md 10).
const RESIDENT_MOST_BYTES: u64 = 256 << 20;

/// One new disk that travels slowly enough to be struck on its way, over a link that counts and can be cut.
struct Slow {
    sites: Sites,
    proxy: Proxy,
    source: PathBuf,
    target: PathBuf,
    mt: Daemon,
    ps: Daemon,
}

/// Bytes under way at most in a slow pass.
const SLOW_WINDOW_BYTES: u64 = 8 << 20;

impl Slow {
    /// A disk of random bytes at so many bytes a second; its pass has begun.
    fn new(seed: u64, length_bytes: u64, bytes_per_second: u64) -> Self {
        let sites = Sites::new();
        let source = sites.random_disk("source.raw", seed, length_bytes);
        let target = sites.path("target.raw");
        let memory = json!({"memory": SLOW_WINDOW_BYTES});
        let mt = sites.master_target(&[target_machine("app01", &[new_disk("disk0", &target)])], &memory);
        let proxy = Proxy::new(sites.at(9543), sites.at(9443));
        let machine = slow_machine(&proxy, &source, bytes_per_second);
        let mut ps = sites.process_server(&[machine], &memory);
        ps.reprotect("app01");
        Self { sites, proxy, source, target, mt, ps }
    }

    /// Both ends sealed it, and it is right.
    #[track_caller]
    fn finish(mut self) -> Self {
        self.ps.sealed("disk0");
        self.mt.sealed("disk0");
        assert_equal(&self.source, &self.target);
        self
    }
}

fn slow_machine(proxy: &Proxy, source: &Path, bytes_per_second: u64) -> Value {
    let machine = sent_to("app01", proxy.address(), &[source_disk("disk0", source)]);
    merged(machine, &json!({"bandwidth": bytes_per_second.to_string()}))
}
