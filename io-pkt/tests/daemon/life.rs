//! Start, twice, side by side, crash, end: the daemon as an operator sees it.
//!
//! Every test looks at what is left in the root directory, because names are what the next start, the tools and the
//! user stumble over.

use std::{fs, path::Path, process::Stdio};

use nix::sys::signal::Signal;

use crate::support::{Place, eventually, names};

#[test]
fn everything_made_is_gone_after_sigterm() {
    let place = Place::new();
    let segment = place.path("segment").display().to_string();
    let daemon = place.start(&["-d", "segment", &format!("path={segment}"), "-dtemplate", "-pbridge"]);
    assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"]);
    assert_eq!(names(place.root().dir()), ["dev", "io-pkt0.pid", "io-pkt0.sock"]);
    let line = fs::read_to_string(place.root().devices().join("en0")).unwrap();
    let file: ctl::DeviceFile = line.parse().unwrap();
    assert_eq!((file.instance, file.pid, file.device), (0, daemon.pid(), segment));
    let log_before = daemon.log();
    assert!(log_before.contains("ready: instance 0"), "{log_before}");
    daemon.stop();
    assert_eq!(names(place.root().dir()), [] as [&str; 0]);
}

#[test]
fn nothing_mounted_is_a_daemon_too() {
    let place = Place::new();
    let daemon = place.start(&[]);
    assert!(daemon.client().interfaces(None).unwrap().is_empty());
    daemon.stop();
}

#[test]
fn the_same_instance_twice_is_refused_with_the_pid_of_the_first() {
    let place = Place::new();
    let daemon = place.start(&[]);
    let (status, said) = place.run(&[]);
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains("instance 0 runs already") && said.contains(&format!("(pid {})", daemon.pid())),
        "{said}"
    );
    assert!(daemon.client().ping().is_ok(), "the first one is unharmed");
    daemon.stop();
}

#[test]
fn two_instances_share_the_numbers_of_a_node() {
    let place = Place::new();
    let zero = place.start(&["-dtemplate"]);
    let one = place.start(&["-i", "1", "-dtemplate"]);
    assert_eq!(zero.client().interfaces(None).unwrap()[0].name, "en0");
    let other = &one.client().interfaces(None).unwrap()[0];
    assert_eq!((other.name.as_str(), other.instance, other.pid), ("en1", 1, one.pid()));
    let found: Vec<_> = place.root().instances().iter().map(|instance| instance.number).collect();
    assert_eq!(found, [0, 1]);
    zero.client().umount("en0").unwrap();
    assert_eq!(
        one.client().mount("template", "", None).unwrap().name,
        "en0",
        "the lowest number was free again"
    );
    assert!(zero.client().umount("en0").is_err(), "it belongs to the other instance now");
    zero.stop();
    assert_eq!(names(&place.root().devices()), ["en0", "en1"], "names of a living instance stay");
    one.stop();
    assert_eq!(names(place.root().dir()), [] as [&str; 0]);
}

