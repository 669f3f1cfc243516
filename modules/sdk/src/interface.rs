//! What drivers tell of their interface and protocols hear of all.

use std::fmt;

use io_pkt_abi::{
    Bytes, InterfaceEvent, InterfaceInfo,
    info::{
        EVENT_ARRIVED, EVENT_CHANGED, EVENT_GONE, IF_FULL_DUPLEX, IF_LINK_UP, IF_MULTICAST, IF_PROMISCUOUS,
    },
};

use crate::{Mac, raw};

/// The host's number of an interface. Never reused while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceId(pub u32);

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The data of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// There is a carrier.
    pub link_up: bool,
    /// Every frame is received, whatever its destination.
    pub promiscuous: bool,
    /// Multicast frames are received.
    pub multicast: bool,
    /// Full duplex.
    pub full_duplex: bool,
    /// The address in use.
    pub mac: Mac,
    /// The address burnt into the card.
    pub permanent_mac: Mac,
    /// Largest payload in bytes, Ethernet header not counted.
    pub mtu: u32,
    /// Speed in Mbit/s, 0 when not known.
    pub speed_mbps: u32,
    /// What the system calls the thing behind the interface (`eth1`).
    pub system_name: String,
    /// One line about the card or device.
    pub description: String,
    /// Kind of connector, may be empty.
    pub media: String,
}

impl Default for Interface {
    fn default() -> Self {
        Self {
            link_up: true,
            promiscuous: false,
            multicast: true,
            full_duplex: true,
            mac: Mac::default(),
            permanent_mac: Mac::default(),
            mtu: 1500,
            speed_mbps: 0,
            system_name: String::new(),
            description: String::new(),
            media: String::new(),
        }
    }
}

impl Interface {
    /// As it crosses the border; borrows the texts of `self`.
    pub(crate) fn info(&self) -> InterfaceInfo {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        InterfaceInfo {
            size: size_of::<InterfaceInfo>() as u32,
            flags: flag(self.link_up, IF_LINK_UP)
                | flag(self.promiscuous, IF_PROMISCUOUS)
                | flag(self.multicast, IF_MULTICAST)
                | flag(self.full_duplex, IF_FULL_DUPLEX),
            mac: self.mac.0,
            permanent_mac: self.permanent_mac.0,
            mtu: self.mtu,
            speed_mbps: self.speed_mbps,
            reserved: 0,
            system_name: Bytes::borrow(self.system_name.as_bytes()),
            description: Bytes::borrow(self.description.as_bytes()),
            media: Bytes::borrow(self.media.as_bytes()),
        }
    }

    /// # Safety
    /// The texts of `info` are valid during the call.
    pub(crate) unsafe fn from_info(info: &InterfaceInfo) -> Self {
        let owned = |bytes| {
            // SAFETY: valid by the caller's promise; copied at once.
            unsafe { raw::text(bytes) }.to_owned()
        };
        Self {
            link_up: info.flags & IF_LINK_UP != 0,
            promiscuous: info.flags & IF_PROMISCUOUS != 0,
            multicast: info.flags & IF_MULTICAST != 0,
            full_duplex: info.flags & IF_FULL_DUPLEX != 0,
            mac: Mac(info.mac),
            permanent_mac: Mac(info.permanent_mac),
            mtu: info.mtu,
            speed_mbps: info.speed_mbps,
            system_name: owned(info.system_name),
            description: owned(info.description),
            media: owned(info.media),
        }
    }
}

/// What happened to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It is there now. Also told for each one present when a protocol starts.
    Arrived,
    /// Its data changed.
    Changed,
    /// It is gone; frames sent to it are dropped and counted.
    Gone,
}

/// News of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Which interface.
    pub id: InterfaceId,
    /// Its name (`en0`).
    pub name: String,
    /// Its data, the last known when it is gone.
    pub interface: Interface,
}

impl Event {
    /// `None` for a kind that this build does not know, which is then nothing to worry about.
    ///
    /// # Safety
    /// `raw` and what it points to are valid during the call.
    pub(crate) unsafe fn from_raw(event: &InterfaceEvent) -> Option<Self> {
        let kind = match event.kind {
            EVENT_ARRIVED => EventKind::Arrived,
            EVENT_CHANGED => EventKind::Changed,
            EVENT_GONE => EventKind::Gone,
            _ => return None,
        };
        // SAFETY: never null by the ABI and valid by the caller's promise; checked all the same.
        let info = unsafe { event.info.as_ref() }?;
        // SAFETY: valid by the caller's promise; copied at once.
        let name = unsafe { raw::text(event.name) }.to_owned();
        // SAFETY: as above.
        let interface = unsafe { Interface::from_info(info) };
        Some(Self { kind, id: InterfaceId(event.interface), name, interface })
    }
}
