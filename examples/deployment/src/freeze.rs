//! When nothing is begun: windows of days and hours in UTC, judged for a time that is given.

use std::fmt;

use gemba::config::Faults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY_MINUTES: u64 = 24 * 60;

const MINUTE_MS: u64 = 60_000;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "each is its name")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

const DAYS: [Day; 7] = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];

impl Day {
    /// The day of the week of a day since 1970.
    fn of(day: u64) -> Self {
        // 1970-01-01 was a Thursday.
        DAYS[((day + 3) % 7) as usize]
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mon => "Mon",
            Self::Tue => "Tue",
            Self::Wed => "Wed",
            Self::Thu => "Thu",
            Self::Fri => "Fri",
            Self::Sat => "Sat",
            Self::Sun => "Sun",
        })
    }
}

/// A time of the day in UTC, `00:00` to `24:00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", example = "16:00")]
pub struct TimeOfDay(u64);

impl TryFrom<String> for TimeOfDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |part: &str| {
            (part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| part.parse::<u64>().ok())
                .flatten()
        };
        let (hours, minutes) = text.split_once(':').unwrap_or_default();
        let minutes = number(hours).zip(number(minutes).filter(|minutes| *minutes < 60));
        minutes
            .map(|(hours, minutes)| hours * 60 + minutes)
            .filter(|minutes| *minutes <= DAY_MINUTES)
            .map(Self)
            .ok_or_else(|| "give hours and minutes in UTC, from 00:00 to 24:00".to_owned())
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// A time in which no delivery is begun. What was begun before goes on, and is taken back if it does harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeWindow {
    /// Why, for whoever asks meanwhile.
    #[schemars(length(min = 1))]
    pub why: String,
    /// The days on which it begins; every day if none is named.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it begins, in UTC.
    #[serde(default = "midnight")]
    pub from: TimeOfDay,
    /// When it ends, in UTC; on the day after, if that is earlier than `from`.
    #[serde(default = "end_of_day")]
    pub until: TimeOfDay,
}

fn midnight() -> TimeOfDay {
    TimeOfDay(0)
}

fn end_of_day() -> TimeOfDay {
    TimeOfDay(DAY_MINUTES)
}

impl FreezeWindow {
    /// When the window that holds at this time ends, both in milliseconds since 1970; none if none holds.
    pub fn holds_until(&self, unix_ms: u64) -> Option<u64> {
        let day_ms = DAY_MINUTES * MINUTE_MS;
        let today = unix_ms / day_ms;
        let lasts = if self.from < self.until { self.until.0 } else { self.until.0 + DAY_MINUTES };
        // One that began yesterday may still hold.
        let begins = [Some(today), today.checked_sub(1)].into_iter().flatten();
        let begins = begins.filter(|day| self.days.is_empty() || self.days.contains(&Day::of(*day)));
        let holds = begins.filter_map(|day| {
            let at = |minutes: u64| day * day_ms + minutes * MINUTE_MS;
            (at(self.from.0)..at(lasts)).contains(&unix_ms).then(|| at(lasts))
        });
        holds.max()
    }

    /// Reports what no single value shows.
    pub(crate) fn check(&self, faults: &mut Faults<'_>) {
        if self.from == self.until {
            let time = self.from;
            faults
                .at("until")
                .add(format!("is {time}, as `from` is; give another time, or 00:00 to 24:00 for whole days"))
                .beside("from");
        }
    }
}

/// Why nothing is begun at this time, in milliseconds since 1970: every window that holds, and its end.
pub fn frozen<'a>(windows: impl IntoIterator<Item = &'a FreezeWindow>, unix_ms: u64) -> Option<String> {
    let said = windows.into_iter().filter_map(|window| {
        let minutes = window.holds_until(unix_ms)? / MINUTE_MS;
        let (day, time) = (Day::of(minutes / DAY_MINUTES), TimeOfDay(minutes % DAY_MINUTES));
        Some(format!("{}, until {day} {time} UTC", window.why))
    });
    let said: Vec<_> = said.collect();
    (!said.is_empty()).then(|| said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> TimeOfDay {
        text.to_owned().try_into().unwrap()
    }

    fn window(days: &[Day], from: &str, until: &str) -> FreezeWindow {
        FreezeWindow { why: "rest".to_owned(), days: days.into(), from: time(from), until: time(until) }
    }

    /// A time in the week that began on Monday, 5 January 1970.
    fn at(day: Day, text: &str) -> u64 {
        let days = 4 + DAYS.iter().position(|other| *other == day).unwrap() as u64;
        (days * DAY_MINUTES + time(text).0) * MINUTE_MS
    }

    #[test]
    fn a_window_holds_from_its_first_minute_to_the_one_before_its_end() {
        let evening = window(&[Day::Fri], "16:00", "20:00");
        for (day, text, holds) in [
            (Day::Fri, "15:59", false),
            (Day::Fri, "16:00", true),
            (Day::Fri, "19:59", true),
            (Day::Fri, "20:00", false),
            (Day::Thu, "17:00", false),
        ] {
            assert_eq!(evening.holds_until(at(day, text)).is_some(), holds, "{day} {text}");
        }
        assert_eq!(evening.holds_until(at(Day::Fri, "16:00") - 1), None, "a millisecond before");
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(&[Day::Fri], "22:00", "06:00");
        for (day, text, holds) in [
            (Day::Fri, "05:00", false),
            (Day::Fri, "23:00", true),
            (Day::Sat, "05:59", true),
            (Day::Sat, "06:00", false),
            (Day::Sat, "23:00", false),
        ] {
            assert_eq!(night.holds_until(at(day, text)).is_some(), holds, "{day} {text}");
        }
        let daily = window(&[], "22:00", "06:00");
        assert_eq!(daily.holds_until(at(Day::Tue, "01:00")), Some(at(Day::Tue, "06:00")));
        assert_eq!(daily.holds_until(0), None, "the first minute of all has no day before it");
    }

    #[test]
    fn every_window_that_holds_is_told_with_its_end() {
        let windows = [
            window(&[Day::Sat, Day::Sun], "00:00", "24:00"),
            window(&[Day::Sun], "12:00", "06:00"),
            window(&[Day::Mon], "00:00", "24:00"),
        ];
        let now = at(Day::Sun, "13:00");
        assert_eq!(frozen(&windows, now).unwrap(), "rest, until Mon 00:00 UTC; rest, until Mon 06:00 UTC");
        assert_eq!(frozen(&windows, at(Day::Wed, "13:00")), None);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["24:01", "12:60", "1:00", "12", "+1:00", "", "noon"] {
            assert!(TimeOfDay::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(String::from(time("09:05")), "09:05");
    }
}
