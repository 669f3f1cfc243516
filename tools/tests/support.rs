//! For the tests of the tools: a stand-in for io-pkt, and programs run to their end.
//!
//! Each tool's `tests/cli.rs` takes this file in by path. The stand-in listens where a daemon would,
//! answers with what the test gave it, and keeps the requests for the test to look at.

#![expect(dead_code, reason = "no tool's tests need all of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use ctl::Root;
use serde_json::{Value, json};

/// A root directory with stand-ins for io-pkt in it. They end with the test process.
pub(crate) struct Node {
    dir: tempfile::TempDir,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl Node {
    /// An empty root: no io-pkt runs.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder for the root"), requests: Arc::default() }
    }

    /// The root directory.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts instance `number`, which answers each request with `answer(request)`:
    /// `{"ok": ...}` or `{"error": {"errno": ..., "text": ...}}`.
    pub(crate) fn run(&self, number: u32, answer: fn(&Value) -> Value) {
        let listener =
            UnixListener::bind(Root::at(self.path()).control_socket(number)).expect("a control socket");
        let requests = Arc::clone(&self.requests);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let requests = Arc::clone(&requests);
                thread::spawn(move || serve(stream, answer, &requests));
            }
        });
    }

    /// All requests so far, in the order of their arrival.
    pub(crate) fn requests(&self) -> Vec<Value> {
        self.requests.lock().expect("no stand-in panicked").clone()
    }

    /// Makes the device file of an interface.
    pub(crate) fn device(&self, name: &str, instance: u32) -> PathBuf {
        let folder = Root::at(self.path()).devices();
        fs::create_dir_all(&folder).expect("the device directory");
        let line = format!("instance={instance} pid=1 driver=devn-x mac=02:00:00:00:00:01 device=eth1\n");
        fs::write(folder.join(name), line).expect("a device file");
        folder.join(name)
    }

    /// Runs the program at `path` against this node, to its end.
    pub(crate) fn call(&self, path: impl AsRef<Path>, args: &[&str]) -> Run {
        let mut command = Command::new(path.as_ref());
        command.args(args).env("IO_PKT_ROOT", self.path());
        Run::of(&mut command)
    }
}

fn serve(stream: UnixStream, answer: fn(&Value) -> Value, requests: &Mutex<Vec<Value>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("a second descriptor"));
    let mut line = String::new();
    let mut stream = stream;
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        let request: Value = serde_json::from_str(&line).expect("a request in JSON");
        let mut reply = answer(&request);
        reply["v"] = json!(1);
        reply["id"] = request["id"].clone();
        requests.lock().expect("no stand-in panicked").push(request);
        if writeln!(stream, "{reply}").is_err() {
            return;
        }
        line.clear();
    }
}

/// What a program printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// Exit code.
    pub(crate) code: Option<i32>,
}

impl Run {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the output is text");
        Self { out: text(stdout), err: text(stderr), code: status.code() }
    }
}

/// An `interfaces` answer with one interface.
pub(crate) fn interface(name: &str, system_name: &str) -> Value {
    let stats = json!({"tx_packets": 12, "tx_bytes": 3456});
    json!({
        "name": name, "system_name": system_name, "driver": "devn-packet",
        "driver_path": "/opt/lib/io-pkt/devn-packet.so", "path": format!("/dev/io-net/{name}"),
        "instance": 0, "pid": 42, "description": "Linux network interface", "media": "UTP",
        "mac": "02:00:00:00:00:0a", "permanent_mac": "00:0c:29:dd:35:28", "mtu": 1500, "speed_mbps": 1000,
        "full_duplex": true, "link": true, "promiscuous": false, "multicast": true, "stats": stats,
        "queued": 0, "drops": [{"reason": "no-protocol", "meaning": "nobody wants it", "count": 7}],
    })
}

/// A `version` object.
pub(crate) fn version(instance: u32, pid: u32) -> Value {
    json!({
        "version": "0.1.0", "instance": instance, "pid": pid, "abi": "1.0", "protocol": 1,
        "name": "io-pkt-v4-hc", "uid": 0, "uptime_ns": 5,
    })
}
