//! Who may: private channels, other users, children of a fork, squatters, and clients that speak garbage.

use std::thread;

use libtest_mimic::Trial;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, recv, send, socket,
};
use qnet::calls;

use crate::{
    support::{Pair, Role, attach, errno, message, pulse, reply, until},
    trial,
};

/// `_NTO_CHF_PRIVATE`, `_NTO_CHF_DISCONNECT`.
const PRIVATE: u32 = 0x1000;
const DISCONNECT: u32 = 0x8;

pub(crate) fn trials() -> Vec<Trial> {
    let ids = nix::unistd::geteuid().is_root();
    vec![
        trial("a_private_channel_is_for_its_own_process", private),
        trial("a_client_is_known_before_its_first_message", known_before),
        trial("another_user_is_told_apart", another_user)
            .with_ignored_flag(!ids && std::env::var_os("CI").is_none()),
        trial("a_child_has_nothing_of_its_parent", fork),
        trial("a_squatter_takes_a_number_and_nothing_else", squatter),
        trial("garbage_ends_the_connection_that_it_came_on", garbage),
    ]
}

fn pid() -> i32 {
    std::process::id().cast_signed()
}

fn private() {
    let pair = Pair::new(PRIVATE);
    let mut stranger = Role::start("send", &[pid(), pair.chid]);
    thread::scope(|scope| {
        let own = scope.spawn(|| {
            let outcome = crate::support::send(pair.coid, b"x", &mut []);
            // The stranger was refused by whoever received the own message.
            assert_eq!(stranger.hear(), format!("errno {}", libc::EPERM));
            calls::msg_send_pulse(pair.coid, 1, 1, 1).unwrap();
            outcome
        });
        let (rcvid, _) = message(pair.chid);
        reply(rcvid, 0, b"").unwrap();
        assert_eq!(pulse(pair.chid).code, 1);
        assert_eq!(own.join().unwrap(), Ok(0));
    });
}

fn known_before() {
    let pair = Pair::new(0);
    calls::msg_send_pulse(pair.coid, 1, 1, 1).unwrap();
    let scoid = pulse(pair.chid).scoid;
    let known = calls::connect_client_info(scoid).unwrap();
    assert_eq!((known.pid, known.nd), (pid(), 0));
    assert_eq!(known.euid, nix::unistd::geteuid().as_raw());
    let own = calls::connect_client_info(-1).unwrap();
    assert_eq!((own.pid, own.sid, own.euid), (known.pid, known.sid, known.euid));
    assert_eq!(errno(calls::connect_client_info(scoid + 1)), libc::EINVAL);
    assert_eq!(errno(calls::connect_client_info(pair.coid)), libc::EINVAL);
}

fn another_user() {
    let pair = Pair::new(0);
    let mut client = Role::start("as-user", &[pid(), pair.chid, 65534]);
    let (rcvid, info) = message(pair.chid);
    assert_eq!((info.credentials.euid, info.credentials.egid), (65534, 65534));
    assert!(info.credentials.groups.is_empty());
    reply(rcvid, 5, b"").unwrap();
    assert_eq!(client.hear(), "status 5");
}

fn fork() {
    let pair = Pair::new(DISCONNECT);
    let mut parent = Role::start("forker", &[]);
    let line = parent.hear();
    let words: Vec<&str> = line.split(' ').collect();
    let expected = format!("child {} {} 1", libc::EBADF, libc::ESRCH);
    assert_eq!(words[..4].join(" "), expected, "no connection, no channel, numbers from 1");
    let child: i32 = words[4].parse().unwrap();
    let coid = attach(parent.pid(), 1);
    parent.kill();
    // The child, which lives, holds nothing of its parent's channel.
    let outcome = crate::support::send(coid, b"x", &mut []);
    assert!(matches!(outcome, Err(libc::ESRCH | libc::EBADF)), "{outcome:?}");
    assert_eq!(errno(calls::connect_attach(0, parent.pid(), 1, 0, 0)), libc::ESRCH);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child), nix::sys::signal::Signal::SIGKILL).unwrap();
    calls::connect_detach(coid).unwrap();
    drop(pair);
}

fn new_socket() -> std::os::fd::OwnedFd {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap()
}

fn squatter() {
    use std::os::fd::AsRawFd;
    let free = calls::channel_create(0).unwrap();
    calls::channel_destroy(free).unwrap();
    let root = calls::root().unwrap();
    let name = root.channel(pid(), free).unwrap().to_string();
    let squat = new_socket();
    bind(squat.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    let chid = calls::channel_create(0).unwrap();
    assert_eq!(chid, free + 1, "the number is lost, the process goes on");
    calls::channel_destroy(chid).unwrap();

    // Another process's address, held by us.
    let server = Role::start("server", &[0]);
    let name = root.channel(server.pid(), 77).unwrap().to_string();
    let impostor = new_socket();
    bind(impostor.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes()).unwrap()).unwrap();
    nix::sys::socket::listen(&impostor, nix::sys::socket::Backlog::new(5).unwrap()).unwrap();
    assert_eq!(errno(calls::connect_attach(0, server.pid(), 77, 0, 0)), libc::ESRCH);
}

fn garbage() {
    use std::os::fd::AsRawFd;
    let pair = Pair::new(0);
    let name = calls::root().unwrap().channel(pid(), pair.chid).unwrap().to_string();
    let address = UnixAddr::new_abstract(name.as_bytes()).unwrap();
    let raw: Vec<_> = (0..4u8)
        .map(|i| {
            let raw = new_socket();
            connect(raw.as_raw_fd(), &address).unwrap();
            let bytes = vec![i.wrapping_mul(0x55); 1 << (4 * i)];
            send(raw.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL).unwrap();
            raw
        })
        .collect();
    thread::scope(|scope| {
        let good = scope.spawn(|| crate::support::send(pair.coid, b"x", &mut []));
        let (rcvid, _) = message(pair.chid);
        reply(rcvid, 1, b"").unwrap();
        assert_eq!(good.join().unwrap(), Ok(1));
    });
    // Each is closed by the time that somebody receives again.
    for raw in raw {
        until("the socket is closed", || {
            calls::timer_timeout(
                calls::state::RECEIVE,
                std::time::Duration::from_millis(1),
                qnet::Event::Unblock,
            );
            let _nothing = calls::msg_receive_pulse(pair.chid);
            // The hello comes first.
            let mut buffer = [0; 64];
            matches!(
                recv(raw.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT),
                Ok(0) | Err(nix::errno::Errno::ECONNRESET)
            )
        });
    }
}
