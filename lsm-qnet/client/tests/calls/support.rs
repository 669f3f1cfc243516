//! What the trials share: channels with one connection, child processes, patience.

use std::{
    env,
    io::{BufRead, BufReader, IoSlice, IoSliceMut, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use qnet::{
    Error, MessageInfo, Pulse,
    calls::{self, Received},
};

/// How long a trial waits for what must come; nothing depends on how long it takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A channel of this process and a connection to it, both closed in the end.
pub(crate) struct Pair {
    pub(crate) chid: i32,
    pub(crate) coid: i32,
}

impl Pair {
    pub(crate) fn new(flags: u32) -> Self {
        let chid = calls::channel_create(flags).unwrap();
        Self { chid, coid: attach(0, chid) }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // A trial may have closed either.
        let _ = calls::connect_detach(self.coid);
        let _ = calls::channel_destroy(self.chid);
    }
}

pub(crate) fn attach(pid: i32, chid: i32) -> i32 {
    calls::connect_attach(0, pid, chid, calls::SIDE_CHANNEL, 0).unwrap()
}

pub(crate) fn send(coid: i32, message: &[u8], reply: &mut [u8]) -> Result<i64, i32> {
    let outcome = calls::msg_sendv(coid, &[IoSlice::new(message)], &mut [IoSliceMut::new(reply)]);
    outcome.map_err(|error| error.errno())
}

/// Bounds the next blocking call: a trial that would hang fails.
pub(crate) fn bounded() {
    let all = calls::state::SEND | calls::state::REPLY | calls::state::RECEIVE;
    calls::timer_timeout(all, PATIENCE, qnet::Event::Unblock);
}

pub(crate) fn receive_into(chid: i32, buffer: &mut [u8]) -> Result<Received, Error> {
    bounded();
    calls::msg_receivev(chid, &mut [IoSliceMut::new(buffer)])
}

pub(crate) fn message(chid: i32) -> (i32, MessageInfo) {
    match receive_into(chid, &mut [0; 64]).unwrap() {
        Received::Message { rcvid, info } => (rcvid, info),
        Received::Pulse(pulse) => panic!("a pulse came: {pulse:?}"),
    }
}

pub(crate) fn pulse(chid: i32) -> Pulse {
    match receive_into(chid, &mut [0; 64]).unwrap() {
        Received::Pulse(pulse) => pulse,
        Received::Message { info, .. } => panic!("a message came: {info:?}"),
    }
}

pub(crate) fn reply(rcvid: i32, status: i64, data: &[u8]) -> Result<(), i32> {
    calls::msg_replyv(rcvid, status, &[IoSlice::new(data)]).map_err(|error| error.errno())
}

/// The errno of a call that must fail.
pub(crate) fn errno<T: std::fmt::Debug>(outcome: Result<T, Error>) -> i32 {
    outcome.unwrap_err().errno()
}

/// Asks again and again until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A thread that sleeps in a call.
pub(crate) struct Blocked<'scope, T> {
    thread: std::thread::ScopedJoinHandle<'scope, T>,
    tid: i32,
}

impl<T> Blocked<'_, T> {
    pub(crate) fn join(self) -> std::thread::Result<T> {
        self.thread.join()
    }

    /// Interrupts its call: with more than one signal when one comes in a moment in which the thread looks for packets
    /// instead of sleeping.
    pub(crate) fn interrupt(&self) {
        until("the call ends", || {
            // SAFETY: plain values. A thread that has ended is not there, which is what is waited for.
            let _sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), self.tid, libc::SIGUSR1) };
            self.thread.is_finished()
        });
    }
}

/// Starts a thread and waits until it sleeps in the call that it makes, for what others do: what it sends was sent.
pub(crate) fn blocked<'scope, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    call: impl FnOnce() -> T + Send + 'scope,
) -> Blocked<'scope, T> {
    let (tell, told) = std::sync::mpsc::channel();
    let thread = scope.spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        call()
    });
    let tid = told.recv().unwrap().as_raw();
    until("the thread waits", || waits(std::process::id().cast_signed(), tid));
    Blocked { thread, tid }
}

/// Whether a thread sleeps in one of the calls that wait, for what others do. That it sleeps at all would say less: for a
/// lock, too, it sleeps, on its way into the call. The sleep that signals end is ppoll(2), and no other one.
pub(crate) fn waits(pid: i32, tid: i32) -> bool {
    let call = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(libc::SYS_ppoll.to_string().as_str())
}

/// Whether SIGSTOP has stopped a thread.
pub(crate) fn is_stopped(pid: i32, tid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).unwrap_or_default();
    stat.contains(") T ")
}

/// A child that plays a role, killed in the end.
pub(crate) struct Role {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Role {
    pub(crate) fn start(role: &str, args: &[i32]) -> Self {
        Self::start_with(role, args, &[])
    }

    /// With more in its environment.
    pub(crate) fn start_with(role: &str, args: &[i32], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["role", role])
            .args(args.iter().map(i32::to_string))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// The next line that it says.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    /// The next line, a number.
    pub(crate) fn number(&mut self) -> i32 {
        self.hear().parse().unwrap()
    }

    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
