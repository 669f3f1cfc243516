//! Many nodes in one program: as many protocol cores, each with an Ethernet address of its own, on one interface.
//!
//! They hear what comes over the wire, not each other: what is measured is the one node at the other end.

use std::{
    collections::{BTreeSet, HashMap},
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant as Clock},
};

use anyhow::{Context, Result, ensure};
use bench_support::sys::packet_socket;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};
use qnet_proto::{
    ClientId, ClientInfo, Command, Config, Destination, Domain, Event, Instant, LinkAddr, LinkId, LinkInfo,
    Node, NodeName,
};

const ETHERTYPE: u16 = 0x8204;
const HEADER: usize = 14;
const SHORTEST: usize = 60;
const LINK: LinkId = LinkId(1);
/// Longest frame.
const LONGEST: usize = 9216;

/// Name of a node of the crowd.
#[must_use]
pub fn name(index: usize) -> String {
    format!("crowd{index}")
}

/// Is `count` nodes on an interface; prints `ready`, and after a line on standard input `attached COUNT` once each of
/// them has a connection to the server of node `to`.
///
/// # Errors
/// When the interface cannot be opened.
pub fn run(interface: &str, count: usize, to: &str, announce: bool) -> Result<()> {
    let mut crowd = Crowd::new(interface, count, announce)?;
    println!("ready");
    let mut asked = false;
    loop {
        let (frames, input) = crowd.wait(!asked)?;
        if input && !asked {
            // One line is all that ever comes.
            let _one = std::io::stdin().lock().read(&mut [0; 64])?;
            asked = true;
            crowd.resolve(to);
        }
        if frames {
            crowd.receive()?;
        }
        crowd.expire();
        if crowd.settle()? && crowd.attached == count {
            println!("attached {count}");
        }
    }
}

struct Crowd {
    socket: OwnedFd,
    nodes: Vec<Member>,
    by_mac: HashMap<[u8; 6], usize>,
    timers: BTreeSet<(Instant, usize)>,
    /// Members that something happened to.
    touched: BTreeSet<usize>,
    attached: usize,
    start: Clock,
    frame: Vec<u8>,
}

struct Member {
    node: Node,
    mac: [u8; 6],
    timer: Option<Instant>,
}

