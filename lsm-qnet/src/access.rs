//! Who a caller from another node becomes here, and what it may do.
//!
//! DEVIATION: QNX believes every identity that comes by wire. Here, with nothing configured, every remote caller is
//! `nobody` and may list and read what nobody may. `mapany=`, `maproot=` and `allow=` open more:
//!
//! | option | root of another node | other users | what they may do |
//! |---|---|---|---|
//! | none | nobody | nobody | read |
//! | `mapany=UID` | UID | UID | all that UID may |
//! | `mapany=off` | root | the same uid here | all that they may: QNX's behaviour |
//! | `maproot=UID` | UID, all that it may | as without, or as `mapany=` says | |
//! | `allow=write:exec:signal:connect` | | | what nobody may do beside reading |
//!
//! The group of a mapped caller is the one of the user that it becomes, with that user's supplementary groups.

use std::ffi::CString;

use io_pkt_sdk::Error;
use nix::unistd::{Gid, Uid, User, getgrouplist};
use qnet_ipc::Claim;
use qnet_proto::ClientInfo;

/// The user who owns nothing.
const NOBODY: u32 = 65534;

/// What a remote caller may do beside listing and reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Change files.
    pub write: bool,
    /// Start programs.
    pub exec: bool,
    /// Send signals.
    pub signal: bool,
    /// Connect to channels other than the node's own server.
    pub connect: bool,
}

impl Rights {
    const ALL: Self = Self { write: true, exec: true, signal: true, connect: true };

    /// As flags of a local `Connect`.
    #[must_use]
    pub fn flags(self) -> u32 {
        use qnet_ipc::packet::right;
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        flag(self.write, right::WRITE) | flag(self.exec, right::EXEC) | flag(self.signal, right::SIGNAL)
    }
}

/// What `mapany=` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Any {
    Nobody,
    Uid(u32),
    AsIs,
}

/// The rules; see the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    any: Any,
    root: Option<u32>,
    allow: Rights,
}

impl Access {
    /// Reads the options.
    ///
    /// # Errors
    /// `EINVAL` with the option, the value and what is accepted.
    pub fn new(mapany: Option<&str>, maproot: Option<&str>, allow: Option<&str>) -> Result<Self, Error> {
        let uid = |option: &str, value: &str, accepted: &str| {
            let sentence = || format!("{option}={value}: {accepted} is expected");
            value
                .parse::<u32>()
                .ok()
                .filter(|uid| *uid != u32::MAX)
                .ok_or_else(|| Error::new(libc::EINVAL, sentence()))
        };
        let any = match mapany {
            None => Any::Nobody,
            Some("off") => Any::AsIs,
            Some(value) => Any::Uid(uid("mapany", value, "a user id or `off`")?),
        };
        let root = maproot.map(|value| uid("maproot", value, "a user id")).transpose()?;
        let mut rights = Rights::default();
        let words = allow.into_iter().flat_map(|text| text.split(':').map(move |word| (text, word)));
        for (text, word) in words {
            match word {
                "write" => rights.write = true,
                "exec" => rights.exec = true,
                "signal" => rights.signal = true,
                "connect" => rights.connect = true,
                _ => {
                    let sentence = format!(
                        "allow={text}: `{word}` is not known; write, exec, signal and connect are, joined by `:`"
                    );
                    return Err(Error::new(libc::EINVAL, sentence));
                }
            }
        }
        Ok(Self { any, root, allow: rights })
    }

    /// The identity and the rights of a caller that calls itself `caller` (`None`: its node did not say).
    #[must_use]
    pub fn map(&self, caller: Option<&ClientInfo>) -> (Claim, Rights) {
        let nobody = || (Claim::user(NOBODY, NOBODY, Vec::new()), self.allow);
        let Some(info) = caller else { return nobody() };
        let (mut claim, rights) = match (self.root, self.any) {
            (Some(uid), _) if info.euid == 0 => (user(uid), Rights::ALL),
            (_, Any::Uid(uid)) => (user(uid), Rights::ALL),
            (_, Any::AsIs) => (as_is(info), Rights::ALL),
            (_, Any::Nobody) => nobody(),
        };
        claim.nd = info.nd;
        claim.pid = info.pid;
        claim.sid = info.sid;
        (claim, rights)
    }

    /// Who is let in, for the log.
    #[must_use]
    pub fn sentence(&self) -> String {
        let others = match self.any {
            Any::Nobody => {
                let mut may = String::from("read");
                let allow = self.allow;
                for (set, word) in [
                    (allow.write, "write"),
                    (allow.exec, "exec"),
                    (allow.signal, "signal"),
                    (allow.connect, "connect"),
                ] {
                    if set {
                        may.push_str(", ");
                        may.push_str(word);
                    }
                }
                format!("every caller from another node is nobody and may {may}")
            }
            Any::Uid(uid) => format!("every caller from another node becomes uid {uid}"),
            Any::AsIs => {
                "callers from other nodes keep their uid: every node on this wire is trusted".to_owned()
            }
        };
        match self.root {
            None => others,
            Some(uid) => format!("{others}, but root becomes uid {uid}"),
        }
    }
}

