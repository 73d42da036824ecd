//! The command line of what is predicted, and of what a job shall keep.

use crate::args::OutputArgs;
use crate::control_args::SocketArgs;
use clap::Args;
use failback_model::MachineId;
use failback_service::size;
use jiff::civil::Time;
use jiff::{Timestamp, ToSpan as _, Zoned};

/// `failback plan`.
#[derive(Args)]
#[command(after_help = "\
Asks the process server what the next passes of MACHINE would cost: it looks at holes, feeds and what
the target sealed last, and reads a sample of each source, 16 MiB at most. Nothing is sent and nothing
changes. Estimates are guesses, what is 'at most' is a bound. Once passes run, 'failback status' shows
the prediction beside what became of it.

Examples:
  failback plan web01
  failback plan web01 --link 100M --price 0.087
  failback plan web01 --link 12M --price '0.08 EUR' --json")]
pub(crate) struct PlanArgs {
    /// Machine, by its id
    #[arg(value_name = "MACHINE")]
    pub(crate) machine: MachineId,
    /// Speed of the link, bytes a second, with K, M or G; else what the machine's bandwidth allows
    #[arg(long, value_name = "RATE", value_parser = size::parse)]
    pub(crate) link: Option<u64>,
    /// Price of a GB (10^9 bytes) that leaves the cloud, with a currency if you like
    #[arg(long, value_name = "PRICE")]
    pub(crate) price: Option<Price>,
    #[command(flatten)]
    pub(crate) socket: SocketArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// What a job shall keep.
#[derive(Args)]
#[command(next_help_heading = "Deadline and budget")]
pub(crate) struct GoalArgs {
    /// Be done by then, as slowly as that allows: 06:00 (the next one, local time) or 2026-11-25T06:00:00Z
    #[arg(long, value_name = "TIME", value_parser = finish_by)]
    pub(crate) finish_by: Option<u64>,
    /// Send no more than this in the whole job, restarts included
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) max_egress: Option<u64>,
}

/// Price of 10^9 bytes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Price {
    each: f64,
    currency: String,
}

impl Price {
    /// The cost of so many bytes, rounded up to the last digit.
    pub(crate) fn of(&self, bytes: u64) -> String {
        let cost = (bytes as f64 / 1e9 * self.each * 100.0).ceil() / 100.0;
        let gap = if self.currency.is_empty() { "" } else { " " };
        format!("{cost:.2}{gap}{}", self.currency)
    }
}

impl std::str::FromStr for Price {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (number, currency) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        match number.parse::<f64>() {
            Ok(each) if each.is_finite() && each >= 0.0 => {
                Ok(Self { each, currency: currency.trim().into() })
            }
            _ => Err("a price is a number, such as 0.087, and a currency behind it if you like"),
        }
    }
}

fn finish_by(text: &str) -> Result<u64, String> {
    finish_after(text, &Zoned::now())
}

/// A moment after now, milliseconds since 1970.
fn finish_after(text: &str, now: &Zoned) -> Result<u64, String> {
    let words = || "a time is 06:00, the next one, or 2026-11-25T06:00:00Z".to_owned();
    let at = match Time::strptime("%H:%M", text) {
        Ok(time) => {
            let of_day = |day: &Zoned| day.with().time(time).build().map_err(|_| words());
            let today = of_day(now)?;
            let tomorrow = || now.checked_add(1.day()).map_err(|_| words()).and_then(|day| of_day(&day));
            if today > *now { today } else { tomorrow()? }.timestamp()
        }
        Err(_) => text.parse::<Timestamp>().map_err(|_| words())?,
    };
    if at <= now.timestamp() {
        return Err("that time is over".into());
    }
    u64::try_from(at.as_millisecond()).map_err(|_| words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_a_number_and_perhaps_a_currency() {
        let of = |text: &str| text.parse::<Price>().map(|price| price.of(10_000_000_000));
        assert_eq!(of("0.087"), Ok("0.87".into()));
        assert_eq!(of("0.08 EUR"), Ok("0.80 EUR".into()));
        assert_eq!("0.087".parse::<Price>().map(|price| price.of(1)), Ok("0.01".into()));
        for wrong in ["", "EUR", "-1", "NaN", "0,08"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_deadline_is_the_next_such_time() {
        let now: Zoned = "2026-11-24T18:30:00+01:00[Europe/Berlin]".parse().expect("a time");
        let at = |text: &str| {
            finish_after(text, &now)
                .map(|at| Timestamp::from_millisecond(at as i64).expect("a time").to_string())
        };
        assert_eq!(at("06:00"), Ok("2026-11-25T05:00:00Z".into()));
        assert_eq!(at("18:31"), Ok("2026-11-24T17:31:00Z".into()));
        assert_eq!(at("18:30"), Ok("2026-11-25T17:30:00Z".into()));
        assert_eq!(at("2026-11-25T06:00:00Z"), Ok("2026-11-25T06:00:00Z".into()));
        assert!(at("2026-11-24T06:00:00Z").is_err() && at("six").is_err());
    }
}
