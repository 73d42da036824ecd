//! `failback plan`: what the next passes would cost.

use super::orders::voice;
use super::{ask, understood, unexpected};
use crate::plan_args::{PlanArgs, Price};
use crate::report::Summary;
use failback_model::{ExitClass, Finding};
use failback_service::control::{DiskForecast, Forecast, Reply, Request};
use failback_service::report::printable;
use failback_service::size::{counted, human, spoken};
use serde::Serialize;
use std::fmt::Write as _;

/// A forecast with what this command makes of it.
#[derive(Serialize)]
struct Predicted {
    #[serde(flatten)]
    forecast: Forecast,
    /// Speed that the time is predicted by, bytes a second.
    link_bytes_per_second: Option<u64>,
    /// All disks together.
    ship_estimate_bytes: Option<u64>,
    ship_at_most_bytes: u64,
    seconds_estimate: Option<f64>,
    seconds_at_most: f64,
    cost_estimate: Option<String>,
    cost_at_most: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &PlanArgs) -> ExitClass {
    let voice = voice("plan", &args.output);
    match ask(&args.socket, &Request::Forecast { machine: args.machine.clone() }) {
        Ok(Reply::Forecast { forecast }) => {
            let findings: Vec<Finding> =
                forecast.disks.iter().flat_map(|disk| &disk.findings).map(understood).collect();
            let is_known = |disk: &DiskForecast| disk.length_bytes > 0;
            if !forecast.disks.iter().all(is_known) {
                return voice.fail(&findings);
            }
            voice.finish("planned", &Predicted::of(forecast, args.link, args.price.as_ref()), &findings)
        }
        Ok(reply) => voice.fail(&unexpected(&reply)),
        Err(findings) => voice.fail(&findings),
    }
}

impl Predicted {
    fn of(forecast: Forecast, link: Option<u64>, price: Option<&Price>) -> Self {
        let disks = &forecast.disks;
        let link_bytes_per_second = link.or(forecast.bandwidth_bytes_per_second).filter(|rate| *rate > 0);
        let read: u64 = disks.iter().map(|disk| disk.read_bytes).sum();
        let estimate = disks.iter().map(|disk| disk.ship_estimate_bytes).sum::<Option<u64>>();
        let at_most = disks.iter().map(|disk| disk.ship_at_most_bytes).sum();
        // Reading and sending go on at once.
        let seconds = |bytes: u64| {
            let sends = link_bytes_per_second.map_or(0.0, |rate| bytes as f64 / rate as f64);
            sends.max(read as f64 / forecast.assumed_read_bytes_per_second.max(1) as f64)
        };
        Self {
            link_bytes_per_second,
            ship_estimate_bytes: estimate,
            ship_at_most_bytes: at_most,
            seconds_estimate: estimate.map(seconds),
            seconds_at_most: seconds(at_most),
            cost_estimate: price.zip(estimate).map(|(price, bytes)| price.of(bytes)),
            cost_at_most: price.map(|price| price.of(at_most)),
            forecast,
        }
    }

    fn total(&self) -> String {
        let about = |text: Option<String>, most: String| match text {
            Some(text) => format!("about {text}, at most {most}"),
            None => format!("at most {most}"),
        };
        let time = |seconds: f64| spoken(seconds.ceil() as u64);
        let mut text = format!(
            "  ships      {}\n",
            about(self.ship_estimate_bytes.map(human), human(self.ship_at_most_bytes))
        );
        let by = match self.link_bytes_per_second {
            Some(rate) => format!("at {}/s", human(rate)),
            None => "whatever the link is; --link says".into(),
        };
        let takes = about(self.seconds_estimate.map(time), time(self.seconds_at_most));
        let _ = writeln!(text, "  takes      {takes}, {by}");
        if let Some(most) = &self.cost_at_most {
            let _ = writeln!(text, "  costs      {}", about(self.cost_estimate.clone(), most.clone()));
        }
        text
    }
}

impl Summary for Predicted {
    fn text(&self) -> String {
        let mut text = format!("plan of {}:\n{}", self.forecast.machine, self.total());
        self.forecast.disks.iter().for_each(|disk| text += &disk_text(disk));
        text
    }
}

