//! Changing a Linux interface: on and off, payload size, address. Each call is one `ioctl` on a throw-away socket and
//! needs CAP_NET_ADMIN in the interface's network namespace.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::Mac;

/// Switches the interface on or off.
///
/// # Errors
/// What the kernel says: ENODEV, EPERM, or the card's refusal.
pub fn set_up(name: &str, up: bool) -> io::Result<()> {
    let mut request = named(name)?;
    ioctl(libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: SIOCGIFFLAGS filled in this member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let bit = libc::IFF_UP as libc::c_short;
    request.ifr_ifru.ifru_flags = if up { flags | bit } else { flags & !bit };
    ioctl(libc::SIOCSIFFLAGS, &mut request)
}

/// Sets the largest payload in bytes.
///
/// # Errors
/// What the kernel says; EINVAL when the interface cannot carry that much.
pub fn set_mtu(name: &str, mtu: u32) -> io::Result<()> {
    let mut request = named(name)?;
    request.ifr_ifru.ifru_mtu = i32::try_from(mtu).map_err(|_| io::ErrorKind::InvalidInput)?;
    ioctl(libc::SIOCSIFMTU, &mut request)
}

/// Gives the interface another address. An interface that cannot change it while it is on is switched off and on
/// again, which drops its routes, as `ip link set … address` would make the user do.
///
/// # Errors
/// What the kernel says.
pub fn set_mac(name: &str, mac: Mac) -> io::Result<()> {
    match try_set_mac(name, mac) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            set_up(name, false)?;
            let outcome = try_set_mac(name, mac);
            set_up(name, true)?;
            outcome
        }
        outcome => outcome,
    }
}

fn try_set_mac(name: &str, mac: Mac) -> io::Result<()> {
    let mut request = named(name)?;
    let mut data = [0; 14];
    for (to, from) in data.iter_mut().zip(mac.0) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = libc::sockaddr { sa_family: libc::ARPHRD_ETHER, sa_data: data };
    ioctl(libc::SIOCSIFHWADDR, &mut request)
}

/// A request about the interface of this name (not an alternative one: they do not fit).
fn named(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays NUL.
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn ioctl(number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    let socket: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the descriptor is open, and these requests read and write one `ifreq`, which we borrow exclusively.
    let outcome = unsafe { libc::ioctl(socket.as_raw_fd(), number, request) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
