//! A driver on the SDK that misbehaves on demand: `mode=` names the entry and what it does there. It also sends every
//! frame back, so that others can be seen to carry on. What is stuck comes back when there is a file `go-on` in the root.

use std::{path::PathBuf, thread, time::Duration};

use io_pkt_sdk::{Args, Batch, Driver, DriverStats, Error, Host, Interface, Opt, TxBatch, Work, export_driver};

const MODES: &str = "none|create-error|create-panic|start-error|start-panic|poll-error|poll-panic|transmit-panic|\
                     stats-panic|stop-panic|drop-panic|payload-panic|thread-panic|hold|create-stuck|start-stuck|poll-stuck|\
                     stop-stuck";

struct Naughty {
    host: Host,
    mode: String,
    go_on: PathBuf,
    looped: Batch,
    held: Vec<Batch>,
    stats: DriverStats,
}

/// A panic payload that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the payload exploded");
    }
}

impl Naughty {
    fn is(&self, mode: &str) -> bool {
        self.mode == mode
    }

    /// Blocks, which no driver may.
    fn hang(&self) {
        while !self.go_on.exists() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Driver for Naughty {
    const OPTIONS: &'static [Opt] = &[Opt::choice("mode", "how to misbehave (default none)", MODES)];

    fn create(host: Host, args: &Args<'_>) -> Result<Self, Error> {
        let mode = args.text("mode").unwrap_or("none").to_owned();
        match mode.as_str() {
            "create-error" => Err(Error::new(19, "there is no card in slot 5")),
            "create-panic" => panic!("no card, no driver"),
            _ => {
                let stats = DriverStats { tx_packets: 0, rx_packets: 0, ..DriverStats::unknown() };
                let go_on = PathBuf::from(args.root()).join("go-on");
                let this = Self { looped: host.batch(), held: Vec::new(), host, mode, go_on, stats };
                if this.is("create-stuck") {
                    this.hang();
                }
                Ok(this)
            }
        }
    }

    fn start(&mut self) -> Result<(), Error> {
        match self.mode.as_str() {
            "start-error" => return Err(Error::new(13, "slot 5 is locked")),
            "start-panic" => panic!("slot 5 is on fire"),
            "start-stuck" => self.hang(),
            _ => {}
        }
        tracing::info!(mode = self.mode, "started");
        self.host.interface(&Interface::default())
    }

    fn poll(&mut self, _: &mut Work<'_>) -> Result<(), Error> {
        match self.mode.as_str() {
            "poll-error" => return Err(Error::new(5, "the card fell out of slot 5")),
            "poll-panic" if !self.looped.is_empty() => {
                let nothing: [u8; 0] = [];
                let index = self.looped.len();
                panic!("frame {} of nothing", nothing.get(index).map_or(index, |byte| *byte as usize));
            }
            "poll-stuck" => self.hang(),
            "payload-panic" => std::panic::panic_any(Bomb),
            "thread-panic" => {
                let _ = std::thread::spawn(|| panic!("a thread of slot 5")).join();
            }
            _ => {}
        }
        self.stats.rx_packets += self.looped.frames().count() as u64;
        self.host.deliver(&mut self.looped);
        Ok(())
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>) -> Result<(), Error> {
        self.stats.tx_packets += frames.move_to(&mut self.looped) as u64;
        if self.is("transmit-panic") {
            panic!("out of ink");
        }
        if self.is("hold") {
            self.held.push(self.host.alloc(8));
        }
        self.host.wake();
        Ok(())
    }

    fn stats(&mut self) -> DriverStats {
        assert!(!self.is("stats-panic"), "cannot count");
        self.stats
    }

    fn stop(&mut self) {
        assert!(!self.is("stop-panic"), "cannot stop");
        if self.is("stop-stuck") {
            self.hang();
        }
    }
}

impl Drop for Naughty {
    fn drop(&mut self) {
        assert!(!self.is("drop-panic"), "cannot leave");
    }
}

export_driver!("devn-naughty", Naughty);
