//! Seconds since 1970 as `Nov 22 05:26:36 UTC 2026`.
//!
//! DEVIATION: QNX shows the zone of the terminal; here it is UTC, the same for all nodes of a table.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The date and time in UTC.
pub(crate) fn show(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March have their leap day at their end; 719468 days lie between 0000-03-01 and 1970-01-01.
    let day = days + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12;
    let year = era * 400 + year + i64::from(month < 2);
    let name = MONTHS[usize::try_from(month).unwrap_or_default()];
    format!("{name} {of_month:02} {:02}:{:02}:{:02} UTC {year}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::show;

    #[test]
    fn dates_around_leap_days_and_new_year_are_right() {
        assert_eq!(show(0), "Jan 01 00:00:00 UTC 1970");
        assert_eq!(show(951_782_400), "Feb 29 00:00:00 UTC 2000");
        assert_eq!(show(951_868_799), "Feb 29 23:59:59 UTC 2000");
        assert_eq!(show(1_709_251_200), "Mar 01 00:00:00 UTC 2024");
        assert_eq!(show(1_798_761_599), "Dec 31 23:59:59 UTC 2026");
    }
}
