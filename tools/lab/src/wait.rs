//! Waiting for something to become true: by asking again, with a deadline, never by a fixed sleep.

use std::thread;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until the answer is something.
///
/// # Errors
/// [`LabError::Late`] with `what` when the time is over.
pub fn until<T>(what: &str, most: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T, LabError> {
    let deadline = Instant::now() + most;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(LabError::Late {
                what: what.to_owned(),
                seconds: most.as_secs(),
                text: String::new(),
            });
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_handed_on() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(60), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(answer.expect("in time"), 3);
    }

    #[test]
    fn what_was_waited_for_is_named() {
        let error = until::<()>("a miracle", Duration::ZERO, || None).expect_err("never");
        assert!(error.to_string().starts_with("a miracle: still waiting"), "{error}");
    }
}
