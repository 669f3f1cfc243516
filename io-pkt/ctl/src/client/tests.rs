//! The client against scripted daemons on real sockets.
//!
//! The daemons here answer wrong, late or not at all; the real one has tests of its own in `io-pkt/tests`.
//! No test waits for longer than the client's own timeout.

use std::{
    io::Write,
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    thread::JoinHandle,
};

use super::*;

const PLENTY: Duration = Duration::from_secs(20);

/// Runs `daemon` on the first connection to a fresh socket.
fn against<T: Send + 'static>(
    daemon: impl FnOnce(UnixStream) -> T + Send + 'static,
) -> (tempfile::TempDir, PathBuf, JoinHandle<T>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("io-pkt0.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || daemon(listener.accept().unwrap().0));
    (dir, path, thread)
}

fn read_request(stream: &UnixStream, fds: &mut Vec<std::os::fd::OwnedFd>) -> Request {
    let mut lines = LineBuffer::default();
    let mut room = [0; 512];
    loop {
        if let Some(line) = lines.next_line().unwrap() {
            return serde_json::from_slice(line).unwrap();
        }
        match sys::recv_with_descriptors(stream.as_fd(), &mut room, fds) {
            Ok(n) => lines.push(&room[..n]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(e) => panic!("{e}"),
        }
    }
}

#[test]
fn a_missing_daemon_is_said_to_be_not_running() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::connect(&dir.path().join("io-pkt0.sock"), PLENTY).unwrap_err();
    assert!(error.to_string().starts_with("io-pkt is not running"), "{error}");
}

#[test]
fn a_missing_instance_is_told_with_those_that_run() {
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let _two = UnixListener::bind(root.control_socket(2)).unwrap();
    let error = Client::connect_instance(&root, 1, PLENTY).unwrap_err().to_string();
    assert_eq!(error, "instance 1 of io-pkt is not running; there is: 2");
}

#[test]
fn mount_hands_over_an_open_file() {
    let (_dir, path, daemon) = against(|mut stream| {
        let mut fds = Vec::new();
        let request = read_request(&stream, &mut fds);
        let reply = r#"{"v":1,"id":1,"ok":{"name":"en0","module":"devn-x","path":null}}"#;
        stream.write_all(format!("{reply}\n").as_bytes()).unwrap();
        let mut text = String::new();
        std::fs::File::from(fds.remove(0)).read_to_string(&mut text).unwrap();
        (request.command, text)
    });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"module text").unwrap();
    let open = std::fs::File::open(file.path()).unwrap();
    let mut client = Client::connect(&path, PLENTY).unwrap();
    let mounted = client.mount("./x.so", "a=1", Some(open.as_fd())).unwrap();
    assert_eq!(mounted.name, "en0");
    let (command, text) = daemon.join().unwrap();
    assert_eq!(command, Command::Mount { module: "./x.so".into(), options: "a=1".into() });
    assert_eq!(text, "module text");
}

#[test]
fn a_refusal_carries_errno_and_sentence() {
    let (_dir, path, daemon) = against(|mut stream| {
        let request = read_request(&stream, &mut Vec::new());
        let error = ErrorReply::new(nix::errno::Errno::EBUSY, "qnet cannot be unmounted");
        let reply = Reply { v: 1, id: request.id, outcome: Outcome::Error(error) };
        stream.write_all(&codec::encode(&reply).unwrap()).unwrap();
    });
    let error = Client::connect(&path, PLENTY).unwrap().umount("qnet").unwrap_err();
    assert!(matches!(&error, ClientError::Refused(reply) if reply.errno == "EBUSY"), "{error:?}");
    assert_eq!(error.to_string(), "qnet cannot be unmounted");
    daemon.join().unwrap();
}

#[test]
fn a_silent_daemon_ends_in_a_timeout() {
    let (_dir, path, daemon) = against(|stream| stream);
    let mut client = Client::connect(&path, Duration::from_millis(30)).unwrap();
    assert!(matches!(client.ping(), Err(ClientError::Timeout { .. })));
    drop(daemon.join().unwrap());
}

#[test]
fn a_daemon_that_ends_is_said_to_have_closed() {
    let (_dir, path, daemon) = against(|stream| {
        read_request(&stream, &mut Vec::new());
    });
    let error = Client::connect(&path, PLENTY).unwrap().counters().unwrap_err();
    assert!(matches!(error, ClientError::Closed { .. }), "{error:?}");
    daemon.join().unwrap();
}

#[test]
fn garbage_from_the_daemon_is_an_error_not_a_panic() {
    for garbage in
        ["\n", "{}\n", "[1,2]\n", "{\"v\":1,\"id\":1}\n", "{\"v\":1,\"id\":9,\"ok\":1}\n", "\u{1}\u{2}\n"]
    {
        let (_dir, path, daemon) = against(move |mut stream| {
            read_request(&stream, &mut Vec::new());
            stream.write_all(garbage.as_bytes()).unwrap();
        });
        let error = Client::connect(&path, PLENTY).unwrap().ping().unwrap_err();
        assert!(matches!(error, ClientError::Garbled { .. }), "{garbage:?}: {error:?}");
        daemon.join().unwrap();
    }
}