impl Crowd {
    fn new(interface: &str, count: usize, announce: bool) -> Result<Self> {
        ensure!(count <= usize::from(u16::MAX), "{count} nodes are too many");
        let socket = packet_socket(interface, ETHERTYPE)?;
        bench_support::sys::set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(64_i32 << 20))?;
        let start = Clock::now();
        let mut crowd = Self {
            socket,
            nodes: Vec::with_capacity(count),
            by_mac: HashMap::new(),
            timers: BTreeSet::new(),
            touched: (0..count).collect(),
            attached: 0,
            start,
            frame: vec![0; LONGEST],
        };
        for index in 0..count {
            let [high, low] = (index as u16).to_be_bytes();
            let mac = [0x02, 0, 0, 0x51, high, low];
            let name = NodeName::new(&name(index)).context("a node's name")?;
            let seed = 1 + index as u64;
            let mut config = Config::new(name, Domain::default(), seed, seed);
            if !announce {
                config.auto_add = 0;
            }
            let now = crowd.now();
            let mut node = Node::new(config, now);
            let info = LinkInfo { addr: LinkAddr::mac(mac), mtu: 1500, name: "en0".to_owned() };
            node.link_up(now, LINK, info);
            crowd.by_mac.insert(mac, index);
            crowd.nodes.push(Member { node, mac, timer: None });
        }
        Ok(crowd)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.start.elapsed().as_nanos() as u64 + 1)
    }

    /// Sleeps until there are frames, input or something to do; which of the first two there is.
    fn wait(&mut self, input: bool) -> Result<(bool, bool)> {
        let now = self.now();
        let timeout = match self.timers.first() {
            _ if !self.touched.is_empty() => Duration::ZERO,
            Some((at, _)) => at.since(now) + Duration::from_micros(999),
            None => Duration::from_secs(1),
        };
        let stdin = std::io::stdin();
        let fds = &mut [
            PollFd::new(std::os::fd::AsFd::as_fd(&self.socket), PollFlags::POLLIN),
            PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::POLLIN),
        ];
        let watched = if input { 2 } else { 1 };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        poll(&mut fds[..watched], timeout)?;
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        Ok((ready(&fds[0]), input && ready(&fds[1])))
    }

    /// Everybody looks for a node.
    fn resolve(&mut self, name: &str) {
        let now = self.now();
        for (index, member) in self.nodes.iter_mut().enumerate() {
            // A refusal shows up as a missing connection at the end.
            let command = Command::Resolve { token: 1, name: name.to_owned() };
            let _refused = member.node.handle_command(now, command);
            self.touched.insert(index);
        }
    }

    fn receive(&mut self) -> Result<()> {
        for _ in 0..256 {
            let len = match recv(self.socket.as_raw_fd(), &mut self.frame, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            };
            let now = self.now();
            let Some((header, packet)) = self.frame[..len].split_first_chunk::<HEADER>() else { continue };
            let (destination, rest) = header.split_at(6);
            let source = LinkAddr::new(&rest[..6]).context("a source address")?;
            let range = match self.by_mac.get(destination) {
                Some(&index) => index..index + 1,
                None if destination == [0xff; 6] => 0..self.nodes.len(),
                None => continue,
            };
            for index in range {
                self.nodes[index].node.handle_frame(now, LINK, source, packet);
                self.touched.insert(index);
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let now = self.now();
        while let Some(&(at, index)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            self.nodes[index].timer = None;
            self.nodes[index].node.handle_timeout(now);
            self.touched.insert(index);
        }
    }

    /// Lets the touched members speak. Returns whether one of them got its connection.
    fn settle(&mut self) -> Result<bool> {
        let (now, before) = (self.now(), self.attached);
        for index in std::mem::take(&mut self.touched) {
            let member = &mut self.nodes[index];
            while let Some(event) = member.node.poll_event() {
                match event {
                    Event::Resolved { nd, .. } => {
                        let (client, cred) = (ClientId(1), ClientInfo::default());
                        let command = Command::Connect { client, nd, pid: 1, chid: 1, cred };
                        let _refused = member.node.handle_command(now, command);
                    }
                    Event::Connected { .. } => self.attached += 1,
                    _ => {}
                }
            }
            let (header, room) = self.frame.split_at_mut(HEADER);
            while let Some(transmit) = member.node.poll_transmit(now, room) {
                let destination = match transmit.dst {
                    Destination::Broadcast => [0xff; 6],
                    Destination::Unicast(addr) => addr.as_mac().context("an address of another kind")?,
                };
                header[..6].copy_from_slice(&destination);
                header[6..12].copy_from_slice(&member.mac);
                header[12..].copy_from_slice(&ETHERTYPE.to_be_bytes());
                room[transmit.len..transmit.len.max(SHORTEST - HEADER)].fill(0);
                let len = (HEADER + transmit.len).max(SHORTEST);
                send_all(&self.socket, header, room, len)?;
            }
            let next = member.node.poll_timeout();
            if next != member.timer {
                if let Some(at) = member.timer {
                    self.timers.remove(&(at, index));
                }
                if let Some(at) = next {
                    self.timers.insert((at, index));
                }
                member.timer = next;
            }
        }
        Ok(self.attached > before)
    }
}

fn send_all(socket: &OwnedFd, header: &[u8], room: &[u8], len: usize) -> Result<()> {
    let mut frame = Vec::with_capacity(len);
    frame.extend_from_slice(header);
    frame.extend_from_slice(&room[..len - HEADER]);
    match send(socket.as_raw_fd(), &frame, MsgFlags::empty()) {
        // A full queue is a lost frame, as on any wire.
        Ok(_) | Err(Errno::ENOBUFS | Errno::EAGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
