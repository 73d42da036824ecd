//! What a verb would do, for people.

use failback_service::control::Plan;
use failback_service::report::printable;
use failback_service::size::human;
use std::fmt::Write as _;

/// All of it.
pub(super) fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for machine in &plan.machines {
        let mut line = |key: &str, value: &str| {
            let _ = writeln!(text, "  {key:9}  {}", printable(value));
        };
        line("direction", &machine.direction);
        for why in &machine.choice {
            line("choice", why);
        }
        for image in &machine.images {
            line("image", image);
        }
        match machine.destroyed.is_empty() {
            true => line("destroyed", "nothing"),
            false => machine.destroyed.iter().for_each(|what| line("destroyed", what)),
        }
        line("way back", &machine.way_back);
        if machine.restore_bytes > 0 {
            let restored = format!("{} of undo are put back", human(machine.restore_bytes));
            line("restores", &restored);
        }
        if machine.needed_bytes > 0 {
            let (needed, free) = (human(machine.needed_bytes), human(machine.free_bytes));
            line("space", &format!("{needed} at most for undo, {free} free"));
        }
    }
    for finding in &plan.findings {
        let _ = writeln!(text, "{}[{}] {}", finding.severity, finding.code, printable(&finding.evidence));
    }
    format!("{}:\n{text}", plan.verb.replace('_', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use failback_service::control::MachinePlan;

    #[test]
    fn a_plan_says_direction_loss_and_way_back() {
        let machine = MachinePlan {
            machine: "web01".into(),
            point: Some(17),
            direction: "web01: point 18 -> point 17; its disks go back, and are released".into(),
            choice: vec!["web01: 300 s are lost against point 18".into()],
            destroyed: Vec::new(),
            way_back: "until commit: 'failback cutover web01 --point 18'".into(),
            images: vec!["/mnt/nfs/web01/web01.vmdk".into()],
            restore_bytes: 300 << 20,
            needed_bytes: 364 << 20,
            free_bytes: 90 << 30,
        };
        let plan = Plan { verb: "cutover".into(), machines: vec![machine], findings: Vec::new() };
        insta::assert_snapshot!(text(&plan), @r"
        cutover:
          direction  web01: point 18 -> point 17; its disks go back, and are released
          choice     web01: 300 s are lost against point 18
          image      /mnt/nfs/web01/web01.vmdk
          destroyed  nothing
          way back   until commit: 'failback cutover web01 --point 18'
          restores   300 MiB of undo are put back
          space      364 MiB at most for undo, 90 GiB free
        ");
    }
}
