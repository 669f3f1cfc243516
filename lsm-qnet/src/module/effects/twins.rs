//! Two nodes whose interfaces have one address, on a wire where each hears everything that the other says.

use super::rig::{Node, Rig};

/// The address that the node's last frame came from.
fn speaks_from(node: &Node) -> [u8; 6] {
    let sent = node.sent.iter().rev().find(|sent| sent.interface == super::rig::EN0);
    sent.expect("it announced itself").frame[6..12].try_into().expect("six bytes")
}

#[test]
fn one_of_two_nodes_of_one_address_takes_another_and_passes_over_what_is_for_the_first() {
    let mut rig = Rig::twins();
    rig.ticks(5);
    let [alonzo, joseph] = [&rig.alonzo, &rig.joseph].map(speaks_from);
    assert_ne!(alonzo, joseph);
    assert!([alonzo, joseph].iter().any(|from| from[..2] == [0x02, 0xea]), "{alonzo:x?} {joseph:x?}");
    let told = |node: &Node| node.said("en0: Qnet takes the address 02:ea:").len();
    assert!(told(&rig.alonzo) + told(&rig.joseph) >= 1);
    // Both hear all frames, and each takes its own.
    rig.connect();
    let reports = [&mut rig.alonzo, &mut rig.joseph].map(|node| node.bench.report("").unwrap());
    assert!(
        reports.iter().all(|report| report.contains("           0  received: for a session that is over"))
    );
}
