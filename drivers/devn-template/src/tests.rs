//! The driver on the SDK's test host, without a daemon.

use io_pkt_sdk::{UNKNOWN, abi::PollEvent, abi::info::READY_DEADLINE, testing::Bench};

use super::*;

fn started(options: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::driver::<Template>("en0", "/nonexistent", options).unwrap();
    bench.start().unwrap();
    bench
}

#[test]
fn a_sent_frame_comes_back_byte_for_byte() {
    let mut bench = started(&[]);
    let (short, jumbo) = (vec![1; 60], (0..9000).map(|n| n as u8).collect::<Vec<_>>());
    assert_eq!(bench.transmit(&[&short, &jumbo]), 2);
    bench.settle();
    assert_eq!(bench.received(), [short, jumbo]);
    let stats = bench.stats();
    assert_eq!((stats.tx_packets, stats.tx_bytes, stats.rx_packets, stats.rx_bytes), (2, 9060, 2, 9060));
    assert_eq!(stats.rx_crc, UNKNOWN);
}

#[test]
fn what_does_not_fit_is_left_to_the_host() {
    let mut bench = started(&[]);
    let frame = [0; 60];
    // A batch holds 64; the bench stops at the first frame that the driver leaves.
    assert_eq!(bench.transmit(&[&frame[..]; 100]), 64);
    bench.settle();
    assert_eq!(bench.received().len(), 64);
    assert_eq!(bench.transmit(&[&frame[..]; 36]), 36);
}

#[test]
fn the_interface_says_what_the_options_say() {
    let bench =
        started(&[("mac", "020000000007"), ("mtu", "9014"), ("promiscuous", "1"), ("nomulticast", "1")]);
    let interface = bench.interface().unwrap();
    assert_eq!((interface.mac, interface.mtu), (Mac([2, 0, 0, 0, 0, 7]), 9000));
    assert!(interface.promiscuous && !interface.multicast && interface.link_up);
    assert!(interface.permanent_mac.is_local());
}

#[test]
fn a_frame_of_its_own_comes_once_a_period() {
    let mut bench = started(&[("period", "3600000")]);
    let tick = [PollEvent { token: 0, ready: READY_DEADLINE, value: 0 }];
    bench.poll_with(&tick).unwrap();
    assert!(bench.received().is_empty(), "an hour has not passed");
    bench.host().advance(3_600_000_000_000);
    assert!(bench.poll(), "the deadline is due");
    let frames = bench.received();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].len(), &frames[0][..6]), (60, &[0xff; 6][..]));
    assert!(!bench.poll(), "the next one is an hour away");
}

#[test]
fn an_empty_pool_is_counted() {
    let mut bench = started(&[("period", "1")]);
    bench.leave_chunks(0);
    bench.host().advance(1_000_000_000);
    bench.poll_until(|bench| bench.stats().rx_no_memory == 1);
    assert!(bench.received().is_empty());
}
