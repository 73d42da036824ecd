//! `failback sync SRC mt://HOST:PORT/MACHINE/DISK`: one disk to a master target, without a daemon on this side.
//!
//! One session: where the connection is lost the command ends, and the same command goes on from the last durable group.

use crate::args::SyncArgs;
use crate::control::orders::job_id;
use crate::progress::show;
use crate::report::Voice;
use crate::summary::{Facts, PassSummary};
use crate::transfer::{claim_of, open_source};
use failback_model::{BlockSize, Code, DiskId, Epoch, ExitClass, Finding, Generation, MachineId};
use failback_pass::{Cancel, Measure, Outcome, PassError, PassOptions, Progress, Totals};
use failback_process_server::{Delivery, SeenSource, Sent, accepted};
use failback_service::clock::unix_ms;
use failback_transport::{ConnectOptions, Schedule, SocketOptions, Throttle, Tls, TlsFiles};
use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;

const SCHEME: &str = "mt://";

/// Whether a target is behind a network.
pub(crate) fn is_remote(target: &OsStr) -> bool {
    target.as_encoded_bytes().starts_with(SCHEME.as_bytes())
}

/// Runs the command.
pub(crate) fn run(args: &SyncArgs, cancel: &Cancel) -> ExitClass {
    let voice = Voice { command: "sync", json: args.output.json, quiet: args.progress.quiet };
    let refused = |findings: &[Finding]| {
        voice.finish("done", &PassSummary::not_started(&args.source, &args.target), findings)
    };
    match Remote::prepare(args, cancel) {
        Ok(remote) => {
            let (summary, findings) = remote.carry_out(args);
            voice.finish("done", &summary, &findings)
        }
        Err(findings) => refused(&findings),
    }
}

/// Everything that can be wrong without the other end was looked at.
struct Remote {
    delivery: Delivery,
    runtime: Runtime,
}

impl Remote {
    fn prepare(args: &SyncArgs, cancel: &Cancel) -> Result<Self, Vec<Finding>> {
        let mut findings = without_effect(args);
        let target = keep(target_of(&args.target), &mut findings);
        let source = keep(open_source(&args.source, cancel), &mut findings);
        let tls = keep(load(args), &mut findings);
        let options = keep(options(args), &mut findings);
        let server = args.remote.target_identity.clone().ok_or_else(|| {
            let finding = Finding::error(Code::Usage, "nobody says who must answer there");
            finding
                .with_remedy("add --target-identity failback://master-target/NAME, as its certificate has it")
        });
        let server = keep(server, &mut findings);
        let job = keep(job_id(None), &mut findings);
        let runtime =
            Runtime::new().map_err(|error| Finding::error(Code::Internal, format!("threads: {error}")));
        let runtime = keep(runtime, &mut findings);
        let parts = (target, source, tls, options, server, job, runtime);
        let (Some(target), Some(source), Some(tls), Some(options), Some(server), Some(job), Some(runtime)) =
            parts
        else {
            return Err(findings);
        };
        if !findings.is_empty() {
            return Err(findings);
        }
        let claim = claim_of(&*source)?;
        let remote = &args.remote;
        let connect = ConnectOptions {
            address: target.address,
            server,
            tls,
            socket: SocketOptions { congestion: remote.congestion.clone(), ..SocketOptions::default() },
            throttle: Throttle::new(remote.bandwidth.clone().unwrap_or_else(Schedule::unlimited)),
        };
        let delivery = Delivery {
            source,
            machine: target.machine,
            disk: target.disk,
            job,
            epoch: Epoch(unix_ms() / 1000),
            generation: Generation(0),
            claim,
            accept_older: remote.accept_older,
            accept_divergence: remote.accept_divergence,
            data_connections: remote.connections,
            connect,
            options,
            memory: None,
            agreed: None,
            seen: SeenSource::default(),
            progress: Arc::default(),
            cancel: cancel.clone(),
        };
        Ok(Self { delivery, runtime })
    }

    fn carry_out(self, args: &SyncArgs) -> (PassSummary, Vec<Finding>) {
        let delivery = &self.delivery;
        let (progress, began) = (&delivery.progress, Instant::now());
        let length_bytes = delivery.source.geometry().length_bytes;
        let threads = delivery.options.threads;
        let measure = Measure::Settled { block_bytes: delivery.options.block_size.bytes() };
        let totals = Totals { measure, disk_bytes: length_bytes, threads, ..Totals::default() };
        let (mut strategy, mut warnings) = (None, Vec::new());
        let sent = {
            let _shown = show(&args.progress, totals, progress);
            delivery.run(self.runtime.handle(), |welcome, _| {
                strategy = Some(if welcome.is_new { "alternate-location" } else { "original-location" });
                warnings.extend(accepted(welcome));
            })
        };
        let facts = Facts {
            source: delivery.source.name().display().to_string(),
            target: args.target.display().to_string(),
            strategy,
            virtual_size_bytes: length_bytes,
            block_size_bytes: delivery.options.block_size.bytes(),
            // What is not a hole was read: nothing of the source is known beforehand.
            full_copy_bytes: Progress::get(&progress.bytes_read_source).min(length_bytes),
            threads,
            knows_target: false,
        };
        let elapsed = began.elapsed();
        let outcome = sent.as_ref().ok().map(|sent| self.outcome(sent, began));
        let summary = PassSummary::new(facts, outcome.as_ref(), progress, elapsed);
        warnings.extend(sent.err().map(|error: PassError| error.findings()).unwrap_or_default());
        (summary, warnings)
    }

