//! Message data on its way to another node, and how much of it each socket may have there.
//!
//! The core holds what it sends until the other node acknowledged it. Each socket has a [`Gauge`] that tells how many of
//! its bytes are held; a socket above the limit is not read until enough of them have left.
//!
//! What a program has lent ([`Load::Lent`]) is held where the program put it, and goes from there into the frames. A program
//! that changes it meanwhile changes its own message; nothing here looks at the bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use qnet_ipc::Loan;
use qnet_proto::{Body, Source};

/// Bytes of one socket that may be on their way before it is not read any more.
const LIMIT: usize = 64 * 1024 * 1024;
/// What a body costs beside its bytes: many small ones must not fill the core's queue either.
const BODY: usize = 2048;

/// The data of a packet.
#[derive(Debug)]
pub(super) enum Load<'a> {
    /// In the buffer that the packet was received into.
    Here(&'a [u8]),
    /// In the memory that is shared with who sent it.
    Lent(Loan),
}

impl<'a> Load<'a> {
    /// What came with a packet: `here`, unless it was lent.
    pub(super) fn of(here: &'a [u8], loan: Option<Loan>) -> Self {
        loan.map_or(Self::Here(here), Self::Lent)
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Here(bytes) => <[u8]>::len(bytes),
            Self::Lent(loan) => loan.len(),
        }
    }

    /// The bytes, in memory that nobody else can write to: that of `scratch`, if they were lent.
    pub(super) fn bytes<'b>(&'b self, scratch: &'b mut Scratch) -> &'b [u8] {
        match self {
            Self::Here(bytes) => bytes,
            Self::Lent(loan) => {
                let Scratch(buffer) = scratch;
                if buffer.len() < loan.len() {
                    buffer.resize(loan.len(), 0);
                }
                let bytes = &mut buffer[..loan.len()];
                loan.copy(0, bytes);
                bytes
            }
        }
    }
}

/// Memory for lent bytes that are looked at or passed on within this node. It is kept for the next ones, as large as the largest
/// were, which is [`qnet_ipc::MAX_LENT`] at most.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<u8>);

/// Counts the bytes of one socket that are on their way.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// A body with `load`, or a copy of it, counted until it is dropped.
    pub(super) fn body(&self, load: Load<'_>) -> Body {
        let len = load.len();
        if len == 0 {
            return Body::empty();
        }
        self.0.fetch_add(len + BODY, Ordering::Relaxed);
        let held = match load {
            Load::Here(bytes) => Held::Own(bytes.to_vec()),
            Load::Lent(loan) => Held::Lent(loan),
        };
        Body::from_source(Counted { held, len, gauge: self.clone() })
    }

    /// Whether too much is on its way.
    pub(super) fn is_full(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LIMIT
    }
}

/// Where the bytes of a body are.
enum Held {
    Own(Vec<u8>),
    Lent(Loan),
}

struct Counted {
    held: Held,
    len: usize,
    gauge: Gauge,
}

impl Source for Counted {
    fn len(&self) -> u64 {
        self.len as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) {
        match &self.held {
            Held::Own(bytes) => bytes.read_at(offset, out),
            // An offset below the length, which is that of a loan.
            Held::Lent(loan) => _ = loan.copy(offset as usize, out),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.len + BODY, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use qnet_ipc::{ClientPeer, MAX_DATA, ReceiveBuffer, ServerPeer, ToClient, ToServer, pair};

    use super::*;

    /// Two ends that speak through shared memory.
    fn ends() -> (ClientPeer, ServerPeer) {
        let (mut client, server) = pair().unwrap();
        let mut server = ServerPeer::new(server).unwrap();
        let mut buffer = ReceiveBuffer::new();
        for conn in 0..100 {
            client.send(&ToServer::Disconnect { conn }).unwrap();
            while server.recv(&mut buffer).unwrap().is_some() {}
            server.send(&ToClient::Death { conn }).unwrap();
            while client.recv(&mut buffer).unwrap().is_some() {}
            if client.uses_ring() && server.uses_ring() {
                return (client, server);
            }
        }
        panic!("there is no shared memory");
    }

    /// Sends a piece of a message; what is received of it.
    fn pass(client: &mut ClientPeer, server: &mut ServerPeer, data: &[u8]) -> Option<Loan> {
        client.send(&ToServer::ReadData { txn: 1, offset: 0, data }).unwrap();
        let mut buffer = ReceiveBuffer::new();
        let (packet, loan) = server.recv_lent(&mut buffer).unwrap().unwrap();
        assert!(matches!(packet, ToServer::ReadData { .. }));
        loan
    }

    #[test]
    fn what_is_lent_is_sent_from_where_it_lies_and_given_back_when_it_was_sent() {
        let (mut client, mut server) = ends();
        let data: Vec<u8> = (0..MAX_DATA).map(|at| (at / 3) as u8).collect();
        let gauge = Gauge::default();
        let mut bodies = Vec::new();
        while let Some(loan) = pass(&mut client, &mut server, &data) {
            bodies.push(gauge.body(Load::of(&[], Some(loan))));
            assert!(bodies.len() < 1000, "the memory has no end");
        }
        assert!(bodies.len() > 8, "{} pieces are lent at once", bodies.len());
        for body in &bodies {
            let mut out = [0; 1444];
            body.read_at(30_000, &mut out);
            assert_eq!((body.len(), &out[..]), (MAX_DATA as u64, &data[30_000..31_444]));
        }
        assert_eq!(gauge.0.load(Ordering::Relaxed), bodies.len() * (MAX_DATA + BODY));
        bodies.pop();
        assert!(pass(&mut client, &mut server, &data).is_some(), "there is room for one again");
        drop(bodies);
        assert_eq!(gauge.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn lent_bytes_are_copied_for_who_looks_at_them() {
        let (mut client, mut server) = ends();
        let data = vec![7; 20_000];
        let load = Load::of(&[], pass(&mut client, &mut server, &data));
        assert!(matches!(load, Load::Lent(_)));
        let mut scratch = Scratch::default();
        assert_eq!((load.len(), load.bytes(&mut scratch)), (data.len(), &data[..]));
        let memory = scratch.0.as_ptr();
        let less = vec![9; 19_000];
        let load = Load::of(&[], pass(&mut client, &mut server, &less));
        assert_eq!(load.bytes(&mut scratch), less, "and nothing of what was there before");
        assert_eq!(scratch.0.as_ptr(), memory, "it is kept");
        assert_eq!(
            Load::Here(&data).bytes(&mut scratch).as_ptr(),
            data.as_ptr(),
            "nobody else can write to these"
        );
    }

    #[test]
    fn bytes_count_as_long_as_the_core_holds_them() {
        let gauge = Gauge::default();
        let data = vec![7; LIMIT / 2];
        let first = gauge.body(Load::Here(&data));
        assert!(!gauge.is_full());
        let second = gauge.body(Load::Here(&data));
        assert!(gauge.is_full());
        drop(first);
        assert!(!gauge.is_full());
        let mut out = [0; 3];
        second.read_at(10, &mut out);
        assert_eq!((second.len(), out), (data.len() as u64, [7; 3]));
    }
}
