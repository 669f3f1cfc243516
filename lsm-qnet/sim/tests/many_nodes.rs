//! More than two nodes: everybody talks to one server at once, on wires of all kinds, while it is
//! restarted.
//!
//! The ledger of `qnet_sim::apps` is the judge.

use std::time::Duration;

use qnet_sim::apps::{Client, Ledger, Op, Server};
use qnet_sim::{Faults, HostId, Network, seeds};

#[test]
fn a_server_restarted_under_many_clients_breaks_no_promise() {
    seeds::each(60, |seed| {
        let mut net = Network::new(seed);
        net.configure(|config| {
            config.do_crc = true;
            config.conn_est_retries = 10;
            config.res_retries = 10;
            config.tx_retries = 10;
            config.limits.reassembly_per_peer = 300_000;
            config.limits.reassembly_total = 2 << 20;
        });
        let server = net.add("server");
        let count = 2 + net.rng().below(10);
        let clients: Vec<HostId> = (0..count).map(|i| net.add(&format!("client{i}"))).collect();
        if net.rng().chance(500) {
            // a second wire between all of them
            for &host in clients.iter().chain([&server]) {
                net.attach(host, 1);
            }
        }
        let faults = Faults::random(net.rng(), 150);
        net.set_faults(faults);
        let ledger = Ledger::shared();
        net.install(server, Server::boxed(&ledger, 9));
        let mut done = Vec::new();
        for &host in &clients {
            let plan = (0..30u32)
                .map(|i| match i % 4 {
                    0 => Op::Put { len: i * 9000 },
                    1 => Op::Read { offset: i, len: i * 3000 },
                    2 => Op::Echo { len: i * 70 },
                    _ => Op::Pulse,
                })
                .collect();
            let (client, finished) = Client::boxed(&ledger, "server", 9, plan, 3, true);
            net.install(host, client);
            done.push(finished);
        }
        let span = Duration::from_millis(20 + net.rng().below(500));
        net.run_for(span);
        net.reboot(server);
        net.install(server, Server::boxed(&ledger, 9));
        let all = net.run_while(Duration::from_secs(200), |_| done.iter().all(|done| *done.borrow()));
        assert!(all, "stuck: {faults:?}");
        net.run_for(Duration::from_secs(2));
        ledger.borrow().check();
        assert_eq!(net.node(server).reassembly_bytes(), 0);
    });
}