#[test]
fn a_start_after_a_crash_clears_up_and_works() {
    let place = Place::new();
    place.start(&["-dtemplate", "-dtemplate", "-pbridge"]).crash();
    assert_eq!(names(&place.root().devices()), ["bridge0", "en0", "en1"]);
    // Another instance clears up as well, so the numbers are free again.
    let other = place.start(&["-i", "1", "-dtemplate"]);
    assert_eq!(names(&place.root().devices()), ["en0"]);
    other.crash();
    let daemon = place.start(&["-dtemplate"]);
    assert_eq!(names(&place.root().devices()), ["en0"]);
    assert_eq!(names(place.root().dir()), ["dev", "io-pkt0.pid", "io-pkt0.sock"]);
    assert!(daemon.log().contains("removed what a dead io-pkt left"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn a_start_that_fails_leaves_nothing() {
    let place = Place::new();
    for (args, part) in [
        (&["-dtemplate", "-d", "nosuch"][..], "-d nosuch: nosuch: no such module"),
        (&["-dtemplate", "-d", "template", "period=x"][..], "period"),
        (&["-dtemplate", "-d", "el900"][..], "-d packet dev="),
        (&["-dtemplate", "-d", "template", "lan=0"][..], "en0 is taken already by devn-template"),
        (&["-dtemplate", "-p", "/etc/hostname"][..], "/etc/hostname"),
        (&["-d", "template", "uptype=E/"][..], "uptype"),
    ] {
        let (status, said) = place.run(args);
        assert_eq!(status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
        assert_eq!(names(place.root().dir()), [] as [&str; 0], "{args:?}");
    }
}

#[test]
fn a_start_without_enough_descriptors_leaves_nothing() {
    let place = Place::new();
    for limit in 5..20 {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh"]);
        // With enough of them the module that is not there ends the start.
        let io_pkt = place.command(&["-dtemplate", "-d", "nosuch"]);
        command.arg(io_pkt.get_program()).args(io_pkt.get_args());
        let output = command.env_remove("RUST_LOG").stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{limit}: {said}");
        assert_eq!(names(place.root().dir()), [] as [&str; 0], "{limit}: {said}");
    }
}

#[test]
fn a_cause_is_told_once() {
    let place = Place::new();
    std::fs::create_dir_all(place.root().lock_file(0)).unwrap();
    let (_, said) = place.run(&[]);
    assert_eq!(said.matches("Is a directory").count(), 1, "{said}");
}

#[test]
fn called_by_a_qnx_name_it_returns_when_it_is_ready() {
    let place = Place::new();
    let link = place.path("io-pkt-v4-hc");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_io-pkt"), &link).unwrap();
    let modules = std::path::Path::new(env!("CARGO_BIN_EXE_io-pkt")).parent().unwrap();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(&link);
        command.arg("--root").arg(place.root().dir()).args(args).env("IO_PKT_MODULE_PATH", modules);
        // With pipes for output: the daemon must let go of them, or this would wait for its end.
        command.stdin(Stdio::null()).output().unwrap()
    };
    let output = run(&["-dtemplate", "lan=3", "-ptcpip"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.root().devices().join("en3").exists(), "ready means mounted");
    let version =
        ctl::Client::connect_instance(&place.root(), 0, crate::support::PATIENCE).unwrap().ping().unwrap();
    assert_eq!(version.name, "io-pkt-v4-hc");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(version.pid as i32), Signal::SIGTERM).unwrap();
    eventually("the daemon in the background ends", || names(place.root().dir()).is_empty());
    let output = run(&["-dnosuch"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no such module"));
    assert_eq!(names(place.root().dir()), [""; 0], "nothing is held any more by what failed");
}

#[test]
fn a_strict_umask_does_not_hide_the_names() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "umask 077; exec \"$0\" --root \"$1\" -dtemplate"]);
    shell
        .arg(env!("CARGO_BIN_EXE_io-pkt"))
        .arg(place.root().dir())
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn().unwrap();
    let mode =
        |path: &std::path::Path| fs::metadata(path).map_or(0, |meta| meta.permissions().mode() & 0o777);
    eventually("the daemon is up", || place.root().devices().join("en0").exists());
    assert_eq!(mode(&place.root().devices().join("en0")), 0o444);
    assert_eq!(mode(place.root().dir()), 0o755);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn tcpip_is_accepted_with_a_notice() {
    let place = Place::new();
    let daemon = place.start(&["-p", "tcpip", "enmap"]);
    assert_eq!(daemon.log().matches("TCP/IP is Linux's own here").count(), 1);
    daemon.stop();
}

#[test]
fn systemd_hears_of_the_start_and_of_the_end() {
    let place = Place::new();
    let path = place.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    let hear = || {
        let mut room = [0; 64];
        let n = socket.recv(&mut room).unwrap();
        String::from_utf8_lossy(&room[..n]).into_owned()
    };
    let mut child =
        place.command(&["-dtemplate"]).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(hear(), "READY=1\n");
    assert!(place.root().devices().join("en0").exists(), "ready means mounted");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(hear(), "STOPPING=1\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_journal_gets_priorities_and_no_times() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    let path = place.path("journal");
    let file = fs::File::create(&path).unwrap();
    let meta = file.metadata().unwrap();
    let mut command = place.command(&["-ptcpip", "-dnosuch"]);
    // systemd names the stream that it reads in this way.
    command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(file);
    assert_eq!(command.status().unwrap().code(), Some(1));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("<6>-p tcpip: accepted"), "{text}");
    let daemon = place.start(&["-ptcpip"]);
    assert!(daemon.log().contains(" INFO -p tcpip: accepted"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn priority_is_nice_and_the_log_level_can_be_changed() {
    let place = Place::new();
    let daemon = place.start(&["-P", "15"]);
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    assert_eq!(stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16), Some("6"));
    let mut client = daemon.client();
    assert_eq!(client.log_level(None).unwrap(), "info");
    assert_eq!(client.log_level(Some("warn,module=debug")).unwrap(), "module=debug,warn");
    assert!(client.log_level(Some("loud")).unwrap_err().to_string().contains("not a log filter"));
    client.mount("template", "", None).unwrap();
    assert!(!daemon.log().contains("mounted devn-template"), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn modules_can_be_mapped_by_their_path() {
    let place = Place::new();
    let daemon = place.start(&["--load", "path", "-dtemplate"]);
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    assert!(maps.contains("libdevn_template.so"), "{maps}");
    daemon.stop();
    let daemon = place.start(&["-dtemplate"]);
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    assert!(maps.contains("memfd:devn-template") && !maps.contains("libdevn_template.so"), "{maps}");
    daemon.stop();
}

#[test]
fn an_idle_daemon_does_not_use_the_processor() {
    let place = Place::new();
    let segment = place.path("segment").display().to_string();
    let daemon = place.start(&["-d", "segment", &format!("path={segment}"), "-pbridge"]);
    let turns = |daemon: &crate::support::Daemon| daemon.client().counters().unwrap().event_loop.turns;
    let (before, ticks) = (turns(&daemon), daemon.ticks());
    // Meanwhile another one is busy: the span is 50 frames of its clock, however long this machine takes for them.
    let neighbour = Place::new();
    let clock = neighbour.start(&["-d", "template", "period=10"]);
    let frames = || clock.client().counters().unwrap().frames_delivered;
    let end = frames() + 50;
    eventually("50 frames of another daemon", || frames() >= end);
    clock.stop();
    let (after, used) = (turns(&daemon), daemon.ticks() - ticks);
    assert!(after - before < 100, "{} turns while nothing happened", after - before);
    assert!(used < 10, "{used} clock ticks while nothing happened");
    daemon.stop();
}

#[test]
fn check_says_a_line_for_each_thing() {
    let place = Place::new();
    let output = place.command(&["--check"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for subject in
        ["raw sockets", "FUSE", "network directory", "executable memfds", "host name", "user namespaces"]
    {
        let line = text.lines().find(|line| line[6..].starts_with(subject));
        assert!(
            line.is_some_and(|line| line.starts_with("ok ") || line.contains("; cure: ")),
            "{subject}: {text}"
        );
    }
    // One probe must not be in the way of another: a thread of the FUSE probe, still there, forbids user namespaces.
    if Path::new("/proc/self/ns/user").exists() {
        assert!(!text.contains("unshare: Invalid argument"), "{text}");
    }
}
