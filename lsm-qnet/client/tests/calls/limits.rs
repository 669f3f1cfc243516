//! As much as there may be of everything.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    os::unix::fs::FileExt,
    thread,
};

use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use qnet::calls;
use qnet_ipc::{ClientPeer, ReceiveBuffer, ToClient, ToServer, packet};

use crate::{
    support::{Pair, Role, attach, message, reply, send, until, waits},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ten_thousand_channels_live_beside_each_other", channels),
        trial("a_hundred_thousand_connections_need_one_socket", connections),
        trial("many_processes_are_served", clients),
        trial("as_many_clients_are_served_as_there_are_descriptors_and_the_next_when_one_leaves", crowd),
        trial("thousands_of_pulses_wait_for_a_busy_server", pulses),
        trial("a_message_of_four_gigabytes_is_read_in_pieces", four_gigabytes),
    ]
}

/// Channels of the whole node, in as many processes as descriptors make necessary: each channel has two.
const CHANNELS: usize = 10_000;

fn channels() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let each = CHANNELS.min((hard as usize).saturating_sub(100) / 2);
    let mut roles: Vec<_> = (0..CHANNELS.div_ceil(each))
        .map(|i| {
            let count = each.min(CHANNELS - i * each);
            (Role::start("channels", &[count as i32]), count)
        })
        .collect();
    for (role, count) in &mut roles {
        assert_eq!(role.hear(), count.to_string());
        let chids = [1, *count as i32 / 2, *count as i32];
        for chid in chids {
            let coid = attach(role.pid(), chid);
            calls::msg_send_pulse(coid, 1, 1, 0).unwrap();
            calls::connect_detach(coid).unwrap();
        }
        role.tell(&chids.map(|chid| chid.to_string()).join(" "));
        assert_eq!(role.hear(), "3 pulses");
    }
}

fn connections() {
    let pair = Pair::new(0);
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    thread::scope(|scope| {
        // Somebody has to take in what the connections say.
        let server = scope.spawn(|| {
            loop {
                let (rcvid, info) = match crate::support::receive_into(pair.chid, &mut [0; 8]).unwrap() {
                    calls::Received::Message { rcvid, info } => (rcvid, info),
                    calls::Received::Pulse(_) => return,
                };
                reply(rcvid, i64::from(info.coid), b"").unwrap();
            }
        });
        // Now and then, so that the server need not wait for all of them.
        let speaks = |coid: i32| assert_eq!(send(coid, b"x", &mut []), Ok(i64::from(coid)));
        let (mut coids, speakers): (Vec<i32>, usize) = (Vec::new(), 1000);
        for number in 0..100_000 {
            coids.push(attach(0, pair.chid));
            if number % speakers == 0 {
                speaks(coids[number]);
            }
        }
        [coids[0], coids[50_000], coids[99_999]].into_iter().for_each(speaks);
        assert!(descriptors() <= before + 2, "one socket, whose other end is here, too");
        for (number, coid) in coids.into_iter().enumerate() {
            if number % speakers == 0 {
                speaks(coid);
            }
            calls::connect_detach(coid).unwrap();
        }
        calls::msg_send_pulse(pair.coid, 1, 1, 0).unwrap();
        server.join().unwrap();
    });
}

fn clients() {
    let pair = Pair::new(0x8);
    let pid = std::process::id().cast_signed();
    let mut roles: Vec<Role> = (0..20).map(|_| Role::start("clients", &[pid, pair.chid, 10])).collect();
    let mut scoids = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let (rcvid, info) = message(pair.chid);
        scoids.insert(info.scoid);
        reply(rcvid, 0, b"").unwrap();
    }
    assert_eq!(scoids.len(), 20, "a client is a process, however many its connections");
    for role in &mut roles {
        assert_eq!(role.hear(), "10");
    }
}

/// A client that has sent one message; whether it was answered.
struct One(ClientPeer, bool);

impl One {
    fn new(address: &qnet_ipc::ChannelAddress) -> Self {
        let mut peer = qnet_ipc::connect_channel(address).unwrap().0;
        let connect =
            packet::Connect { conn: 1, nd: 0, pid: address.pid, chid: address.chid, flags: 0, claim: None };
        peer.send(&ToServer::Connect(connect)).unwrap();
        let head = packet::Send { txn: 1, conn: 1, srcmsglen: 1, ..packet::Send::default() };
        peer.send(&ToServer::Send(head, b"x")).unwrap();
        Self(peer, false)
    }

