//! Processes that die, stop, or become another program, in the middle of it.

use std::{io::IoSliceMut, thread, time::Duration};

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use qnet::{
    Event, Pulse,
    calls::{self, Received, state},
};

use crate::{
    support::{
        Pair, Role, attach, blocked, errno, is_stopped, message, pulse, receive_into, reply, send, until,
        waits,
    },
    trial,
};

/// `_NTO_CHF_DISCONNECT`, `_NTO_CHF_THREAD_DEATH`, `_NTO_CHF_COID_DISCONNECT`.
const DISCONNECT: u32 = 0x8;
const THREAD_DEATH: u32 = 0x4;
const COID_DISCONNECT: u32 = 0x40;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_killed_client_is_told_and_its_message_is_void", a_killed_client),
        trial("a_client_that_detaches_is_told", a_client_that_detaches),
        trial("a_client_that_becomes_another_program_is_gone", exec),
        trial("a_stopped_client_holds_nobody_up", a_stopped_client),
        trial("a_server_that_is_stopped_and_goes_on_still_receives", a_stopped_server),
        trial("a_killed_server_wakes_every_client", a_killed_server),
        trial("the_death_of_a_server_is_noticed_when_nobody_sends", coid_death),
        trial("the_end_of_a_thread_is_told", thread_death),
    ]
}

fn pid() -> i32 {
    std::process::id().cast_signed()
}

fn a_killed_client() {
    let pair = Pair::new(DISCONNECT);
    let mut client = Role::start("send", &[pid(), pair.chid]);
    let (rcvid, info) = message(pair.chid);
    assert_eq!(info.pid, client.pid());
    client.kill();
    let gone = pulse(pair.chid);
    assert_eq!((gone.code, gone.scoid), (Pulse::DISCONNECT, info.scoid));
    assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH));
    calls::connect_detach(gone.scoid).unwrap();
    let mut next = Role::start("send", &[pid(), pair.chid]);
    let (other, _) = message(pair.chid);
    assert_ne!(rcvid, other);
    assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH), "not mistaken for the new one");
    reply(other, 3, b"").unwrap();
    assert_eq!(next.hear(), "status 3");
}

fn a_client_that_detaches() {
    let pair = Pair::new(DISCONNECT);
    let second = attach(0, pair.chid);
    calls::connect_detach(second).unwrap();
    calls::msg_send_pulse(pair.coid, 10, 1, 0).unwrap();
    let scoid = pulse(pair.chid).scoid;
    calls::connect_detach(pair.coid).unwrap();
    let gone = pulse(pair.chid);
    assert_eq!((gone.code, gone.scoid), (Pulse::DISCONNECT, scoid), "only after the last one");
}

fn exec() {
    let pair = Pair::new(DISCONNECT);
    let mut client = Role::start("exec", &[pid(), pair.chid]);
    assert_eq!(client.hear(), "attached");
    let (rcvid, _) = message(pair.chid);
    client.tell("go");
    assert_eq!(pulse(pair.chid).code, Pulse::DISCONNECT);
    assert_eq!(reply(rcvid, 0, b""), Err(libc::ESRCH));
}

fn a_stopped_client() {
    let pair = Pair::new(0);
    let mut client = Role::start("big", &[pid(), pair.chid]);
    assert_eq!(client.hear(), "attached");
    let (rcvid, info) = message(pair.chid);
    assert_eq!(info.srcmsglen, 1 << 20);
    client.signal(Signal::SIGSTOP);
    calls::timer_timeout(state::REPLY, Duration::from_millis(50), Event::Unblock);
    let mut room = vec![0; 1 << 20];
    assert_eq!(errno(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut room)], 0)), libc::ETIMEDOUT);
    // Others are served meanwhile.
    thread::scope(|scope| {
        let other = scope.spawn(|| send(pair.coid, b"x", &mut []));
        let (another, _) = message(pair.chid);
        reply(another, 1, b"").unwrap();
        assert_eq!(other.join().unwrap(), Ok(1));
    });
    client.signal(Signal::SIGCONT);
    assert_eq!(calls::msg_readv(rcvid, &mut [IoSliceMut::new(&mut room)], 0).unwrap(), 1 << 20);
    assert!(room.iter().all(|byte| *byte == 7));
    reply(rcvid, 2, b"").unwrap();
    assert_eq!(client.hear(), "status 2");
}

fn a_stopped_server() {
    let mut server = Role::start("server", &[0]);
    let chid = server.number();
    let pid = server.pid();
    let coid = attach(pid, chid);
    until("the server waits", || waits(pid, pid));
    server.signal(Signal::SIGSTOP);
    until("the server stands still", || is_stopped(pid, pid));
    server.signal(Signal::SIGCONT);
    // A receive that ended is begun again by that time, and was told of.
    until("the server waits", || waits(pid, pid));
    thread::scope(|scope| {
        let _client = blocked(scope, || send(coid, b"hold", &mut []));
        let said = server.hear();
        server.kill();
        assert_eq!(said, "held", "no handler ran");
    });
}

fn a_killed_server() {
    let mut server = Role::start("server", &[0]);
    let chid = server.number();
    let (coid, idle) = (attach(server.pid(), chid), attach(server.pid(), chid));
    assert_eq!(send(coid, b"x", &mut [0; 2]), Ok(0));
    thread::scope(|scope| {
        let replying = blocked(scope, || send(coid, b"hold", &mut []));
        assert_eq!(server.hear(), "held");
        server.signal(Signal::SIGSTOP);
        let sending = blocked(scope, || send(coid, b"x", &mut []));
        server.kill();
        assert_eq!(replying.join().unwrap(), Err(libc::ESRCH));
        assert_eq!(sending.join().unwrap(), Err(libc::ESRCH));
    });
    for coid in [coid, idle] {
        assert_eq!(send(coid, b"x", &mut []), Err(libc::EBADF));
        assert_eq!(errno(calls::msg_send_pulse(coid, 1, 1, 1)), libc::EBADF);
        calls::connect_detach(coid).unwrap();
    }
    assert_eq!(errno(calls::connect_attach(0, server.pid(), chid, 0, 0)), libc::ESRCH);
}

fn coid_death() {
    let pair = Pair::new(COID_DISCONNECT);
    let mut server = Role::start("server", &[0]);
    let chid = server.number();
    let coids = [attach(server.pid(), chid), attach(server.pid(), chid)];
    assert_eq!(send(coids[0], b"x", &mut [0; 2]), Ok(0));
    server.kill();
    let mut told: Vec<i32> = (0..2)
        .map(|_| {
            let pulse = pulse(pair.chid);
            assert_eq!(pulse.code, Pulse::COIDDEATH);
            pulse.value as i32
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, coids);
    coids.into_iter().for_each(|coid| calls::connect_detach(coid).unwrap());
}

fn thread_death() {
    let pair = Pair::new(THREAD_DEATH);
    let tid = thread::spawn(calls::thread_id).join().unwrap();
    let gone = pulse(pair.chid);
    assert_eq!((gone.code, gone.value), (Pulse::THREADDEATH, tid as u64));
    assert!(tid > 1, "1 is the first thread's");
    let Received::Pulse(_) = ({
        calls::msg_send_pulse(pair.coid, 1, 1, 1).unwrap();
        receive_into(pair.chid, &mut [0; 8]).unwrap()
    }) else {
        panic!("a thread that does not use the library is not known")
    };
}
