//! `seconds[:ms]`: how long to wait, and how often to look.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// The original's pause between two looks.
const USUAL_PAUSE: Duration = Duration::from_millis(100);

/// A limit whose time began when it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// Between two looks.
    pub(crate) pause: Duration,
    whole: Duration,
    begun: Instant,
}

impl Limit {
    /// Time left; zero when it is over.
    pub(crate) fn left(&self) -> Duration {
        self.whole.saturating_sub(self.begun.elapsed())
    }

    /// All of the time, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.whole.as_secs_f64()
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (seconds, pause) = match text.split_once(':') {
            Some((seconds, pause)) => (seconds, Some(pause)),
            None => (text, None),
        };
        let wrong =
            |what: &str| format!("`{what}` is not a time; wanted seconds[:milliseconds], such as 5.0:100");
        let number: f64 = seconds.parse().map_err(|_| wrong(seconds))?;
        let whole = Duration::try_from_secs_f64(number).map_err(|_| wrong(seconds))?;
        let pause = match pause {
            Some(text) => Duration::from_millis(text.parse().map_err(|_| wrong(text))?),
            None => USUAL_PAUSE,
        };
        // A pause of 0 would burn a processor.
        Ok(Self { pause: pause.max(Duration::from_millis(1)), whole, begun: Instant::now() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_tenths_and_a_pause() {
        let limit: Limit = "2.5:50".parse().expect("a limit");
        assert_eq!((limit.seconds(), limit.pause), (2.5, Duration::from_millis(50)));
        let limit: Limit = "60".parse().expect("a limit");
        assert_eq!((limit.seconds(), limit.pause), (60.0, USUAL_PAUSE));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "x", "-1", "1:x", "1:", "inf", "nan"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
