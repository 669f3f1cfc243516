//! ZeroMQ and gRPC: small programs that are compiled once and kept below `target/bench`, when Debian's packages for them
//! are installed.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use bench_support::{contestant::Contestant, install, rig::Rig};

/// One of the peers that need a compiler.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// For the tables.
    pub name: &'static str,
    /// What it is built from.
    sources: &'static [(&'static str, &'static str)],
    /// How, in the folder with the sources; gives a program `peer`.
    build: &'static str,
    /// Debian's packages that it takes.
    packages: &'static str,
    /// In front of the address.
    scheme: &'static str,
    port: u16,
}

const TRIPS: (&str, &str) = ("trips.h", include_str!("../peers/trips.h"));

/// ZeroMQ, REQ and REP.
pub const ZEROMQ: Peer = Peer {
    name: "ZeroMQ",
    sources: &[TRIPS, ("zmq.c", include_str!("../peers/zmq.c"))],
    build: "cc -O2 zmq.c -o peer -lzmq",
    packages: "gcc libzmq3-dev",
    scheme: "tcp://",
    port: 7003,
};

/// gRPC in C++, unary calls.
pub const GRPC: Peer = Peer {
    name: "gRPC",
    sources: &[
        TRIPS,
        ("grpc.cc", include_str!("../peers/grpc.cc")),
        ("echo.proto", include_str!("../peers/echo.proto")),
    ],
    build: "protoc --cpp_out=. --grpc_out=. --plugin=protoc-gen-grpc=$(command -v grpc_cpp_plugin) echo.proto && \
            c++ -O2 grpc.cc echo.pb.cc echo.grpc.pb.cc -o peer $(pkg-config --cflags --libs grpc++ protobuf)",
    packages: "g++ pkg-config libgrpc++-dev protobuf-compiler-grpc",
    scheme: "",
    port: 7004,
};

impl Peer {
    /// Starts both ends at the far address of pair `pair`. `None`, and a line that says so, when it cannot be compiled.
    ///
    /// # Errors
    /// It was compiled and does not start.
    pub fn start(&self, rig: &Rig, pair: &str) -> Result<Option<Contestant>> {
        let folder = install::top()?.join("target/bench/peers").join(self.name);
        let Some(program) = self.compile(&folder)? else { return Ok(None) };
        let program = program.to_str().context("the workspace's path is not UTF-8")?;
        let address = format!("{}{}:{}", self.scheme, rig.address(pair)?, self.port);
        let mut server = rig.play("b", None, &["exec", program, "echo", &address])?;
        ensure!(server.line()? == "ready", "{}: the server does not start", self.name);
        let client = rig.play("a", None, &["exec", program, "ping", &address])?;
        Contestant::new(self.name, server, client, None).map(Some)
    }

    /// The program; compiled again only when a source or the command has changed.
    fn compile(&self, folder: &Path) -> Result<Option<PathBuf>> {
        let program = folder.join("peer");
        fs::create_dir_all(folder)?;
        let mut fresh = program.exists();
        for (name, text) in self.sources.iter().copied().chain([("build", self.build)]) {
            fresh &= write_if_changed(&folder.join(name), text)?;
        }
        if fresh {
            return Ok(Some(program));
        }
        eprintln!("compiling the program for {}", self.name);
        let output = Command::new("sh").current_dir(folder).args(["-ec", self.build]).output()?;
        if output.status.success() {
            return Ok(Some(program));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
        eprintln!(
            "{} does not take part: it needs Debian's packages {} ({reason})",
            self.name, self.packages
        );
        // What an earlier version left must not be taken for the present one.
        match fs::remove_file(folder.join("build")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(None),
        }
    }
}

/// True when the file had that text already.
fn write_if_changed(path: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return Ok(true);
    }
    fs::write(path, text).with_context(|| format!("{}", path.display()))?;
    Ok(false)
}