fn disk_text(disk: &DiskForecast) -> String {
    let mut text = format!("{}: {} of {}\n", disk.disk, human(disk.length_bytes), printable(&disk.source));
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "  {key:9}  {}", printable(&value));
    };
    line("target", disk.target.clone());
    if disk.chunks_trusted > 0 {
        let why = disk.trusted_why.clone().unwrap_or_default();
        line("trusted", format!("{}: {why}", counted(disk.chunks_trusted, "chunk")));
    }
    line("scanned", format!("{}: {}", counted(disk.chunks_scanned, "chunk"), disk.scanned_why));
    if disk.chunks_absent > 0 {
        line("absent", format!("{}: holes of the source", counted(disk.chunks_absent, "chunk")));
    }
    let changed = disk.sampled_changed_percent.map_or_else(
        || "nothing to compare with".to_owned(),
        |percent| format!("{percent} % are not as they were sealed"),
    );
    let packed = disk.sampled_packed_percent;
    let sampled = counted(disk.sampled_blocks, "block");
    line("sample", format!("{sampled}: {changed}; contents pack to {packed} %"));
    line("reads", human(disk.read_bytes));
    let at_most = human(disk.ship_at_most_bytes);
    line(
        "ships",
        match disk.ship_estimate_bytes {
            Some(bytes) => format!("about {}, at most {at_most}", human(bytes)),
            None => format!("at most {at_most}; the target was not asked what it holds"),
        },
    );
    if disk.undo_at_most_bytes > 0 {
        let at_most = human(disk.undo_at_most_bytes);
        line(
            "undo",
            match disk.undo_estimate_bytes {
                Some(bytes) => format!("about {} at the target, at most {at_most}", human(bytes)),
                None => format!("at most {at_most} at the target"),
            },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> DiskForecast {
        DiskForecast {
            disk: "disk0".into(),
            source: "nbd://h/web01".into(),
            length_bytes: 64 << 30,
            target: "generation 7, sealed from cycle 4 of this source".into(),
            chunks_trusted: 1000,
            chunks_scanned: 4,
            chunks_absent: 20,
            trusted_why: Some(
                "their digests are those of the sealed state, and the feed does not name them".into(),
            ),
            scanned_why: "its feed names blocks in them".into(),
            read_bytes: 300 << 20,
            sampled_blocks: 256,
            sampled_changed_percent: Some(90),
            sampled_packed_percent: 50,
            ship_estimate_bytes: Some(150 << 20),
            ship_at_most_bytes: 310 << 20,
            undo_estimate_bytes: Some(270 << 20),
            undo_at_most_bytes: 64 << 30,
            findings: Vec::new(),
        }
    }

    fn forecast() -> Forecast {
        Forecast {
            machine: "web01".into(),
            disks: vec![disk()],
            bandwidth_bytes_per_second: None,
            assumed_read_bytes_per_second: 400 << 20,
        }
    }

    #[test]
    fn a_plan_says_bytes_time_space_cost_and_why() {
        let price = "0.087 USD".parse().expect("a price");
        insta::assert_snapshot!(Predicted::of(forecast(), Some(10 << 20), Some(&price)).text(), @r"
        plan of web01:
          ships      about 150 MiB, at most 310 MiB
          takes      about 15 s, at most 31 s, at 10 MiB/s
          costs      about 0.02 USD, at most 0.03 USD
        disk0: 64 GiB of nbd://h/web01
          target     generation 7, sealed from cycle 4 of this source
          trusted    1,000 chunks: their digests are those of the sealed state, and the feed does not name them
          scanned    4 chunks: its feed names blocks in them
          absent     20 chunks: holes of the source
          sample     256 blocks: 90 % are not as they were sealed; contents pack to 50 %
          reads      300 MiB
          ships      about 150 MiB, at most 310 MiB
          undo       about 270 MiB at the target, at most 64 GiB
        ");
    }

    #[test]
    fn where_nothing_can_be_judged_only_bounds_are_said() {
        let mut forecast = forecast();
        forecast.disks[0].ship_estimate_bytes = None;
        let predicted = Predicted::of(forecast, None, None);
        assert_eq!((predicted.seconds_estimate, &predicted.cost_at_most), (None, &None));
        assert!(predicted.total().contains("ships      at most 310 MiB\n"));
    }
}
