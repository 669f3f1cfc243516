//! Channels of another node against the model that those of one node are held against: clients are programs at alonzo's
//! `qnet.sock`, the channel is at barbara, between them are two engines.

#[path = "../../../client/tests/model/world.rs"]
mod world;

use qnet::Channel;

use super::super::meter::tests::Lab;
use super::*;
use world::{Way, run};

impl Way for Lab {
    fn root(&self) -> Root {
        self.desks[1].root.clone()
    }

    fn client(&mut self, channel: &Channel, pid: i32) -> (ClientPeer, Connect) {
        let mut nodes = self.desks[0].engine.core().nodes();
        let nd = nodes.find(|view| view.nd != NodeId::LOCAL).unwrap().nd.0;
        // All are one process here; to barbara each is one of its own.
        let claim = Some(Claim { pid, ..Claim::user(1000, 100, vec![]) });
        let connect = Connect { conn: 1, nd, pid: channel.pid(), chid: channel.chid(), flags: 0, claim };
        (connect_path(&self.desks[0].root.qnet_socket()).unwrap().0, connect)
    }

    fn is_on_one_node(&self) -> bool {
        false
    }

    fn turn(&mut self) {
        self.rest();
    }

    fn rest(&mut self) {
        Lab::rest(self);
    }
}

#[test]
fn a_channel_of_another_node_does_what_the_model_says() {
    let mut lab = Lab::new(Some("connect"));
    run(&mut lab, (30, 5_000));
    lab.rest();
    for desk in &lab.desks {
        assert_eq!((desk.engine.population().1, desk.engine.population().2), (0, 0), "something is left");
    }
}
