//! The real kernel behind [`crate::device`]: finds the interface, changes its settings, opens its sockets.

use std::{io, os::fd::AsFd};

use io_pkt_sdk::{
    Args, Error, Generic, Host, Interest, Interface, Mac, PollHandle, TxBatch,
    linux::{Link, LinkWatch},
};

use crate::{
    device::{Kernel, Wire},
    intake::Intake,
    port::{Mode, Port, PortConfig, Sending, Sent},
    settings::{self, Settings},
    stats::Counters,
    sys::{Hearing, ethtool},
};

/// Slots of a receive ring for whole frames: about 30 ms of a busy gigabit link.
const SLOTS: u64 = 2048;
/// Short slots take a quarter of the memory.
const SHORT_SLOTS: u64 = 4 * SLOTS;

/// The driver's options, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Name from `dev=`, possibly an alternative one.
    dev: String,
    root: String,
    generic: Generic,
    /// Offloads stay as they are.
    keep_offloads: bool,
    port: PortConfig,
}

impl Config {
    /// Reads the options; `dev=` is the only one that must be there.
    pub(crate) fn from_args(args: &Args<'_>) -> Result<Self, Error> {
        let Some(dev) = args.text("dev") else {
            return Err(Error::new(libc::EINVAL, format!("dev= is missing: {}", present())));
        };
        let generic = args.generic();
        if let Some(mac) = generic.mac.filter(|mac| mac.is_group() || *mac == Mac::default()) {
            return Err(Error::new(libc::EINVAL, format!("mac={mac} is not the address of one station")));
        }
        let mode = match args.text("mode") {
            Some("mmsg") => Mode::Messages,
            Some("mixed") => Mode::Mixed,
            _ => Mode::Ring,
        };
        let slots = if mode == Mode::Mixed { SHORT_SLOTS } else { SLOTS };
        Ok(Self {
            dev: dev.to_owned(),
            root: args.root().to_owned(),
            generic,
            keep_offloads: args.text("offload") == Some("keep"),
            port: PortConfig {
                mode,
                sending: if args.text("send") == Some("xdp") { Sending::Xdp } else { Sending::Messages },
                hearing: Hearing {
                    promiscuous: generic.promiscuous,
                    multicast: generic.multicast,
                    // DEVIATION: QNX gives the card another address. Linux uses the card too and would lose its
                    // neighbours' caches and its routes, so ours is added to the card's own.
                    extra_mac: generic.mac.map(|mac| mac.0),
                },
                slots: args.number("receive").unwrap_or(slots) as usize,
            },
        })
    }

    /// Whether multicast frames are wanted.
    pub(crate) fn multicast(&self) -> bool {
        self.generic.multicast
    }
}

/// This machine's interfaces.
#[derive(Debug)]
pub(crate) struct Linux {
    config: Config,
    links: LinkWatch,
    /// Said once, not at every return of the interface.
    said_unprivileged: bool,
}

/// An open interface with its changed settings.
#[derive(Debug)]
pub(crate) struct LinuxWire {
    port: Port,
    _settings: Settings,
}

impl Linux {
    /// Opens the view on the interfaces, and undoes what a killed daemon left behind below this root.
    pub(crate) fn new(config: Config) -> Result<Self, Error> {
        for name in settings::put_back_leftovers(&config.root) {
            tracing::info!("{name}: settings put back that a killed daemon had changed");
        }
        let links = LinkWatch::open()
            .map_err(|error| Error::os("cannot ask about interfaces (rtnetlink)", &error))?;
        Ok(Self { config, links, said_unprivileged: false })
    }

    /// Makes the settings that the options ask for.
    fn prepare(&mut self, link: &Link) -> Result<Settings, Error> {
        let mut settings = Settings::take(&self.config.root, link)?;
        if let Some(mtu) = self.config.generic.mtu {
            settings.set_mtu(link.mtu, mtu).map_err(|error| {
                Error::os(format!("mtu={}: cannot set it on {}", mtu + 14, link.name), &error)
            })?;
        }
        if !link.is_up()
            && let Err(error) = settings.switch_on()
        {
            let error = Error::from(error);
            return Err(Error::new(
                error.errno(),
                format!(
                    "{} is off and cannot be switched on ({error}); type: sudo ip link set {} up",
                    link.name, link.name
                ),
            ));
        }
        if !self.config.keep_offloads {
            self.offloads_off(&mut settings, link);
        }
        Ok(settings)
    }

    fn offloads_off(&mut self, settings: &mut Settings, link: &Link) {
        match settings.offloads_off() {
            Ok(switched) if switched.is_empty() => {}
            Ok(switched) => tracing::debug!("{}: switched off {}", link.name, switched.join(", ")),
            Err(error) if !self.said_unprivileged => {
                self.said_unprivileged = true;
                tracing::info!(
                    "{}: offloads stay on ({}); super-frames are cut and checksums completed here",
                    link.name,
                    Error::from(error)
                );
            }
            Err(_) => {}
        }
    }

