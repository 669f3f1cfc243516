//! What the daemon knows of an interface: its own copy of what the driver said.
//!
//! The same data goes three ways: to protocols as an ABI structure that borrows it, to control clients as
//! [`ctl::Interface`], and in part into the device file.

use ctl::Mac;
use io_pkt_abi::{
    Bytes, InterfaceInfo,
    info::{IF_FULL_DUPLEX, IF_LINK_UP, IF_MULTICAST, IF_PROMISCUOUS},
};

/// Data of an interface. `flags` are `IF_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceData {
    /// `IF_*`.
    pub flags: u32,
    /// Address in use.
    pub mac: [u8; 6],
    /// Address burnt into the card.
    pub permanent_mac: [u8; 6],
    /// Largest payload of a frame.
    pub mtu: u32,
    /// Speed in Mbit/s, 0 when not known.
    pub speed_mbps: u32,
    /// What the system calls it.
    pub system_name: String,
    /// One line about the card.
    pub description: String,
    /// Kind of connector.
    pub media: String,
}

impl InterfaceData {
    /// The form in which protocols see it; it borrows the texts of `self`.
    #[must_use]
    pub fn as_abi(&self) -> InterfaceInfo {
        InterfaceInfo {
            size: size_of::<InterfaceInfo>() as u32,
            flags: self.flags,
            mac: self.mac,
            permanent_mac: self.permanent_mac,
            mtu: self.mtu,
            speed_mbps: self.speed_mbps,
            reserved: 0,
            system_name: Bytes::borrow(self.system_name.as_bytes()),
            description: Bytes::borrow(self.description.as_bytes()),
            media: Bytes::borrow(self.media.as_bytes()),
        }
    }

    /// The address in use.
    #[must_use]
    pub fn mac(&self) -> Mac {
        Mac(self.mac)
    }

    /// There is a carrier.
    #[must_use]
    pub fn link(&self) -> bool {
        self.flags & IF_LINK_UP != 0
    }

    /// Copies the data into what control clients see.
    pub fn fill(&self, report: &mut ctl::Interface) {
        report.system_name.clone_from(&self.system_name);
        report.description.clone_from(&self.description);
        report.media.clone_from(&self.media);
        report.mac = Mac(self.mac);
        report.permanent_mac = Mac(self.permanent_mac);
        report.mtu = self.mtu;
        report.speed_mbps = Some(self.speed_mbps).filter(|speed| *speed > 0);
        report.full_duplex = self.flags & IF_FULL_DUPLEX != 0;
        report.link = self.link();
        report.promiscuous = self.flags & IF_PROMISCUOUS != 0;
        report.multicast = self.flags & IF_MULTICAST != 0;
    }
}
