//! Clients that mean no good, while frames flow.
//!
//! A storm between two interfaces is the measure: whatever the clients do, it goes on. What only root may do is
//! tried as somebody else.

use std::{
    io::{Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    process::{Command, Stdio},
    time::Duration,
};

use crate::support::{Daemon, PATIENCE, Place, eventually};

fn socket(place: &Place) -> UnixStream {
    let stream = UnixStream::connect(place.root().control_socket(0)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream
}

/// Frames must go on flowing.
fn flows(daemon: &Daemon) {
    let sent = || daemon.client().counters().unwrap().frames_sent;
    let before = sent();
    eventually("frames flow", || sent() > before + 50);
}

#[test]
fn no_client_can_stop_the_frames() {
    let place = Place::new();
    let daemon = place.start(&["-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    flows(&daemon);
    let silent: Vec<_> = (0..500).map(|_| socket(&place)).collect();
    flows(&daemon);

    let mut half = socket(&place);
    half.write_all(b"{\"v\":1,\"id\":1,\"cmd\":").unwrap();
    let mut garbage = socket(&place);
    garbage.write_all(&[0xff, 0, b'\n', b'{', b'\n', b'\n']).unwrap();
    let mut answers = [0; 16];
    garbage.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"{\"v\":1,\"id\":0,\"e");
    flows(&daemon);

    // 100 MB without a newline: the connection ends long before they are through.
    let mut long = socket(&place);
    let piece = vec![b'x'; 1 << 20];
    let written = (0..100).take_while(|_| long.write_all(&piece).is_ok()).count();
    assert!(written < 100, "the daemon swallowed a line of 100 MB");
    flows(&daemon);
    drop((silent, half, garbage));
    daemon.stop();
}

#[test]
fn strangers_may_look_and_not_touch() {
    if !nix::unistd::Uid::effective().is_root() {
        assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI runs this as root");
        eprintln!("strangers_may_look_and_not_touch: not tried: only root can become somebody else");
        return;
    }
    let place = Place::new();
    let daemon = place.start(&["-dtemplate"]);
    // Everybody may enter the directories of this test.
    for dir in [place.path(""), place.root().dir().to_owned()] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let ask = |request: &str| {
        let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                      s.sendall(sys.argv[2].encode()+b'\\n')\nprint(s.makefile().readline())";
        let mut python = Command::new("python3");
        python.args(["-c", script]).arg(place.root().control_socket(0)).arg(request);
        let output = python.uid(65534).gid(65534).stdin(Stdio::null()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for allowed in ["{\"v\":1,\"id\":1,\"cmd\":\"ping\"}", "{\"v\":1,\"id\":1,\"cmd\":\"interfaces\"}"] {
        assert!(ask(allowed).contains("\"ok\""), "{allowed}");
    }
    for denied in [
        "{\"v\":1,\"id\":1,\"cmd\":\"umount\",\"name\":\"en0\"}",
        "{\"v\":1,\"id\":1,\"cmd\":\"mount\",\"module\":\"template\"}",
        "{\"v\":1,\"id\":1,\"cmd\":\"log-level\",\"level\":\"off\"}",
    ] {
        assert!(ask(denied).contains("\"EPERM\""), "{denied}");
    }
    assert_eq!(daemon.client().interfaces(None).unwrap().len(), 1);
    daemon.stop();
}