    fn is_served(&mut self) -> bool {
        let mut buffer = ReceiveBuffer::new();
        while let Some(packet) = self.0.recv(&mut buffer).unwrap() {
            self.1 |= matches!(packet, ToClient::Reply { .. });
        }
        self.1
    }
}

/// Each client of a channel costs its server one descriptor, and here each is one of this process, too. The server has
/// few in an ordinary run, and as many as the system gives in a long one.
fn crowd() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let soak = std::env::var_os("IO_PKT_SOAK").is_some();
    let descriptors = if soak { hard as usize - 200 } else { 300 };
    // What it needs itself is not known exactly, but it is not much.
    let (surely, never) = (descriptors - 50, descriptors);
    let mut server = Role::start("crowded", &[descriptors as i32]);
    let chid: i32 = server.hear().parse().unwrap();
    let address = calls::root().unwrap().channel(server.pid(), chid).unwrap();
    // A few at a time: those that nobody accepts wait in the kernel's queue, which is not long.
    let mut clients: Vec<One> = Vec::new();
    while clients.len() < surely {
        let mut one = One::new(&address);
        until("it is served", || one.is_served());
        clients.push(one);
    }
    while clients.len() < never + 20 {
        clients.push(One::new(&address));
    }
    // It sleeps, rather than to be told again and again of those for whom it has no descriptor.
    until("the server sleeps", || waits(server.pid(), server.pid()));
    let served =
        |clients: &mut Vec<One>| clients.iter_mut().filter_map(|one| one.is_served().then_some(())).count();
    let first = served(&mut clients);
    assert!((surely..never).contains(&first), "{first} are served");
    // Everybody whose place comes free is followed by one that waits.
    clients.drain(..60);
    until("all are served", || served(&mut clients) == clients.len());
}

fn pulses() {
    let pair = Pair::new(0);
    for value in 0..20_000 {
        calls::msg_send_pulse(pair.coid, 10, 1, value).unwrap();
    }
    for value in 0..20_000 {
        assert_eq!(crate::support::pulse(pair.chid).value, value);
    }
    // Nobody reads these: at some point there is no room, and the caller hears of it.
    let refused = (0..1_000_000).find_map(|value| calls::msg_send_pulse(pair.coid, 10, 1, value).err());
    assert_eq!(refused.map(|error| error.errno()), Some(libc::EAGAIN));
}

fn four_gigabytes() {
    const LEN: usize = u32::MAX as usize;
    let file: File = tempfile::tempfile().unwrap();
    file.set_len(LEN as u64).unwrap();
    for (at, bytes) in [(0, *b"head"), (3_000_000_000, *b"body"), (LEN as u64 - 4, *b"tail")] {
        file.write_all_at(&bytes, at).unwrap();
    }
    let length = std::num::NonZeroUsize::new(LEN).unwrap();
    // SAFETY: a private mapping at a place that the kernel chooses; nobody shrinks the file.
    let place = unsafe {
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &file, 0).unwrap()
    };
    // SAFETY: mapped above for as long as the program runs, and read-only.
    let message = unsafe { std::slice::from_raw_parts(place.as_ptr().cast::<u8>(), LEN) };
    let pair = Pair::new(0);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let whole = calls::msg_sendv(pair.coid, &[IoSlice::new(message)], &mut []);
            let longer = [IoSlice::new(message), IoSlice::new(b"x")];
            (whole.unwrap(), calls::msg_sendv(pair.coid, &longer, &mut []).unwrap_err().errno())
        });
        let (rcvid, info) = crate::support::message(pair.chid);
        assert_eq!(info.srcmsglen, u32::MAX);
        let mut piece = [0; 8];
        for (at, bytes) in
            [(3_000_000_000, &b"body\0\0\0\0"[..]), (LEN - 4, &b"tail"[..]), (0, &b"head\0\0\0\0"[..])]
        {
            let n = calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut piece)], at).unwrap();
            assert_eq!(&piece[..n], bytes);
        }
        reply(rcvid, 7, b"").unwrap();
        assert_eq!(client.join().unwrap(), (7, libc::EMSGSIZE));
    });
}
