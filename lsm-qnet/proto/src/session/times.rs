//! The times a session goes by, made of the settings' ticks.

use std::time::Duration;

use crate::config::Config;

use super::outbox::Patience;

/// Longest timeouts that a message may be missing where nobody sends again.
const GAP: u32 = 5;

/// The times a session goes by, from the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) est_timeout: Duration,
    pub(crate) est_retries: u32,
    pub(crate) idle: Duration,
    pub(crate) poll_spacing: Duration,
    pub(crate) poll_retries: u32,
    pub(crate) patience: Patience,
    /// How long a message may be missing where nobody sends again.
    pub(crate) gap: Duration,
    /// Time after which a link without an address of the peer is asked for one.
    pub(crate) search: Duration,
}

impl Times {
    pub(crate) fn new(config: &Config) -> Times {
        let longest_timeout = config.ticks(config.tx_ticks.max(1));
        let idle = config.ticks(config.conn_up_idle.max(1));
        let poll_spacing = config.ticks(5).min(idle);
        Times {
            gap: longest_timeout.saturating_mul(GAP),
            search: config.ticks(config.probe_no_l4_time.unwrap_or(config.conn_up_idle).max(1)),
            est_timeout: config.ticks(config.conn_est_timeout.max(1)),
            est_retries: config.conn_est_retries,
            idle,
            poll_spacing,
            poll_retries: config.conn_up_retries.max(1),
            patience: Patience {
                longest_timeout,
                give_up: longest_timeout.saturating_mul(config.tx_retries.max(1)),
                idle,
                spacing: poll_spacing,
                slow: config.ticks(config.slow_mode),
            },
        }
    }
}
