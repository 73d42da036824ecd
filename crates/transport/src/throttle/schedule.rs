//! Rates by time of the week, as an operator writes them: `20M`, `unlimited`, `08:00-18:00=5M,18:00-08:00=100M`,
//! `mon-fri 08:00-18:00=5M,50M`. Bytes per second in powers of 1024, local time.
//!
//! The first entry whose window holds the moment gives the rate; an entry without a window always does; where none
//! does, there is no limit. A window over midnight belongs to the day on which it begins.
//!
//! **Invariant**: the text that a schedule prints parses to the same schedule.

use failback_model::limits::SCHEDULE_ENTRIES_MAX;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u16 = 24 * 60;

/// A moment of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WeekTime {
    /// Day, 0 = Monday.
    pub day: u8,
    /// Minute of the day.
    pub minute: u16,
}

impl WeekTime {
    /// Now, in this host's time zone.
    pub fn now() -> Self {
        let now = jiff::Zoned::now();
        Self {
            day: now.weekday().to_monday_zero_offset().unsigned_abs(),
            minute: u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()),
        }
    }
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// As fast as the link is.
    Unlimited,
    /// So many bytes per second.
    BytesPerSecond(NonZeroU64),
}

impl Rate {
    /// A rate; `None` for 0, which would be no link.
    pub fn bytes_per_second(bytes: u64) -> Option<Self> {
        NonZeroU64::new(bytes).map(Self::BytesPerSecond)
    }

    /// The slower of two.
    pub fn min(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unlimited, rate) | (rate, Self::Unlimited) => rate,
            (Self::BytesPerSecond(a), Self::BytesPerSecond(b)) => Self::BytesPerSecond(a.min(b)),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::BytesPerSecond(rate) = self else {
            return f.write_str("unlimited");
        };
        let rate = rate.get();
        let unit =
            [(30, "G"), (20, "M"), (10, "K")].into_iter().find(|(shift, _)| rate.trailing_zeros() >= *shift);
        match unit {
            Some((shift, unit)) => write!(f, "{}{unit}", rate >> shift),
            None => write!(f, "{rate}"),
        }
    }
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// No rate.
    #[error("{0:?} is no rate: write bytes per second, such as 20M or 512K, or 'unlimited'")]
    Rate(String),
    /// No window.
    #[error(
        "{0:?} is no time of day: write 08:00-18:00, and days before it if you like: mon-fri 08:00-18:00"
    )]
    Window(String),
    /// Nothing, or too much.
    #[error("a schedule has 1 to {SCHEDULE_ENTRIES_MAX} entries")]
    Entries,
    /// An entry that can never count.
    #[error("{0:?} never counts: the entry before it always does")]
    Unreachable(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    /// Bit 0 = Monday.
    days: u8,
    from: u16,
    to: u16,
}

impl Window {
    fn holds(self, at: WeekTime) -> bool {
        let on = |day: u8| self.days >> (day % 7) & 1 == 1;
        if self.from < self.to {
            on(at.day) && (self.from..self.to).contains(&at.minute)
        } else {
            on(at.day) && at.minute >= self.from || on(at.day + 6) && at.minute < self.to
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    window: Option<Window>,
    rate: Rate,
}

/// Rates by time of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Entry>);

impl Schedule {
    /// Never a limit.
    pub fn unlimited() -> Self {
        Self::always(Rate::Unlimited)
    }

    /// The same rate at all times.
    pub fn always(rate: Rate) -> Self {
        Self(vec![Entry { window: None, rate }])
    }

    /// The rate at a moment.
    pub fn rate_at(&self, at: WeekTime) -> Rate {
        let counts = |entry: &&Entry| entry.window.is_none_or(|window| window.holds(at));
        self.0.iter().find(counts).map_or(Rate::Unlimited, |entry| entry.rate)
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        let mut entries: Vec<Entry> = Vec::new();
        for part in text.split(',').map(str::trim) {
            if entries.len() == SCHEDULE_ENTRIES_MAX {
                return Err(ScheduleError::Entries);
            }
            if entries.last().is_some_and(|last| last.window.is_none()) {
                return Err(ScheduleError::Unreachable(part.into()));
            }
            entries.push(match part.split_once('=') {
                Some((window, rate)) => {
                    Entry { window: Some(parse_window(window.trim())?), rate: parse_rate(rate.trim())? }
                }
                None => Entry { window: None, rate: parse_rate(part)? },
            });
        }
        Ok(Self(entries))
    }
}

fn parse_rate(text: &str) -> Result<Rate, ScheduleError> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(Rate::Unlimited);
    }
    let error = || ScheduleError::Rate(text.into());
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(error()),
    };
    let number: u64 = number.parse().map_err(|_| error())?;
    let bytes = number.checked_mul(1 << shift).filter(|&bytes| bytes <= i64::MAX as u64);
    bytes.and_then(Rate::bytes_per_second).ok_or_else(error)
}

fn parse_window(text: &str) -> Result<Window, ScheduleError> {
    let error = || ScheduleError::Window(text.into());
    let (days, times) = match text.rsplit_once(' ') {
        Some((days, times)) => (parse_days(days.trim()).ok_or_else(error)?, times),
        None => (0x7f, text),
    };
    let (from, to) = times.split_once('-').ok_or_else(error)?;
    let (from, to) = (parse_time(from).ok_or_else(error)?, parse_time(to).ok_or_else(error)?);
    if from == to || from == DAY_MINUTES || to == 0 {
        return Err(error());
    }
    Ok(Window { days, from, to })
}