/// The identity of a user of this machine.
fn user(uid: u32) -> Claim {
    // An id without an account has the group of the same number, as QNX does it.
    let Ok(Some(account)) = User::from_uid(Uid::from_raw(uid)) else {
        return Claim::user(uid, uid, Vec::new());
    };
    let gid = account.gid;
    let groups = CString::new(account.name)
        .ok()
        .and_then(|name| getgrouplist(&name, gid).ok())
        .unwrap_or_default()
        .into_iter()
        .map(Gid::as_raw)
        .filter(|group| *group != gid.as_raw())
        .take(qnet_ipc::MAX_GROUPS)
        .collect();
    Claim::user(uid, gid.as_raw(), groups)
}

/// What the caller says of itself.
fn as_is(info: &ClientInfo) -> Claim {
    Claim {
        ruid: info.ruid.cast_unsigned(),
        euid: info.euid.cast_unsigned(),
        suid: info.suid.cast_unsigned(),
        rgid: info.rgid.cast_unsigned(),
        egid: info.egid.cast_unsigned(),
        sgid: info.sgid.cast_unsigned(),
        groups: info.groups.iter().map(|gid| gid.cast_unsigned()).take(qnet_ipc::MAX_GROUPS).collect(),
        ..Claim::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(uid: i32) -> ClientInfo {
        let ids = ClientInfo {
            ruid: uid,
            euid: uid,
            suid: uid,
            rgid: uid,
            egid: uid,
            sgid: uid,
            ..ClientInfo::default()
        };
        ClientInfo { nd: 3, pid: 77, sid: 70, groups: vec![4, 24], ..ids }
    }

    fn access(mapany: Option<&str>, maproot: Option<&str>, allow: Option<&str>) -> Access {
        Access::new(mapany, maproot, allow).unwrap()
    }

    fn euid(access: &Access, uid: i32) -> u32 {
        access.map(Some(&caller(uid))).0.euid
    }

    #[test]
    fn without_options_everybody_is_nobody_and_may_only_read() {
        let access = access(None, None, None);
        for uid in [0, 1000, -1] {
            let (claim, rights) = access.map(Some(&caller(uid)));
            assert_eq!((claim.euid, claim.ruid, claim.egid, claim.groups.len()), (NOBODY, NOBODY, NOBODY, 0));
            assert_eq!(rights, Rights::default());
            assert_eq!((claim.nd, claim.pid, claim.sid), (3, 77, 70));
        }
        assert_eq!(access.map(None).0.euid, NOBODY);
    }

    #[test]
    fn mapany_maps_all_and_maproot_maps_root_alone() {
        assert_eq!(euid(&access(Some("1234567"), None, None), 0), 1_234_567);
        let root_only = access(None, Some("1234567"), None);
        assert_eq!((euid(&root_only, 0), euid(&root_only, 1000)), (1_234_567, NOBODY));
        assert_eq!(root_only.map(Some(&caller(0))).1, Rights::ALL);
        assert_eq!(root_only.map(Some(&caller(1))).1, Rights::default());
        let both = access(Some("5"), Some("6"), None);
        assert_eq!((euid(&both, 0), euid(&both, 1000)), (6, 5));
    }

    #[test]
    fn mapany_off_believes_what_the_wire_says() {
        let access = access(Some("off"), None, None);
        let (claim, rights) = access.map(Some(&caller(1000)));
        assert_eq!((claim.euid, claim.egid, claim.groups), (1000, 1000, vec![4, 24]));
        assert_eq!(rights, Rights::ALL);
        assert_eq!(access.map(None).0.euid, NOBODY, "no identity at all is still nobody");
    }

    #[test]
    fn allow_opens_single_doors_for_nobody() {
        let access = access(None, None, Some("write:connect"));
        let rights = access.map(Some(&caller(0))).1;
        assert_eq!(rights, Rights { write: true, connect: true, ..Rights::default() });
        assert!(access.sentence().ends_with("may read, write, connect"), "{}", access.sentence());
    }

    #[test]
    fn bad_values_are_named_with_what_is_accepted() {
        for (mapany, maproot, allow, start) in [
            (Some("bob"), None, None, "mapany=bob: a user id or `off`"),
            (None, Some("off"), None, "maproot=off: a user id"),
            (Some("4294967295"), None, None, "mapany=4294967295: "),
            (None, None, Some("write:all"), "allow=write:all: `all` is not known"),
            (None, None, Some("write:"), "allow=write:: `` is not known"),
        ] {
            let error = Access::new(mapany, maproot, allow).unwrap_err();
            assert!(error.text().starts_with(start), "{error}");
        }
    }
}
