//! What the child processes do.

use std::{
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    process::{Command, id},
    thread,
};

use qnet::{
    Event,
    calls::{self, Received},
};

use crate::support::{attach, bounded, receive_into, reply, send};

pub(crate) fn play(role: &str, args: &[String]) {
    // Who has failed is over, whatever its other threads wait for.
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        std::process::exit(101);
    }));
    let arg = |i: usize| args[i].parse::<i32>().unwrap();
    match role {
        "send" => say(send_result(attach(arg(0), arg(1)), 10)),
        "attach" => {
            let _coid = attach(arg(0), arg(1));
            say("attached");
            hear();
        }
        "as-user" => {
            let user = nix::unistd::Uid::from_raw(arg(2).cast_unsigned());
            nix::unistd::setgroups(&[]).unwrap();
            nix::unistd::setgid(nix::unistd::Gid::from_raw(arg(2).cast_unsigned())).unwrap();
            nix::unistd::setuid(user).unwrap();
            say(send_result(attach(arg(0), arg(1)), 10));
        }
        "big" => big(arg(0), arg(1)),
        "exec" => exec(arg(0), arg(1)),
        "server" => server(arg(0).cast_unsigned()),
        "crowded" => crowded(arg(0).cast_unsigned()),
        "forker" => forker(),
        "clients" => clients(arg(0), arg(1), arg(2)),
        "channels" => channels(arg(0)),
        "signalled" => {
            crate::signals::signalled();
            say("every wait ended");
        }
        "waiter" => waiter(arg(0), arg(1)),
        other => panic!("no role {other}"),
    }
}

fn say(line: impl std::fmt::Display) {
    println!("{line}");
    io::stdout().flush().unwrap();
}

fn hear() -> String {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn send_result(coid: i32, len: usize) -> String {
    match send(coid, &vec![7; len], &mut [0; 16]) {
        Ok(status) => format!("status {status}"),
        Err(errno) => format!("errno {errno}"),
    }
}

/// Sends more than fits into a packet.
fn big(pid: i32, chid: i32) {
    let coid = attach(pid, chid);
    say("attached");
    say(send_result(coid, 1 << 20));
}

/// One thread is blocked in a send when another one replaces the process.
fn exec(pid: i32, chid: i32) {
    let coid = attach(pid, chid);
    thread::spawn(move || send_result(coid, 10));
    say("attached");
    hear();
    let error = Command::new("sleep").arg("600").exec();
    panic!("no exec: {error}");
}

/// Receives for ever and answers what it is told: by the first byte of the message.
fn server(flags: u32) {
    let chid = calls::channel_create(flags).unwrap();
    say(chid);
    let mut held = Vec::new();
    loop {
        let mut buffer = [0; 64];
        match calls::msg_receivev(chid, &mut [io::IoSliceMut::new(&mut buffer)]) {
            Ok(Received::Message { rcvid, .. }) if buffer[0] == b'h' => {
                held.push(rcvid);
                say("held");
            }
            Ok(Received::Message { rcvid, .. }) => reply(rcvid, 0, b"ok").unwrap(),
            Ok(Received::Pulse(pulse)) => say(format!("pulse {} {}", pulse.code, pulse.value)),
            Err(error) => say(format!("errno {}", error.errno())),
        }
    }
}

/// A server that may have so many descriptors.
fn crowded(descriptors: u32) {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_NOFILE, descriptors.into(), descriptors.into()).unwrap();
    server(0);
}

/// Has a channel and a connection to it, forks, and lets the child say what it has; the child lives on.
fn forker() {
    let chid = calls::channel_create(0).unwrap();
    let coid = attach(0, chid);
    // SAFETY: this process has one thread, so the child has whatever it needs.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let sent = send(coid, b"x", &mut []).unwrap_err();
            let received = receive_into(chid, &mut []).unwrap_err().errno();
            let own = calls::channel_create(0).unwrap();
            say(format!("child {sent} {received} {own} {}", id()));
        }
        nix::unistd::ForkResult::Parent { .. } => {}
    }
    hear();
}

/// Many connections, and one message over each.
fn clients(pid: i32, chid: i32, count: i32) {
    let coids: Vec<i32> = (0..count).map(|_| attach(pid, chid)).collect();
    let good = coids.iter().filter(|coid| send(**coid, b"x", &mut [0; 2]) == Ok(0)).count();
    say(good);
    hear();
}

/// Makes channels, and receives one pulse on each of those that it is told.
fn channels(count: i32) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let chids: Vec<i32> = (0..count).map(|_| calls::channel_create(0).unwrap()).collect();
    say(chids.len());
    for chid in hear().split(' ') {
        bounded();
        calls::msg_receive_pulse(chid.parse().unwrap()).unwrap();
    }
    say("3 pulses");
    hear();
}

/// Registers a pulse with the server, then waits for it on its own channel.
fn waiter(pid: i32, chid: i32) {
    let own = calls::channel_create(0).unwrap();
    let to_self = attach(0, own);
    let coid = attach(pid, chid);
    let event = Event::Pulse { coid: to_self, priority: 12, code: 5, value: 77 };
    let Ok(Event::Registered { handle }) = calls::msg_register_event(&event, coid) else {
        panic!("not registered")
    };
    send(coid, &handle.to_le_bytes(), &mut []).unwrap();
    bounded();
    let pulse = calls::msg_receive_pulse(own).unwrap();
    say(format!("pulse {} {} {}", pulse.code, pulse.value, pulse.priority));
}
