//! The bookkeeping over shared memory: who has too many replies waiting is not listened to, and is heard again later.

use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};
use qnet_iomsg::{Connect as ConnectMessage, Io};
use qnet_ipc::{Claim, ClientPeer, ReceiveBuffer, ToServer, packet::Send};

use super::*;

/// Bytes of a reply.
const REPLY: usize = 1 << 20;

struct Rig {
    state: State,
    epoll: Arc<Epoll>,
    client: ClientPeer,
    buffer: ReceiveBuffer,
    txn: u32,
}

impl Rig {
    /// A state and its client, whose packets go through shared memory.
    fn new() -> Self {
        let (client, socket) = qnet_ipc::pair().unwrap();
        let epoll = Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
        let limits = Limits { workers: 4, open_files: 8, lock_owners: 8 };
        let state = State::new(ServerPeer::new(socket).unwrap(), Arc::clone(&epoll), limits).unwrap();
        let mut rig = Self { state, epoll, client, buffer: ReceiveBuffer::new(), txn: 0 };
        let claim = Some(Claim { nd: 7, ..Claim::user(1, 1, vec![]) });
        let connect = Connect { conn: 1, nd: 0, pid: 1, chid: 1, flags: 0, claim };
        rig.client.send(&ToServer::Connect(connect)).unwrap();
        for _ in 0..20 {
            rig.turn(0);
            assert!(rig.client.recv(&mut rig.buffer).unwrap().is_some());
            assert!(rig.client.recv(&mut rig.buffer).unwrap().is_none());
            rig.ask();
        }
        rig.turn(0);
        assert!(rig.client.uses_ring() && rig.state.peer.uses_ring());
        while rig.client.recv(&mut rig.buffer).unwrap().is_some() {}
        rig
    }

    fn ask(&mut self) {
        self.txn += 1;
        let message = ConnectMessage::combine_close(b"x", false, &Io::Stat.to_bytes()).emit().unwrap();
        let srcmsglen = message.len() as u32;
        let send = Send { txn: self.txn, conn: 1, srcmsglen, dstmsglen: REPLY as u32, ..Send::default() };
        self.client.send(&ToServer::Send(send, &message)).unwrap();
    }

    /// What the threads do when the leader is woken or sees a packet: takes packets, answers all requests with `bytes` each.
    fn turn(&mut self, bytes: usize) {
        let ready = self.is_woken();
        self.state.receive(ready, &mut self.buffer).unwrap();
        self.state.settle().unwrap();
        self.answer(bytes);
    }

    fn answer(&mut self, bytes: usize) {
        while let Some(job) = self.state.take_job() {
            self.state.finish(job, Outcome::Done(0), &mut vec![0; bytes]).unwrap();
        }
        self.state.settle().unwrap();
    }

    /// Whether a leader that sleeps would wake.
    fn is_woken(&self) -> bool {
        self.epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO).unwrap() > 0
    }

    /// Replies, however many packets each of them takes.
    fn replies(&mut self) -> usize {
        let mut replies = 0;
        while let Some(packet) = self.client.recv(&mut self.buffer).unwrap() {
            replies += usize::from(matches!(packet, ToClient::Reply { .. }));
        }
        replies
    }
}

#[test]
fn nobody_is_listened_to_while_replies_wait_and_all_are_heard_when_they_are_gone() {
    let mut rig = Rig::new();
    let asked = 2 * limits::OUTGOING_BYTES / REPLY;
    // One by one, so that the limit is met between two of them.
    for _ in 0..asked {
        rig.ask();
        rig.turn(REPLY);
    }
    assert!(!rig.state.can_receive(), "replies wait");
    assert!(rig.state.watch().is_none(), "nobody looks for packets");
    rig.turn(REPLY);
    assert!(!rig.is_woken(), "nothing is to be done before the client takes replies");
    let mut heard = 0;
    for _ in 0..100 * asked {
        heard += rig.replies();
        if heard == asked {
            return;
        }
        // Woken by a bell for room, or because packets are wanted again; or a leader that may look does so.
        assert!(rig.is_woken() || rig.state.watch().is_some(), "{heard} of {asked}: everybody sleeps");
        rig.turn(REPLY);
    }
    panic!("{heard} of {asked} replies came");
}

#[test]
fn a_leader_that_sleeps_is_woken_when_a_worker_has_made_room() {
    let mut rig = Rig::new();
    let enough = limits::OUTGOING_BYTES / REPLY + 4;
    (0..enough).for_each(|_| rig.ask());
    rig.turn(REPLY);
    assert!(rig.state.watch().is_none(), "the leader waits without a look at packets");
    rig.ask();
    assert!(!rig.is_woken());
    // The client takes everything that fits, again and again, while a worker sends on.
    while !rig.state.can_receive() {
        rig.replies();
        rig.state.settle().unwrap();
    }
    assert!(rig.is_woken(), "packets are there and would be taken");
    rig.turn(0);
    assert!(!rig.is_woken() || rig.state.waits_for_bell());
}