fn parse_days(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(text)?, day(text)?),
    };
    let count = (last + 7 - first) % 7;
    Some((0..=count).fold(0, |days, i| days | 1 << ((first + i) % 7)))
}

/// `HH:MM` from 00:00 to 24:00.
fn parse_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |digits: &str| match digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit())
    {
        true => digits.parse::<u16>().ok(),
        false => None,
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starts = |day: u8| self.days >> day & 1 == 1 && self.days >> ((day + 6) % 7) & 1 == 0;
        if let Some(first) = (0..7).find(|&day| starts(day)) {
            let count = self.days.count_ones() as usize;
            let first = usize::from(first);
            f.write_str(DAYS[first])?;
            if count > 1 {
                write!(f, "-{}", DAYS[(first + count - 1) % 7])?;
            }
            f.write_str(" ")?;
        }
        let time = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{}-{}", time(self.from), time(self.to))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, entry) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            if let Some(window) = entry.window {
                write!(f, "{window}=")?;
            }
            write!(f, "{}", entry.rate)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn at(day: u8, hour: u16, minute: u16) -> WeekTime {
        WeekTime { day, minute: hour * 60 + minute }
    }

    #[test]
    fn a_moment_has_the_rate_of_its_window() {
        let day_and_night = schedule("08:00-18:00=5M,18:00-08:00=100M");
        let (slow, fast) = (Rate::bytes_per_second(5 << 20), Rate::bytes_per_second(100 << 20));
        for day in 0..7 {
            for (hour, minute, rate) in
                [(7, 59, fast), (8, 0, slow), (17, 59, slow), (18, 0, fast), (0, 0, fast), (23, 59, fast)]
            {
                assert_eq!(Some(day_and_night.rate_at(at(day, hour, minute))), rate, "{day} {hour}:{minute}");
            }
        }
        let working_days = schedule("mon-fri 08:00-18:00=5M");
        assert_eq!(Some(working_days.rate_at(at(4, 12, 0))), slow);
        assert_eq!(working_days.rate_at(at(5, 12, 0)), Rate::Unlimited);
        assert_eq!(working_days.rate_at(at(4, 18, 0)), Rate::Unlimited);
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let night = schedule("sun 22:00-06:00=1K, 2K");
        let is_night = |at| Some(night.rate_at(at)) == Rate::bytes_per_second(1024);
        assert!(is_night(at(6, 22, 0)) && is_night(at(0, 5, 59)));
        assert!(
            !is_night(at(6, 21, 59))
                && !is_night(at(0, 6, 0))
                && !is_night(at(6, 3, 0))
                && !is_night(at(0, 23, 0))
        );
    }

    #[test]
    fn days_may_go_round_the_week() {
        let weekend = schedule("sat-mon 00:00-24:00=1,2");
        let rates: Vec<_> = (0..7).map(|day| weekend.rate_at(at(day, 12, 0)).to_string()).collect();
        assert_eq!(rates, ["1", "2", "2", "2", "2", "1", "1"]);
    }

    #[test]
    fn what_is_printed_parses_to_the_same() {
        for text in [
            "20M",
            "unlimited",
            "1",
            "1025",
            "3G",
            "08:00-18:00=5M,18:00-08:00=100M",
            "mon-fri 08:00-18:00=5M,50M",
            "sun 00:00-24:00=unlimited,512K",
            "sat-mon 22:30-06:15=7",
        ] {
            assert_eq!(schedule(text).to_string(), text);
        }
        assert_eq!(schedule(" MON-FRI  08:00-18:00 = 5mib , 1k ").to_string(), "mon-fri 08:00-18:00=5M,1K");
    }

    #[test]
    fn texts_that_are_no_schedule_say_why() {
        for text in
            ["", "0", "-1", "5X", "20M,", "99999999999999999999", "9999999999G", "08:00-18:00", "1.5M"]
        {
            assert!(
                matches!(
                    text.parse::<Schedule>(),
                    Err(ScheduleError::Rate(_) | ScheduleError::Unreachable(_))
                ),
                "{text:?}"
            );
        }
        for text in [
            "8:00-18:00=1",
            "08:00=1",
            "08:00-08:00=1",
            "24:00-08:00=1",
            "08:00-24:01=1",
            "foo 08:00-18:00=1",
            "08:00-00:00=1",
            "08:60-09:00=1",
            "+8:00-09:00=1",
        ] {
            assert!(matches!(text.parse::<Schedule>(), Err(ScheduleError::Window(_))), "{text:?}");
        }
        assert!(matches!("1,2".parse::<Schedule>(), Err(ScheduleError::Unreachable(_))));
        let many = "08:00-09:00=1,".repeat(SCHEDULE_ENTRIES_MAX) + "1";
        assert_eq!(many.parse::<Schedule>(), Err(ScheduleError::Entries));
    }

    #[test]
    fn now_is_a_moment_of_the_week() {
        let now = WeekTime::now();
        assert!(now.day < 7 && now.minute < DAY_MINUTES);
    }
}
