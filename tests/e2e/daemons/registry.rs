//! Machines and disks that come and go while the daemons run, from several process servers at once.

use super::assert_equal;
use crate::sites::{
    Host, PROCESS_SERVER, Sites, job, machine, merged, new_disk, source_disk, target_machine,
};
use failback_service::control::{PassFlags, Reply, Request};
use failback_service::status::DiskStage;
use serde_json::json;

const LENGTH_BYTES: u64 = 8 << 20;

#[test]
fn machines_of_two_process_servers_are_registered_replicated_and_released_at_run_time() {
    let sites = Sites::new();
    let second = "failback://process-server/second";
    let mut mt = sites.master_target(&[], &json!({}));
    let mut servers = [PROCESS_SERVER, second]
        .map(|identity| sites.process_server_as(identity, &[], &json!({}), Host::default()));
    let names = ["app01", "db01"];
    let mut files = Vec::new();
    for (at, (name, identity)) in names.into_iter().zip([PROCESS_SERVER, second]).enumerate() {
        let source = sites.random_disk(&format!("{name}-source.raw"), 1300 + at as u64, LENGTH_BYTES);
        let target = sites.path(&format!("{name}-target.raw"));
        let allowed = json!({"allow": [identity]});
        let entry = merged(target_machine(name, &[new_disk("disk0", &target)]), &allowed);
        mt.order(&Request::RegisterMachine { job: job(), machine: entry });
        // First without disks, then with one.
        let entry = sites.source_machine(name, &[]);
        servers[at].order(&Request::RegisterMachine { job: job(), machine: entry });
        let nothing = Request::Reprotect { job: job(), machine: machine(name), flags: PassFlags::default() };
        servers[at].refuses(&nothing, "FB702");
        let disk = source_disk("disk0", &source);
        servers[at].order(&Request::RegisterDisk { job: job(), machine: machine(name), disk });
        files.push((source, target));
    }
    for (ps, name) in servers.iter_mut().zip(names) {
        ps.reprotect(name);
    }
    for ps in &mut servers {
        assert_eq!(ps.sealed("disk0").generation, 1);
    }
    files.iter().for_each(|(source, target)| assert_equal(source, target));

    // The same job twice is one job.
    let release = Request::Release { job: job(), machine: machine("db01"), disk: None };
    let said = mt.order(&release);
    match mt.ask(&release) {
        Reply::Done { repeated: true, said: again, .. } => assert_eq!(said, again),
        other => panic!("{other:?}"),
    }
    assert!(files[1].1.exists(), "no disk is touched");
    servers[1].reprotect("db01");
    assert!(servers[1].broken("disk0", "FB504"), "who has no machine here learns nothing of the others");

    // What was registered at run time is still there after a restart; what was released is not.
    for daemon in [&mut mt, &mut servers[0]] {
        assert!(daemon.terminate().success());
        daemon.restart();
        let machines: Vec<_> = daemon.status().machines.into_iter().map(|machine| machine.id).collect();
        assert_eq!(machines, ["app01"]);
    }
    assert_eq!(mt.disk("app01", "disk0").generation, Some(1));
    servers[0].reprotect("app01");
    assert_eq!(servers[0].sealed("disk0").generation, 2);
}

#[test]
fn what_is_at_work_is_not_released_until_it_is_stopped() {
    let mut slow = super::Slow::new(1310, 24 << 20, 8_000_000);
    slow.proxy.wait_for(4 << 20);
    let release = || Request::Release { job: job(), machine: machine("app01"), disk: None };
    slow.ps.refuses(&release(), "FB704");
    slow.mt.refuses(&release(), "FB704");
    slow.ps.order(&Request::Bandwidth { job: job(), machine: machine("app01"), schedule: Some("3M".into()) });
    slow.ps.order(&Request::Stop { job: job(), machine: machine("app01") });
    slow.ps.wait("it stops", |event| (event.name() == "pass_stopped").then_some(()));
    assert_eq!(slow.ps.disk("app01", "disk0").stage, DiskStage::Stopped);
    slow.ps.order(&Request::Bandwidth {
        job: job(),
        machine: machine("app01"),
        schedule: Some("unlimited".into()),
    });
    slow.ps.resume("app01");
    let slow = slow.finish();
    slow.ps.order(&release());
    slow.mt.order(&release());
    assert!(slow.mt.status().machines.is_empty() && slow.target.exists());
}
