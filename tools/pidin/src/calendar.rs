//! Seconds since 1970 as `Nov 22 05:26:36 UTC 2026`.
//!
//! DEVIATION: QNX shows the zone of the terminal; here it is UTC, the same for all nodes of a table.

use qnet::calendar::Utc;

/// The date and time in UTC.
pub(crate) fn show(seconds: i64) -> String {
    let Utc { year, month, day, hour, minute, second } = Utc::of(seconds);
    format!("{month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

#[cfg(test)]
mod tests {
    use super::show;

    #[test]
    fn a_time_is_shown_in_qnxs_order() {
        assert_eq!(show(0), "Jan 01 00:00:00 UTC 1970");
        assert_eq!(show(1_709_251_200), "Mar 01 00:00:00 UTC 2024");
    }
}
