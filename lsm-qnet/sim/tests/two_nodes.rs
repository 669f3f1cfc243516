//! Two nodes under everything a wire can do: files and messages of many sizes cross intact, or the
//! sender is told.
//!
//! A failing seed is printed; `QNET_SIM_SEED` repeats it and leaves its frames as a pcap.

use std::time::Duration;

use qnet_proto::Config;
use qnet_sim::apps::{Client, Ledger, Op, Server};
use qnet_sim::{Faults, Network, Rng, seeds};

/// Settings for wires so bad that two tries of a set-up are not enough.
fn patient(config: &mut Config) {
    config.do_crc = true;
    config.conn_est_retries = 20;
    config.res_retries = 20;
    config.tx_retries = 100;
}

/// A file of 1 MiB, read in pieces, written in one message, and small things between.
fn file_plan(rng: &mut Rng) -> Vec<Op> {
    let mut plan: Vec<Op> = (0..16).map(|i| Op::Read { offset: i << 16, len: 1 << 16 }).collect();
    plan.push(Op::Put { len: 1 << 20 });
    for _ in 0..12 {
        let len = match rng.below(4) {
            0 => rng.below(40) as u32,
            1 => 1300 + rng.below(300) as u32,
            2 => 8100 + rng.below(200) as u32,
            _ => rng.below(100_000) as u32,
        };
        let at = rng.below(plan.len() as u64) as usize;
        plan.insert(at, Op::Echo { len });
        plan.insert(at, Op::Pulse);
    }
    plan
}

#[test]
fn a_whole_file_crosses_intact_whatever_the_wire_does() {
    seeds::each(seeds::count(300, 10_000), |seed| {
        let mut net = Network::new(seed);
        net.configure(patient);
        let (a, b) = (net.add("alonzo"), net.add("joseph"));
        let faults = Faults::random(net.rng(), 100);
        net.set_faults(faults);
        let ledger = Ledger::shared();
        net.install(b, Server::boxed(&ledger, 42));
        let plan = file_plan(net.rng());
        let messages = plan.iter().filter(|op| **op != Op::Pulse).count();
        let (client, done) = Client::boxed(&ledger, "joseph", 42, plan, 4, true);
        net.install(a, client);
        assert!(net.run_while(Duration::from_secs(120), |_| *done.borrow()), "not done: {faults:?}");
        net.run_for(Duration::from_secs(1));
        ledger.borrow().check();
        assert_eq!(ledger.borrow().answered(), messages);
        for host in [a, b] {
            assert_eq!(net.node(host).reassembly_bytes(), 0, "memory is given back");
        }
    });
}