    fn outcome(&self, sent: &Sent, began: Instant) -> Outcome {
        let options = &self.delivery.options;
        Outcome {
            virtual_size_bytes: sent.pass_bytes,
            block_size: options.block_size,
            blocks_total: sent.blocks_total,
            root: sent.root,
            verified: options.verify,
            elapsed: began.elapsed(),
            findings: Vec::new(),
        }
    }
}

/// A target's parts.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    address: String,
    machine: MachineId,
    disk: DiskId,
}

fn target_of(text: &OsStr) -> Result<Target, Finding> {
    let wrong = |why: String| {
        let evidence = format!("{}: {why}", text.display());
        Finding::error(Code::Usage, evidence)
            .with_remedy("name it mt://HOST:PORT/MACHINE/DISK, by the ids it has there")
    };
    let rest = text.to_str().and_then(|text| text.strip_prefix(SCHEME));
    let parts: Vec<_> = rest.map(|rest| rest.split('/').collect()).unwrap_or_default();
    let [address, machine, disk] = parts[..] else {
        return Err(wrong("it is not made of an address, a machine and a disk".into()));
    };
    let is_address = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
    if !is_address {
        return Err(wrong(format!("{address:?} is no HOST:PORT")));
    }
    Ok(Target {
        address: address.into(),
        machine: machine.parse().map_err(|error| wrong(format!("machine {machine:?}: {error}")))?,
        disk: disk.parse().map_err(|error| wrong(format!("disk {disk:?}: {error}")))?,
    })
}

fn load(args: &SyncArgs) -> Result<Tls, Finding> {
    let folder = &args.remote.tls;
    let crl = folder.join("crl.pem");
    let files = TlsFiles {
        cert: folder.join("cert.pem"),
        key: folder.join("key.pem"),
        ca: folder.join("ca.pem"),
        crl: crl.exists().then_some(crl),
    };
    Tls::load(&files).map_err(|error| error.to_finding())
}

fn options(args: &SyncArgs) -> Result<PassOptions, Finding> {
    let pass = &args.pass;
    let block_size = BlockSize::new(pass.scan.block_size)
        .map_err(|error| Finding::error(Code::BlockSizeInvalid, error.to_string()))?;
    let options = PassOptions::default();
    Ok(PassOptions {
        block_size,
        refinement: pass.page_refinement,
        compression: pass.compression,
        threads: pass.scan.threads.unwrap_or(options.threads),
        verify: pass.verify,
        accept_mismatch: args.accept_mismatch,
        ..options
    })
}

/// Options about a target that is somebody else's to define: one that is silently ignored is a trap.
fn without_effect(args: &SyncArgs) -> Vec<Finding> {
    let given = [
        ("--dry-run", args.dry_run),
        ("--grow", args.grow),
        ("--journal", args.journal.is_some()),
        ("--seed", !args.pass.seed.is_empty()),
        ("--provisioning", args.create.provisioning.is_some()),
        ("--vmdk-type", args.create.vmdk_type.is_some()),
    ];
    let refuse = |name| {
        let evidence = format!("{name} does not work with a target named {SCHEME}");
        Finding::error(Code::Usage, evidence)
            .with_remedy("the master target's configuration decides that for the disk")
    };
    given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| refuse(name)).collect()
}

/// Keeps a value or its finding: all are told at once.
fn keep<T>(result: Result<T, Finding>, findings: &mut Vec<Finding>) -> Option<T> {
    result.map_err(|finding| findings.push(finding)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_an_address_a_machine_and_a_disk() {
        let target = target_of(OsStr::new("mt://[2001:db8::1]:9443/web01/disk0")).expect("it is right");
        assert_eq!((target.address.as_str(), target.disk.as_str()), ("[2001:db8::1]:9443", "disk0"));
        for wrong in
            ["mt://", "mt://h:1/web01", "mt://h/web01/d", "mt://h:0/m/d", "mt://h:1/m/d/e", "mt://h:1/M/d"]
        {
            assert_eq!(target_of(OsStr::new(wrong)).expect_err(wrong).code, Code::Usage);
        }
        assert!(!is_remote(OsStr::new("mt:/x")) && is_remote(OsStr::new("mt://x")));
    }
}
