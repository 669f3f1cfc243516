//! Message data on its way to another node, and how much of it each socket may have there.
//!
//! The core holds what it sends until the other node acknowledged it. Each socket has a [`Gauge`] that tells how many of
//! its bytes are held; a socket above the limit is not read until enough of them have left.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use qnet_proto::{Body, Source};

/// Bytes of one socket that may be on their way before it is not read any more.
const LIMIT: usize = 64 * 1024 * 1024;
/// What a body costs beside its bytes: many small ones must not fill the core's queue either.
const BODY: usize = 2048;

/// Counts the bytes of one socket that are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// A body with a copy of `data`, counted until it is dropped.
    pub(super) fn body(&self, data: &[u8]) -> Body {
        if data.is_empty() {
            return Body::empty();
        }
        self.0.fetch_add(data.len() + BODY, Ordering::Relaxed);
        Body::from_source(Counted { data: data.to_vec(), gauge: self.clone() })
    }

    /// Whether too much is on its way.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LIMIT
    }
}

struct Counted {
    data: Vec<u8>,
    gauge: Gauge,
}

impl Source for Counted {
    fn len(&self) -> u64 {
        self.data.as_slice().len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        self.data.as_slice().read_at(offset, out);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.data.len() + BODY, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_as_long_as_the_core_holds_them() {
        let gauge = Gauge::default();
        let data = vec![7; LIMIT / 2];
        let first = gauge.body(&data);
        assert!(!gauge.is_full());
        let second = gauge.body(&data);
        assert!(gauge.is_full());
        drop(first);
        assert!(!gauge.is_full());
        let mut out = [0; 3];
        second.read_at(10, &mut out);
        assert_eq!((second.len(), out), (data.len() as u64, [7; 3]));
    }
}
