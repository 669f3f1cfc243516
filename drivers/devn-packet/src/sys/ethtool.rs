//! What `ethtool` reads and sets: offloads, the driver's name, speed and connector, the burnt-in address.
//!
//! A request is a structure whose first word is the command; `ifr_data` points to it.

use std::{io, os::fd::AsRawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const GDRVINFO: u32 = 0x03;
const GPERMADDR: u32 = 0x20;
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
const GLINKSETTINGS: u32 = 0x4c;

/// One offload that the driver switches off: how `ethtool` calls it, and the commands that read and set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offload {
    /// Short name, as in `ethtool -K`.
    pub(crate) name: &'static str,
    read: u32,
    write: u32,
    /// Its bit in the value that the two commands pass.
    bit: u32,
}

/// The offloads that make frames which are not what is on the wire. The order matters: segmentation needs checksums,
/// so it goes first.
pub(crate) const OFFLOADS: [Offload; 5] = [
    Offload { name: "lro", read: 0x25, write: 0x26, bit: 1 << 15 },
    Offload { name: "gro", read: 0x2b, write: 0x2c, bit: 1 },
    Offload { name: "tso", read: 0x1e, write: 0x1f, bit: 1 },
    Offload { name: "gso", read: 0x23, write: 0x24, bit: 1 },
    Offload { name: "tx", read: 0x16, write: 0x17, bit: 1 },
];

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Words of 32 features each; the kernel has two.
const WORDS: usize = 8;

/// 32 features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// Those that can be switched.
    pub(crate) changeable: u32,
    /// Those that are asked for.
    pub(crate) wanted: u32,
}

/// `struct ethtool_gfeatures`: available, requested, active, never changed.
#[repr(C)]
struct GetFeatures {
    command: u32,
    size: u32,
    words: [[u32; 4]; WORDS],
}

/// `struct ethtool_sfeatures`: valid, requested.
#[repr(C)]
struct SetFeatures {
    command: u32,
    size: u32,
    words: [[u32; 2]; WORDS],
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    erom: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

/// `struct ethtool_perm_addr` with room for a long address.
#[repr(C)]
struct PermanentAddress {
    command: u32,
    size: u32,
    data: [u8; 32],
}

/// `struct ethtool_link_settings` with room for the three link-mode masks of up to 127 words each.
#[repr(C)]
struct LinkSettings {
    command: u32,
    speed: u32,
    duplex: u8,
    port: u8,
    phy_address: u8,
    autoneg: u8,
    mdix: [u8; 2],
    mask_words: i8,
    transceiver: u8,
    subport: [u8; 4],
    reserved: [u32; 7],
    masks: [u32; 3 * 127],
}

/// What the card says of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// Mbit/s, 0 when not known.
    pub(crate) speed: u32,
    /// Full duplex; true when not known.
    pub(crate) full_duplex: bool,
    /// Kind of connector, empty when there is none to speak of.
    pub(crate) media: &'static str,
}

/// Whether the offload is on; `None` when the interface does not have it.
pub(crate) fn is_on(interface: &str, offload: Offload) -> Option<bool> {
    read(interface, offload).ok().map(|value| value & offload.bit != 0)
}

/// Switches the offload.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, EOPNOTSUPP when the interface cannot.
pub(crate) fn switch(interface: &str, offload: Offload, on: bool) -> io::Result<()> {
    let others = read(interface, offload)? & !offload.bit;
    let data = if on { others | offload.bit } else { others };
    ask(interface, &mut Value { command: offload.write, data })
}

fn read(interface: &str, offload: Offload) -> io::Result<u32> {
    let mut value = Value { command: offload.read, data: 0 };
    ask(interface, &mut value).map(|()| value.data)
}

/// Every feature of the interface, those of the offloads above among them, as the kernel keeps them: which ones can be
/// changed, and which ones are asked for. `None` from a kernel that does not tell.
pub(crate) fn features(interface: &str) -> Option<Vec<Features>> {
    let mut request = GetFeatures { command: GFEATURES, size: WORDS as u32, words: [[0; 4]; WORDS] };
    ask(interface, &mut request).ok()?;
    let known = (request.size as usize).min(WORDS);
    let word = |word: &[u32; 4]| Features { changeable: word[0], wanted: word[1] };
    Some(request.words[..known].iter().map(word).collect())
}

/// Asks for exactly these features.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN.
pub(crate) fn set_features(interface: &str, features: &[Features]) -> io::Result<()> {
    let mut request = SetFeatures { command: SFEATURES, size: features.len() as u32, words: [[0; 2]; WORDS] };
    for (word, features) in request.words.iter_mut().zip(features) {
        *word = [features.changeable, features.wanted & features.changeable];
    }
    ask(interface, &mut request)
}

/// Name of the kernel's driver (`veth`, `virtio_net`) and place of the card (`0000:00:03.0`), either may be empty.
pub(crate) fn driver(interface: &str) -> Option<(String, String)> {
    let mut info = DriverInfo {
        command: GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        firmware: [0; 32],
        bus: [0; 32],
        erom: [0; 32],
        reserved: [0; 12],
        counts: [0; 5],
    };
    ask(interface, &mut info).ok()?;
    Some((text(&info.driver), text(&info.bus)))
}

/// The burnt-in address; `None` when the interface has none.
pub(crate) fn permanent_mac(interface: &str) -> Option<[u8; 6]> {
    let mut request = PermanentAddress { command: GPERMADDR, size: 32, data: [0; 32] };
    ask(interface, &mut request).ok()?;
    let mac = request.data.first_chunk::<6>()?;
    (request.size == 6 && *mac != [0; 6]).then_some(*mac)
}

/// Speed, duplex and connector.
pub(crate) fn link_state(interface: &str) -> Option<LinkState> {
    let fresh = || LinkSettings {
        command: GLINKSETTINGS,
        speed: 0,
        duplex: 0,
        port: 0,
        phy_address: 0,
        autoneg: 0,
        mdix: [0; 2],
        mask_words: 0,
        transceiver: 0,
        subport: [0; 4],
        reserved: [0; 7],
        masks: [0; 3 * 127],
    };
    // The first question is answered with the number of mask words (negative), which the second must state.
    let mut settings = fresh();
    ask(interface, &mut settings).ok()?;
    let mut second = fresh();
    second.mask_words = settings.mask_words.checked_neg()?;
    ask(interface, &mut second).ok()?;
    Some(LinkState {
        speed: if second.speed == u32::MAX { 0 } else { second.speed },
        full_duplex: second.duplex != 0,
        media: match second.port {
            0 => "UTP",
            1 => "AUI",
            2 => "MII",
            3 => "fibre",
            4 => "BNC",
            5 => "direct attach",
            _ => "",
        },
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Hands a request to the kernel. `T` is one of the structures above, as large as its command expects.
fn ask<T>(interface: &str, request: &mut T) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut outer: libc::ifreq = unsafe { std::mem::zeroed() };
    if interface.is_empty() || interface.len() >= outer.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in outer.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    outer.ifr_ifru.ifru_data = (&raw mut *request).cast();
    // SAFETY: the descriptor is open; the kernel reads and writes the request, which `outer` points to and we borrow
    // exclusively, no further than its command says, and each structure above has that much room.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut outer) };
    super::check(outcome).map(drop)
}
