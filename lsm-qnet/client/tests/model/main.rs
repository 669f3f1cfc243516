//! Channels of this node against the model: clients are the ends of channel sockets.

#![expect(clippy::unwrap_used, reason = "a sequence that panics has failed")]

mod world;

use qnet::{Channel, Root};
use qnet_ipc::{ClientPeer, packet::Connect};
use world::{Way, run};

/// Clients and channel on one node.
struct Here(Root);

impl Way for Here {
    fn root(&self) -> Root {
        self.0.clone()
    }

    fn client(&mut self, channel: &Channel, _pid: i32) -> (ClientPeer, Connect) {
        let address = self.0.channel(channel.pid(), channel.chid()).unwrap();
        let connect = Connect { conn: 1, nd: 0, pid: address.pid, chid: address.chid, flags: 0, claim: None };
        (qnet_ipc::connect_channel(&address).unwrap().0, connect)
    }

    fn is_on_one_node(&self) -> bool {
        true
    }

    fn turn(&mut self) {
        std::thread::yield_now();
    }

    fn rest(&mut self) {}
}

#[test]
fn a_channel_does_what_the_model_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut here = Here(Root::at(directory.path()).unwrap());
    run(&mut here, (2_000, 50_000));
}
