//! How fast and how fair the transport is, as a table that is part of the sources.
//!
//! Everything in it follows from seeds and simulated time, so it is the same on every machine; a change
//! in the transport's behaviour shows as a difference. After a change that is meant,
//! `QNET_SIM_BLESS=1 cargo test -p qnet-sim --test throughput` writes the table anew: look at what the change
//! did to it before you commit it.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use qnet_sim::apps::{Client, Ledger, Op, Server, Station};
use qnet_sim::{Faults, HostId, Network, Wire};

/// Bits per second of every link.
const RATE: u64 = 100_000_000;
/// What is measured: simulated time after as much of it to warm up.
const SPAN: Duration = Duration::from_secs(1);
/// Bytes of a message.
const PIECE: u32 = 16 << 10;

fn wire(loss: u32, delay: Duration) -> Wire {
    Wire { faults: Faults { loss, delay, ..Faults::default() }, rate: Some(RATE), queue: 200 }
}

fn plan() -> Vec<Op> {
    vec![Op::Put { len: PIECE }; 6000]
}

/// Megabytes per second that each client got through, in the order they were added.
fn rates(net: &mut Network, ledger: &qnet_sim::apps::SharedLedger, clients: u64) -> Vec<f64> {
    net.run_for(SPAN);
    let count = |client| ledger.borrow().answered_of(client);
    let before: Vec<usize> = (1..=clients).map(count).collect();
    net.run_for(SPAN);
    let bytes = |messages: usize| messages as f64 * f64::from(PIECE);
    (1..=clients).map(|c| bytes(count(c) - before[c as usize - 1]) / SPAN.as_secs_f64() / 1e6).collect()
}

/// One sender, one receiver with a window, over `links` links.
fn alone(loss: u32, delay: Duration, window: u32, links: u32) -> f64 {
    let mut net = Network::new(7);
    for segment in 0..links {
        net.set_wire(segment, wire(loss, delay));
    }
    let ledger = Ledger::shared();
    let change = move |config: &mut qnet_proto::Config| {
        config.limits.reassembly_per_peer = window;
        config.conn_est_retries = 20;
    };
    let (a, b) = (net.add_with("alonzo", change), net.add_with("server", change));
    for segment in 1..links {
        net.attach(a, segment);
        net.attach(b, segment);
    }
    net.install(b, Server::boxed(&ledger, 3));
    net.install(a, Client::boxed(&ledger, "server", 3, plan(), 64, true).0);
    rates(&mut net, &ledger, 1)[0]
}

/// Jain's index: 1 when all get the same, 1/n when one gets everything.
fn jain(rates: &[f64]) -> f64 {
    let (sum, squares) = rates.iter().fold((0.0, 0.0), |(s, q), r| (s + r, q + r * r));
    if squares == 0.0 { 0.0 } else { sum * sum / (rates.len() as f64 * squares) }
}

/// Four senders on one host, a server each on hosts of their own: their sessions share one link.
fn sharing_a_link(loss: u32, delay: Duration) -> Vec<f64> {
    let mut net = Network::new(8);
    net.set_wire(0, wire(loss, delay));
    let ledger = Ledger::shared();
    let sender = net.add("sender");
    let clients = (0..4).map(|i| {
        let name = format!("server{i}");
        let host = net.add(&name);
        net.install(host, Server::boxed(&ledger, 3));
        *Client::boxed(&ledger, &name, 3, plan(), 32, true).0
    });
    let clients = clients.collect();
    net.install(sender, Station::boxed(Server::boxed(&ledger, 3), clients));
    rates(&mut net, &ledger, 4)
}

/// Four hosts that send to one whose memory is little.
fn sharing_a_receiver(loss: u32, delay: Duration, memory: u32) -> Vec<f64> {
    let mut net = Network::new(9);
    net.set_wire(0, wire(loss, delay));
    let ledger = Ledger::shared();
    let server = net.add_with("server", |config| {
        config.limits.reassembly_per_peer = memory / 2;
        config.limits.reassembly_total = memory;
    });
    net.install(server, Server::boxed(&ledger, 3));
    let hosts: Vec<HostId> = (0..4).map(|i| net.add(&format!("client{i}"))).collect();
    for host in hosts {
        net.install(host, Client::boxed(&ledger, "server", 3, plan(), 32, true).0);
    }
    rates(&mut net, &ledger, 4)
}

fn table() -> String {
    let mut text = String::from(
        "Throughput in simulated time, MB/s; links of 100 Mbit/s (12.5 MB/s), queues of 200 frames,\n\
         messages of 16 KiB, 64 under way. Loss in frames of 1000, delay one way.\n\n\
         \x20loss   delay | window 128 KiB   window 8 MiB   two links, 8 MiB\n",
    );
    for loss in [0, 1, 10, 100] {
        for delay in [50, 1000, 10_000, 50_000].map(Duration::from_micros) {
            let narrow = alone(loss, delay, 128 << 10, 1);
            let wide = alone(loss, delay, 8 << 20, 1);
            let two = alone(loss, delay, 8 << 20, 2);
            let delay = format!("{delay:?}");
            writeln!(text, "{loss:5} {delay:>7} | {narrow:14.2} {wide:14.2} {two:18.2}").unwrap();
        }
    }
    text.push_str(
        "\nFairness: four senders, MB/s of all together and Jain's index (1: all get the same).\n\n\
         \x20loss   delay | one link, all   Jain | one receiver, 512 KiB, all   Jain\n",
    );
    for loss in [0, 10] {
        for delay in [50, 1000, 10_000].map(Duration::from_micros) {
            let link = sharing_a_link(loss, delay);
            let receiver = sharing_a_receiver(loss, delay, 512 << 10);
            let (all, all_of_receiver): (f64, f64) = (link.iter().sum(), receiver.iter().sum());
            let (fair, fair_receiver) = (jain(&link), jain(&receiver));
            let delay = format!("{delay:?}");
            writeln!(
                text,
                "{loss:5} {delay:>7} | {all:13.2} {fair:6.3} | {all_of_receiver:26.2} {fair_receiver:6.3}"
            )
            .unwrap();
        }
    }
    text
}

#[test]
fn the_transport_is_as_fast_and_as_fair_as_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots/throughput.txt");
    let now = table();
    if std::env::var_os("QNET_SIM_BLESS").is_some() {
        std::fs::write(&path, &now).unwrap();
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap();
    assert!(
        known == now,
        "the transport behaves otherwise than {} says; if that is meant, QNET_SIM_BLESS=1 writes it anew. Now:\n{now}",
        path.display()
    );
}

#[test]
fn a_line_slower_than_the_first_timeout_is_measured_and_used() {
    // The round trip takes longer than the first guess of it, so everything is sent twice until it is known.
    for delay in [30, 70, 100].map(Duration::from_millis) {
        let rate = alone(0, delay, 8 << 20, 1);
        assert!(rate > 1.0, "{delay:?} one way: {rate} MB/s");
    }
}
