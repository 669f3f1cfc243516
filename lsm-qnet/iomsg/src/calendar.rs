//! Seconds since 1970 as a date and a time of day, in UTC: what QNX's tools print.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second of the proleptic Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Utc {
    /// Year, such as 2026.
    pub year: i64,
    /// First three letters of the month's English name.
    pub month: &'static str,
    /// Day of the month, 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
}

impl Utc {
    /// Of so many seconds since the beginning of 1970.
    #[must_use]
    pub fn of(seconds: i64) -> Self {
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years that begin in March have their leap day at their end; 719468 days lie between 0000-03-01 and 1970-01-01.
        let day = days + 719_468;
        let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = (from_march + 2) % 12;
        Self {
            year: era * 400 + year + i64::from(month < 2),
            month: MONTHS[usize::try_from(month).unwrap_or_default()],
            day: of_year - (153 * from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest % 3600 / 60,
            second: rest % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Utc;

    #[test]
    fn dates_around_leap_days_and_new_year_are_right() {
        for (seconds, shown) in [
            (0, "1970 Jan 1 0:0:0"),
            (-1, "1969 Dec 31 23:59:59"),
            (951_782_400, "2000 Feb 29 0:0:0"),
            (951_868_799, "2000 Feb 29 23:59:59"),
            (1_709_251_200, "2024 Mar 1 0:0:0"),
            (1_798_761_599, "2026 Dec 31 23:59:59"),
        ] {
            let Utc { year, month, day, hour, minute, second } = Utc::of(seconds);
            assert_eq!(format!("{year} {month} {day} {hour}:{minute}:{second}"), shown);
        }
    }
}
