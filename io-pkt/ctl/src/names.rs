//! Names that tools and the daemon share: mount types, device files, and what a user may call an interface.
//!
//! A device file is one line, so that `cat` shows it and `umount` learns from it which instance to ask:
//!
//! ```text
//! instance=0 pid=4242 driver=devn-packet mac=02:00:00:00:00:01 device=eth1
//! ```
//!
//! `device` comes last because it may contain blanks (`/tmp/my segment`).

use std::{fmt, path::Path, str::FromStr};

use crate::report::Mac;

/// Content of `/dev/io-net/enN` (and of `/dev/io-net/bridge0`, where `mac` is zero and `device` empty).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFile {
    /// Instance that made it.
    pub instance: u32,
    /// Process that made it.
    pub pid: u32,
    /// Module name of the driver or protocol.
    pub driver: String,
    /// Ethernet address in use.
    pub mac: Mac,
    /// What the system calls the device (`eth1`).
    pub device: String,
}

impl fmt::Display for DeviceFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { instance, pid, driver, mac, device } = self;
        let device: String = device.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        writeln!(f, "instance={instance} pid={pid} driver={driver} mac={mac} device={device}")
    }
}

impl FromStr for DeviceFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let line = text.lines().next().unwrap_or_default();
        let (head, device) = line.split_once(" device=").ok_or("no field `device`")?;
        let field = |name: &str| {
            head.split(' ')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(|| format!("no field `{name}`"))
        };
        let number = |name: &str| field(name)?.parse().map_err(|e| format!("field `{name}`: {e}"));
        Ok(Self {
            instance: number("instance")?,
            pid: number("pid")?,
            driver: field("driver")?.to_owned(),
            mac: field("mac")?.parse()?,
            device: device.to_owned(),
        })
    }
}

/// A type that `mount -T` was given and that means io-pkt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountType {
    /// The instance it names: 0 for `io-pkt` and the old `io-net`, N for `io-pktN`.
    pub instance: u32,
}

impl MountType {
    /// Reads a type; `None` when it belongs to somebody else (`ext4`).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "io-net" {
            return Some(Self { instance: 0 });
        }
        let digits = text.strip_prefix("io-pkt")?;
        if digits.is_empty() {
            return Some(Self { instance: 0 });
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().map(|instance| Self { instance })
    }
}

/// What a user typed for an interface or a use, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The last part: `en0` of `/dev/io-net/en0`, otherwise the text itself.
    pub name: &'a str,
    /// True when it was a path in a device directory.
    pub is_path: bool,
}

impl<'a> Target<'a> {
    /// Takes `text` apart. `devices` is the node's device directory; `/dev/io-net` is understood as well, because
    /// that is what users type.
    #[must_use]
    pub fn parse(text: &'a str, devices: &Path) -> Self {
        let path = Path::new(text);
        let inside = path.parent().is_some_and(|dir| dir == devices || dir == Path::new("/dev/io-net"));
        match path.file_name().and_then(|name| name.to_str()) {
            Some(name) if inside => Self { name, is_path: true },
            _ => Self { name: text, is_path: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_file_survives_writing_and_reading() {
        let file = DeviceFile {
            instance: 1,
            pid: 42,
            driver: "devn-segment".into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            device: "/tmp/my device=x".into(),
        };
        let text = file.to_string();
        assert_eq!(text.matches('\n').count(), 1);
        assert_eq!(text.parse::<DeviceFile>(), Ok(file));
    }

    #[test]
    fn control_characters_cannot_forge_a_second_line() {
        let file = DeviceFile {
            instance: 0,
            pid: 1,
            driver: "x".into(),
            mac: Mac::default(),
            device: "a\nb".into(),
        };
        assert_eq!(file.to_string().lines().count(), 1);
    }

    #[test]
    fn a_foreign_file_is_refused_with_the_missing_field() {
        assert_eq!("hello".parse::<DeviceFile>(), Err("no field `device`".into()));
        assert_eq!("pid=1 device=x".parse::<DeviceFile>(), Err("no field `instance`".into()));
        assert!("instance=0 pid=-3 driver=d mac=02:00:00:00:00:01 device=x".parse::<DeviceFile>().is_err());
    }

    #[test]
    fn mount_types_name_their_instance() {
        assert_eq!(MountType::parse("io-pkt"), Some(MountType { instance: 0 }));
        assert_eq!(MountType::parse("io-net"), Some(MountType { instance: 0 }));
        assert_eq!(MountType::parse("io-pkt12"), Some(MountType { instance: 12 }));
        for foreign in ["ext4", "io-pktx", "io-pkt+1", "io-pkt-v4", "io-net1", "", "io-pkt99999999999"] {
            assert_eq!(MountType::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn targets_are_recognised_in_all_three_forms() {
        let devices = Path::new("/tmp/r/dev/io-net");
        assert_eq!(Target::parse("en0", devices), Target { name: "en0", is_path: false });
        assert_eq!(Target::parse("/dev/io-net/en0", devices), Target { name: "en0", is_path: true });
        assert_eq!(Target::parse("/tmp/r/dev/io-net/en1", devices), Target { name: "en1", is_path: true });
        assert_eq!(Target::parse("/tmp/seg", devices), Target { name: "/tmp/seg", is_path: false });
    }
}
