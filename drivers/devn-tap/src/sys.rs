//! System calls of the driver: the TUN/TAP device. All unsafe code of this crate is here.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
};

const DEVICE: &str = "/dev/net/tun";

/// One end of a TAP: what Linux sends into the interface is read here, what is written here Linux receives.
#[derive(Debug)]
pub(crate) struct TapFd {
    file: OwnedFd,
    name: String,
}

impl AsFd for TapFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl TapFd {
    /// Creates the interface, or attaches to one that is there. An empty name lets the kernel choose.
    ///
    /// Frames come and go without a header in front, whole: the kernel cuts super-frames and completes checksums itself.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN (unless the interface was made for this user), EBUSY when another program holds it,
    /// EINVAL when the name is that of another kind of interface, ENOENT without the device.
    pub(crate) fn attach(name: &str) -> io::Result<Self> {
        let file: File =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
        // SAFETY: `ifreq` is plain data, for which all zeroes is a value.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        if name.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the descriptor is open; this request reads and writes one `ifreq`, which we own.
        let outcome = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if outcome < 0 {
            return Err(io::Error::last_os_error());
        }
        let chosen = request.ifr_name.iter().take_while(|letter| **letter != 0).map(|letter| *letter as u8);
        Ok(Self {
            file: file.into(),
            name: String::from_utf8_lossy(&chosen.collect::<Vec<_>>()).into_owned(),
        })
    }

    /// Name of the Linux interface.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Lets the interface outlive this descriptor, or not.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_persistent(&self, persistent: bool) -> io::Result<()> {
        // SAFETY: the descriptor is open; this request takes a number.
        let outcome = unsafe {
            libc::ioctl(self.file.as_raw_fd(), libc::TUNSETPERSIST, libc::c_ulong::from(persistent))
        };
        if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
