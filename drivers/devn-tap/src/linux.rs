//! The real TAP behind [`crate::device`]: made or attached, set up, and put back.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice, IoSliceMut},
    os::fd::AsFd,
};

use io_pkt_sdk::{
    Args, Error, Generic, Host, Interest, Interface, Mac, PollHandle,
    linux::{LinkWatch, device},
};
use nix::sys::uio::{readv, writev};

use crate::{
    device::{LinkState, Tap},
    sys::TapFd,
};

/// The driver's options, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Empty lets the kernel choose.
    dev: String,
    persist: bool,
    generic: Generic,
}

impl Config {
    /// Reads the options.
    pub(crate) fn from_args(args: &Args<'_>) -> Result<Self, Error> {
        let dev = args.text("dev").unwrap_or_default();
        if dev.len() > 15 || dev.contains(['/', ' ', '%']) || dev == "." || dev == ".." {
            return Err(Error::new(
                libc::EINVAL,
                format!("dev={dev} is no name for a Linux interface: up to 15 letters without / or blanks"),
            ));
        }
        let generic = args.generic();
        if let Some(mac) = generic.mac.filter(|mac| mac.is_group() || *mac == Mac::default()) {
            return Err(Error::new(libc::EINVAL, format!("mac={mac} is not the address of one station")));
        }
        Ok(Self { dev: dev.to_owned(), persist: args.flag("persist"), generic })
    }
}

/// An attached TAP. Dropping it puts back what was changed; a TAP that is not persistent vanishes then.
#[derive(Debug)]
pub(crate) struct LinuxTap {
    fd: TapFd,
    links: LinkWatch,
    index: i32,
    /// It was there, switched off, and is to be switched off again.
    switched_on: bool,
    /// It was there with this payload size.
    former_mtu: Option<u32>,
}

impl LinuxTap {
    /// Makes or attaches the TAP and sets it up.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let mut links =
            LinkWatch::open().map_err(|error| Error::os("cannot ask about interfaces", &error))?;
        let existed = links.by_name(&config.dev).ok().flatten().is_some();
        let fd = TapFd::attach(&config.dev).map_err(|error| attach_error(&config.dev, &error))?;
        let name = fd.name().to_owned();
        let failed = |what: &str, error: &io::Error| Error::os(format!("{name}: {what}"), error);
        if config.persist {
            fd.set_persistent(true).map_err(|error| failed("cannot make it persistent", &error))?;
        }
        let link = links.by_name(&name).map_err(|error| failed("cannot ask about it", &error))?;
        let Some(link) = link else { return Err(Error::new(libc::ENODEV, format!("{name} vanished"))) };
        let mut this = Self { fd, links, index: link.index, switched_on: false, former_mtu: None };
        if let Some(mtu) = config.generic.mtu.filter(|mtu| *mtu != link.mtu) {
            device::set_mtu(&name, mtu)
                .map_err(|error| failed(&format!("cannot set mtu={}", mtu + 14), &error))?;
            this.former_mtu = existed.then_some(link.mtu);
        }
        if !link.is_up() {
            match device::set_up(&name, true) {
                Ok(()) => this.switched_on = existed,
                Err(error) => tracing::warn!(
                    "{name} is off and cannot be switched on ({}); type: sudo ip link set {name} up",
                    Error::from(error)
                ),
            }
        }
        Ok(this)
    }

    /// What is told of the interface; its link state comes from [`Tap::link`].
    pub(crate) fn describe(&self, config: &Config) -> Interface {
        let mac = config.generic.mac.unwrap_or_else(made_up_mac);
        Interface {
            link_up: false,
            // A TAP passes everything that Linux sends.
            promiscuous: true,
            multicast: config.generic.multicast,
            mac,
            permanent_mac: mac,
            system_name: self.fd.name().to_owned(),
            description: "Linux TAP".to_owned(),
            media: "virtual".to_owned(),
            ..Interface::default()
        }
    }
}

impl Drop for LinuxTap {
    fn drop(&mut self) {
        let name = self.fd.name();
        if let Some(mtu) = self.former_mtu
            && let Err(error) = device::set_mtu(name, mtu)
        {
            tracing::warn!("{name}: cannot put back its payload size {mtu}: {error}");
        }
        if self.switched_on
            && let Err(error) = device::set_up(name, false)
        {
            tracing::warn!("{name}: cannot switch it off again: {error}");
        }
    }
}

impl Tap for LinuxTap {
    fn watch(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.fd.as_fd(), Interest::Read, token)
    }

    fn watch_links(&self, host: &Host, token: u64) -> Result<PollHandle, Error> {
        host.watch(&self.links.as_fd(), Interest::Read, token)
    }

    fn changed(&mut self) -> bool {
        self.links.changed()
    }

    fn link(&mut self) -> Option<LinkState> {
        let link = self.links.by_index(self.index).ok().flatten()?;
        Some(LinkState { up: link.has_carrier(), mtu: link.mtu })
    }

    fn read(&self, to: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        Ok(readv(&self.fd, to)?)
    }

    fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(writev(&self.fd, from)?)
    }
}

/// A local address that nobody else is likely to have.
fn made_up_mac() -> Mac {
    let chance = RandomState::new().hash_one("devn-tap").to_ne_bytes();
    let [a, b, c, d, e, f, ..] = chance;
    Mac::local([a, b, c, d, e, f])
}

fn attach_error(dev: &str, error: &io::Error) -> Error {
    let dev = if dev.is_empty() { "a new TAP" } else { dev };
    let cure = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "making a TAP needs CAP_NET_ADMIN; start io-pkt as root, or have one made for you: \
             sudo ip tuntap add mode tap user $USER name tap0"
        }
        Some(libc::EACCES) => {
            "this user may not open /dev/net/tun; start io-pkt as root, or type: sudo chmod 666 /dev/net/tun"
        }
        Some(libc::EBUSY) => "another program, or another mount, holds it",
        Some(libc::EINVAL) => "there is an interface of this name that is no TAP",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "this system has no /dev/net/tun; type: sudo modprobe tun"
        }
        _ => return Error::os(format!("dev={dev}: cannot attach to the TAP"), error),
    };
    Error::new(error.raw_os_error().unwrap_or(libc::EIO), format!("dev={dev}: {cure}"))
}
