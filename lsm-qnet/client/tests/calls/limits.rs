//! As much as there may be of everything.

use std::{
    fs::File,
    io::{IoSlice, IoSliceMut},
    os::unix::fs::FileExt,
    thread,
};

use libtest_mimic::Trial;
use nix::sys::resource::{Resource, getrlimit};
use qnet::calls;

use crate::{
    support::{Pair, Role, attach, message, reply, send},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("ten_thousand_channels_live_beside_each_other", channels),
        trial("a_hundred_thousand_connections_need_one_socket", connections),
        trial("many_processes_are_served", clients),
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
        let coids: Vec<i32> = (0..100_000).map(|_| attach(0, pair.chid)).collect();
        for coid in [coids[0], coids[50_000], coids[99_999]] {
            assert_eq!(send(coid, b"x", &mut []), Ok(i64::from(coid)));
        }
        assert!(descriptors() <= before + 2, "one socket, whose other end is here, too");
        coids.into_iter().for_each(|coid| calls::connect_detach(coid).unwrap());
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
