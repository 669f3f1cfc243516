//! Start-up and end of a daemon, in order.
//!
//! 1. the root directory and the lock of this instance (a second start is refused with the pid of the first);
//! 2. the names that a dead daemon left are swept away;
//! 3. pool, switchboard, control socket, further packet threads; settings of interfaces that a dead daemon changed are put back;
//! 4. the drivers and protocols of the command line, in its order; one that fails ends the start and leaves nothing;
//! 5. ready: systemd and a waiting foreground half are told;
//! 6. the loop, until SIGTERM or SIGINT; then everything is unmounted in reverse order and all names go.

use std::{rc::Rc, time::Duration};

use anyhow::{Context, anyhow, bail};
use ctl::Root;
use io_pkt_host::SearchPath;
use mio::Poll;
use nix::sys::signal::Signal;
use sd_notify::NotifyState;

use crate::{
    cli::{Args, MountArg},
    control::Control,
    core::Core,
    event_loop::{EventLoop, Spin, take_signals},
    names::{ChannelNames, DeviceDir, LockError, PidLock, make_root, sweep},
    process::{self, Launch},
    registry::{Identity, ModuleFile, Registry},
    threads::Threads,
};

/// Default length of a spin; none on a machine with one CPU, where it only delays others.
const SPIN: Duration = Duration::from_micros(50);

/// Runs a daemon from start to end.
///
/// # Errors
/// One sentence (with causes) when the start fails; everything made so far has been removed then.
pub fn run(args: Args, launch: &mut Launch) -> anyhow::Result<Signal> {
    let signals = take_signals().context("taking over signals")?;
    process::raise_descriptor_limit();
    // Device files and the control socket are for everybody, whatever the caller's habit.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    notice(&args);
    let root = make_root(args.root.as_deref(), args.instance)?;
    let _lock = lock(&root, args.instance)?;
    let devices = DeviceDir::new(&root, args.instance);
    let swept = sweep(&root, args.instance, &devices);
    if !swept.is_empty() {
        tracing::info!("removed what a dead io-pkt left: {}", swept.join(", "));
    }
    devices.make().with_context(|| format!("device directory {}", devices.path().display()))?;
    let _devices = Tidy(devices.clone());
    let _channels = ChannelNames::make(&root)
        .with_context(|| format!("names of channels in {}", root.dir().display()))?;

    let poll = Poll::new().context("making the event poller")?;
    let core =
        Core::new(poll.registry(), args.pool, SearchPath::from_env()).context("making the packet pool")?;
    let socket = root.control_socket(args.instance);
    let control = Control::bind(&socket, poll.registry())
        .with_context(|| format!("control socket {}", socket.display()))?;
    let identity = Identity { root, instance: args.instance, devices };
    let spin = Spin::new(spin_time(args.spin));
    let threads = Threads::start(args.threads, &core, spin)
        .with_context(|| format!("starting {} packet threads", args.threads))?;
    let mut registry = Registry::new(identity, Rc::new(core), threads, args.load);
    registry.put_back_leftovers();
    let mut event_loop = EventLoop::new(poll, registry, control, signals, spin, args.program.clone())
        .context("making the event loop")?;
    let started = mount_all(event_loop.registry(), &args.mounts).and_then(|()| ready(&args, launch));
    let signal = started.and_then(|()| Ok(event_loop.run().inspect_err(|e| tracing::error!("{e}"))?));
    if let Ok(signal) = signal {
        tracing::info!("{signal}: shutting down");
        // Nobody can be told when systemd is gone.
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
    }
    event_loop.end().context("the event poller failed")?;
    signal
}

/// The device directory exists only while a node runs.
struct Tidy(DeviceDir);

impl Drop for Tidy {
    fn drop(&mut self) {
        self.0.remove_if_empty();
    }
}

fn lock(root: &Root, instance: u32) -> anyhow::Result<PidLock> {
    PidLock::take(&root.lock_file(instance)).map_err(|error| match error {
        LockError::Held { pid, .. } => anyhow!(
            "instance {instance} runs already below {} (pid {pid}); `-i N` starts another one beside it",
            root.dir().display()
        ),
        // Its sentence has the cause in it already.
        other => anyhow!("{other}"),
    })
}

fn mount_all(registry: &mut Registry, mounts: &[MountArg]) -> anyhow::Result<()> {
    for mount in mounts {
        if mount.name == "tcpip" || mount.name == "lsm-tcpip.so" {
            tracing::info!("-p tcpip: accepted and not needed: TCP/IP is Linux's own here");
            continue;
        }
        let letter = if mount.kind == io_pkt_host::Kind::Driver { 'd' } else { 'p' };
        let file = ModuleFile::Named(mount.name.clone());
        if let Err(error) = registry.mount(Some(mount.kind), file, &mount.options) {
            bail!("-{letter} {}: {error}", mount.name);
        }
    }
    Ok(())
}

fn ready(args: &Args, launch: &mut Launch) -> anyhow::Result<()> {
    tracing::info!(
        "{} {} ready: instance {}, pid {}",
        args.program,
        env!("CARGO_PKG_VERSION"),
        args.instance,
        std::process::id()
    );
    launch.ready().context("going to the background")?;
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!("systemd was not told that io-pkt is ready: {error}");
    }
    Ok(())
}

fn notice(args: &Args) {
    for letter in &args.ignored {
        tracing::info!("-{letter} has a meaning on QNX only and is ignored");
    }
    if let Some(priority) = args.priority {
        match process::set_priority(priority) {
            Ok(nice) => tracing::debug!("-P {priority}: nice {nice}"),
            Err(sentence) => tracing::warn!("{sentence}"),
        }
    }
}

fn spin_time(wanted: Option<Duration>) -> u64 {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let spin = wanted.unwrap_or(if cpus > 1 { SPIN } else { Duration::ZERO });
    u64::try_from(spin.as_nanos()).unwrap_or(u64::MAX)
}
