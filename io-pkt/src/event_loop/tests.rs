//! How a loop ends. Everything else of it is seen from outside, in `io-pkt/tests/daemon`.

use std::rc::Rc;

use ctl::Root;
use io_pkt_host::{LoadMode, SearchPath};

use super::*;
use crate::{core::Core, names::DeviceDir, pool::PoolConfig, registry::Identity, threads::Threads};

fn event_loop(dir: &std::path::Path, loops: u32, spoil: impl FnOnce(&Threads)) -> EventLoop {
    let poll = Poll::new().unwrap();
    let config = PoolConfig { chunks: 16, ..PoolConfig::default() };
    let core = Core::new(poll.registry(), config, SearchPath::new(None, [])).unwrap();
    let threads = Threads::start(loops, &core, Spin::new(0)).unwrap();
    spoil(&threads);
    let root = Root::at(dir);
    let control = Control::bind(&root.control_socket(0), poll.registry()).unwrap();
    let identity = Identity { devices: DeviceDir::new(&root, 0), root, instance: 0 };
    let registry = Registry::new(identity, Rc::new(core), threads, LoadMode::default());
    EventLoop::new(poll, registry, control, take_signals().unwrap(), Spin::new(0), "test".into()).unwrap()
}

#[test]
fn a_panic_of_ours_on_a_packet_thread_ends_the_daemon_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut event_loop = event_loop(dir.path(), 3, Threads::break_first);
    // Without the fault this would run for ever: nothing else happens here.
    let error = event_loop.run().unwrap_err();
    assert_eq!(error.to_string(), "packet thread 1 has ended: a panic in io-pkt itself");
    event_loop.end().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no socket is left");
}

#[test]
fn a_signal_ends_a_loop_with_packet_threads() {
    let dir = tempfile::tempdir().unwrap();
    let mut event_loop = event_loop(dir.path(), 3, |_| ());
    // To this thread alone, which has it blocked.
    nix::sys::signal::raise(Signal::SIGTERM).unwrap();
    assert_eq!(event_loop.run().unwrap(), Signal::SIGTERM);
    event_loop.end().unwrap();
}
