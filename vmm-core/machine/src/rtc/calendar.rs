//! Seconds since 1970 to a date of the proleptic Gregorian calendar, and back.
//!
//! Days are counted in years that begin in March, so that the leap day is the last of its year.

/// A date and time of day, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub year: u16,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

const DAY: i64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const ERA: i64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970.
const EPOCH: i64 = 719_468;

/// Days from a year's 1 March to the first of its month number `month`, counted from March.
fn days_before_month(month: i64) -> i64 {
    (153 * month + 2) / 5
}

impl Date {
    /// The date at so many seconds since 1970; years beyond 0 to 9999 stay at the nearest of these.
    pub fn at(seconds: i64) -> Self {
        let days = seconds.div_euclid(DAY) + EPOCH;
        let within = seconds.rem_euclid(DAY);
        let (era, day_of_era) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let first = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
        let day_of_year = day_of_era - first;
        let month = (5 * day_of_year + 2) / 153;
        let from_january = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year_of_era + i64::from(from_january <= 2);
        Self {
            year: year.clamp(0, 9999) as u16,
            month: from_january as u8,
            day: (day_of_year - days_before_month(month) + 1) as u8,
            hour: (within / 3600) as u8,
            minute: (within / 60 % 60) as u8,
            second: (within % 60) as u8,
        }
    }

    /// Seconds since 1970. A month that does not exist counts as the nearest that does; days and times
    /// beyond their range run into the next.
    pub fn seconds(self) -> i64 {
        let month = i64::from(self.month.clamp(1, 12));
        let year = i64::from(self.year) - i64::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let from_march = if month > 2 { month - 3 } else { month + 9 };
        let day_of_year = days_before_month(from_march) + i64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = era * ERA + day_of_era - EPOCH;
        let time =
            i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        days * DAY + time
    }

    /// Day of the week, Sunday being 1.
    pub fn weekday(self) -> u8 {
        // 1 January 1970 was a Thursday.
        ((self.seconds().div_euclid(DAY) + 4).rem_euclid(7) + 1) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAP: Date = Date { year: 2024, month: 2, day: 29, hour: 23, minute: 59, second: 58 };

    #[test]
    fn known_moments_have_their_dates() {
        assert_eq!(Date::at(1_709_251_198), LEAP);
        assert_eq!(LEAP.seconds(), 1_709_251_198);
        assert_eq!(LEAP.weekday(), 5, "a Thursday");
        let epoch = Date::at(0);
        assert_eq!((epoch.year, epoch.month, epoch.day, epoch.weekday()), (1970, 1, 1, 5));
        let before = Date::at(-1);
        assert_eq!((before.year, before.month, before.day, before.second), (1969, 12, 31, 59));
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in 0..ERA {
            let seconds = day * DAY + day % DAY;
            assert_eq!(Date::at(seconds).seconds(), seconds);
        }
    }

    #[test]
    fn nonsense_is_some_moment_all_the_same() {
        let date = Date { year: 2023, month: 0, day: 0, hour: 255, minute: 255, second: 255 };
        assert!(date.seconds() > 0);
        let date = Date { month: 255, day: 255, ..LEAP };
        assert!(date.seconds() > LEAP.seconds());
    }
}