    fn open_error(&self, link: &Link, error: &io::Error) -> Error {
        match error.raw_os_error() {
            Some(libc::EPERM) => Error::new(
                libc::EPERM,
                format!(
                    "dev={}: raw frames need CAP_NET_RAW in the network namespace of the interface; start io-pkt as \
                     root, or type: sudo setcap cap_net_raw,cap_net_admin+ep $(command -v io-pkt)",
                    self.config.dev
                ),
            ),
            Some(libc::EBUSY | libc::EAFNOSUPPORT) if self.config.port.sending == Sending::Xdp => {
                Error::os(format!("send=xdp: cannot open AF_XDP on the first queue of {}", link.name), error)
            }
            _ => Error::os(format!("dev={}: cannot open {}", self.config.dev, link.name), error),
        }
    }
}

impl Kernel for Linux {
    type Wire = LinuxWire;

    fn watch(&mut self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.links, Interest::Read, token)
    }

    fn changed(&mut self) -> bool {
        self.links.changed()
    }

    fn find(&mut self, index: Option<i32>) -> Result<Option<Link>, Error> {
        let by_index = match index {
            Some(index) => self.links.by_index(index),
            None => Ok(None),
        };
        let found = by_index.and_then(|found| match found {
            Some(link) => Ok(Some(link)),
            None => self.links.by_name(&self.config.dev),
        });
        found.map_err(|error| Error::os(format!("cannot ask about {}", self.config.dev), &error))
    }

    fn open(&mut self, link: &Link) -> Result<LinuxWire, Error> {
        if !link.is_ethernet() {
            return Err(Error::new(
                libc::EINVAL,
                format!(
                    "dev={}: {} does not carry Ethernet frames; {}",
                    self.config.dev,
                    link.name,
                    present()
                ),
            ));
        }
        let settings = self.prepare(link)?;
        let mtu = self.config.generic.mtu.unwrap_or(link.mtu);
        let port =
            Port::open(link.index, mtu, &self.config.port).map_err(|error| self.open_error(link, &error))?;
        Ok(LinuxWire { port, _settings: settings })
    }

    fn describe(&self, link: Option<&Link>) -> Interface {
        let Some(link) = link else { return Interface::default() };
        let state = ethtool::link_state(&link.name);
        let permanent = link.permanent_mac.or_else(|| ethtool::permanent_mac(&link.name).map(Mac));
        Interface {
            link_up: link.has_carrier(),
            promiscuous: self.config.generic.promiscuous,
            multicast: self.config.generic.multicast,
            full_duplex: state.is_none_or(|state| state.full_duplex),
            mac: self.config.generic.mac.unwrap_or(link.mac),
            permanent_mac: permanent.unwrap_or(link.mac),
            mtu: link.mtu,
            speed_mbps: state.map_or(0, |state| state.speed),
            system_name: link.name.clone(),
            description: describe_card(link),
            media: state.map_or("", |state| state.media).to_owned(),
        }
    }

    fn not_found(&mut self) -> Error {
        Error::new(libc::ENODEV, format!("dev={}: no such interface; {}", self.config.dev, present()))
    }
}

impl Wire for LinuxWire {
    fn watch_receiving(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.port.receiving().as_fd(), Interest::Read, token)
    }

    fn watch_sending(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.port.sending().as_fd(), Interest::Write, token)
    }

    fn receive(&mut self, intake: &mut Intake, limit: usize) -> bool {
        self.port.receive(intake, limit)
    }

    fn transmit(&mut self, frames: &mut TxBatch<'_>, counters: &mut Counters) -> Sent {
        self.port.transmit(frames, counters)
    }

    fn resume(&mut self) -> bool {
        self.port.resume()
    }

    fn drops(&mut self) -> u64 {
        self.port.receiving().drops()
    }
}

/// The card in one line: `virtio_net at 0000:00:03.0`, `veth`.
fn describe_card(link: &Link) -> String {
    match ethtool::driver(&link.name) {
        Some((driver, bus)) if bus.is_empty() => format!("Linux {driver}"),
        Some((driver, bus)) => format!("Linux {driver} at {bus}"),
        None if link.kind.is_empty() => "Linux interface".to_owned(),
        None => format!("Linux {}", link.kind),
    }
}

/// The Ethernet interfaces that there are, for error messages.
fn present() -> String {
    let links = LinkWatch::open().and_then(|mut links| links.all()).unwrap_or_default();
    let names: Vec<String> = links
        .into_iter()
        .filter(Link::is_ethernet)
        .map(|link| match link.alt_names.as_slice() {
            [] => link.name,
            others => format!("{} (also called {})", link.name, others.join(", ")),
        })
        .collect();
    match names.as_slice() {
        [] => "this network namespace has no Ethernet interface".to_owned(),
        names => format!("there are {}", names.join(", ")),
    }
}
