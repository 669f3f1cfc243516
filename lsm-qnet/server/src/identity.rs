//! Becoming the caller.
//!
//! Every thread that serves requests has a [`Switcher`]. Before a request it makes the thread the mapped
//! caller: effective user and group (file access follows them), supplementary groups, and no effective
//! capability, unless the caller is mapped to uid 0. The effective ids are changed, and not only those
//! for file access, because parts of the kernel such as `/proc/sys` look at the effective user. (The
//! price: processes of that user on this machine may set a worker's nice value while it acts for them.)
//! Every change is read back; what is not exactly as wanted is an error and nothing is served.
//!
//! A process without the right to change (rootless, `setgroups` denied, the uid not mapped in its user
//! namespace) serves only callers mapped to its own user: whoever started Qnet asked for that with
//! `mapany=<own uid>`.

use nix::errno::Errno;
use thiserror::Error;

use crate::sys::{self, CAP_SETGID, CAP_SETUID, Capabilities, ThreadIdentity};

/// User and group of a caller about whom nothing is known.
pub const NOBODY: u32 = 65534;

/// Whom a connection acts as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
}

impl Identity {
    /// An identity from a caller's effective ids.
    #[must_use]
    pub fn new(uid: u32, gid: u32, mut groups: Vec<u32>) -> Self {
        groups.sort_unstable();
        groups.dedup();
        Self { uid, gid, groups }
    }

    /// `nobody`, without groups.
    #[must_use]
    pub fn nobody() -> Self {
        Self::new(NOBODY, NOBODY, Vec::new())
    }

    /// The thread that acts as this identity and nothing else.
    fn matches(&self, thread: &ThreadIdentity) -> bool {
        (thread.euid, thread.fsuid) == (self.uid, self.uid)
            && (thread.egid, thread.fsgid) == (self.gid, self.gid)
            && thread.groups == self.groups
    }
}

/// Why a thread did not become a caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SwitchError {
    /// The process may not change its identity.
    #[error(
        "this process (uid {own}, gid {gid}) may not become another user: {why}; \
         mapany={own} serves remote callers as uid {own}"
    )]
    NotAllowed {
        /// Its own user.
        own: u32,
        /// Its own group.
        gid: u32,
        /// What it lacks.
        why: &'static str,
    },
    /// The kernel refused a step.
    #[error(
        "cannot set {what}: {errno}; is the id mapped in this user namespace? mapany={own} serves remote callers as uid {own}"
    )]
    Refused {
        /// The step.
        what: &'static str,
        /// The kernel's error.
        errno: Errno,
        /// The process's own user.
        own: u32,
    },
    /// The kernel reported success, but the thread is somebody else.
    #[error("after the change the thread is {found:?}; mapany={own} serves remote callers as uid {own}")]
    Mismatch {
        /// Who it is.
        found: Box<ThreadIdentity>,
        /// The process's own user.
        own: u32,
    },
}

/// Changes the identity of the thread that made it.
#[derive(Debug)]
pub struct Switcher {
    own: ThreadIdentity,
    caps: Capabilities,
    /// What the process lacks to become somebody else.
    lacks: Option<&'static str>,
    /// Whom the thread is now; `None` when a change failed half-way.
    current: Option<Identity>,
}

impl Switcher {
    /// For the calling thread. `own` is the process's identity before any thread changed its own.
    ///
    /// # Errors
    /// The thread's capabilities cannot be read.
    pub fn new(own: ThreadIdentity) -> Result<Self, Errno> {
        let caps = sys::capabilities()?;
        let lacks = if caps.permitted & CAP_SETUID == 0 {
            Some("no CAP_SETUID")
        } else if caps.permitted & CAP_SETGID == 0 {
            Some("no CAP_SETGID")
        } else if setgroups_denied() {
            Some("its user namespace denies setgroups")
        } else {
            None
        };
        Ok(Self { own, caps, lacks, current: None })
    }

    /// Makes the calling thread act as `wanted`.
    ///
    /// # Errors
    /// The thread is not `wanted` and must not serve it. A later call may succeed for another identity.
    pub fn become_identity(&mut self, wanted: &Identity) -> Result<(), SwitchError> {
        if self.current.as_ref() == Some(wanted) {
            return Ok(());
        }
        if let Some(why) = self.lacks {
            let own = self.own.euid;
            if (wanted.uid, wanted.gid) != (own, self.own.egid) {
                return Err(SwitchError::NotAllowed { own, gid: self.own.egid, why });
            }
            // The groups are left as they are: the caller is served as this process is, but for capabilities that somebody
            // gave it beside (ambient ones of a service): no user has those by being who he is.
            let effective = if own == 0 { self.caps.effective } else { 0 };
            let caps = Capabilities { effective, ..self.caps };
            let refused = |errno| SwitchError::Refused { what: "capabilities", errno, own };
            sys::set_capabilities(caps).map_err(refused)?;
            self.current = Some(wanted.clone());
            return Ok(());
        }
        self.current = None;
        self.change(wanted)?;
        self.current = Some(wanted.clone());
        Ok(())
    }

    fn change(&self, wanted: &Identity) -> Result<(), SwitchError> {
        let own = self.own.euid;
        let step = |what, result: Result<(), Errno>| {
            result.map_err(|errno| SwitchError::Refused { what, errno, own })
        };
        // Root's threads lose their effective capabilities when they leave uid 0.
        let full = Capabilities { effective: self.caps.permitted, ..self.caps };
        step("capabilities", sys::set_capabilities(full))?;
        step("supplementary groups", sys::set_thread_groups(&wanted.groups))?;
        step("group", sys::set_thread_egid(wanted.gid))?;
        step("user", sys::set_thread_euid(wanted.uid))?;
        let effective = if wanted.uid == 0 { self.caps.permitted } else { 0 };
        let caps = Capabilities { effective, ..self.caps };
        step("capabilities", sys::set_capabilities(caps))?;
        self.verify(wanted, caps)
    }

    fn verify(&self, wanted: &Identity, caps: Capabilities) -> Result<(), SwitchError> {
        let own = self.own.euid;
        let refused = |what, errno| SwitchError::Refused { what, errno, own };
        let found = sys::thread_identity().map_err(|errno| refused("identity", errno))?;
        if !wanted.matches(&found) {
            return Err(SwitchError::Mismatch { found: Box::new(found), own });
        }
        match sys::capabilities() {
            Ok(now) if now == caps => Ok(()),
            Ok(_) => Err(refused("capabilities", Errno::EPERM)),
            Err(errno) => Err(refused("capabilities", errno)),
        }
    }
}

/// In a user namespace made without privilege `setgroups` is switched off for good.
fn setgroups_denied() -> bool {
    std::fs::read("/proc/self/setgroups").is_ok_and(|text| text.starts_with(b"deny"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `test` in a thread whose identity may be spoilt.
    fn in_thread(test: impl FnOnce() + Send + 'static) {
        std::thread::spawn(test).join().unwrap();
    }

    #[test]
    fn own_identity_is_always_served() {
        in_thread(|| {
            let own = sys::thread_identity().unwrap();
            let wanted = Identity::new(own.euid, own.egid, own.groups.clone());
            let mut switcher = Switcher::new(own).unwrap();
            switcher.become_identity(&wanted).unwrap();
            switcher.become_identity(&wanted).unwrap();
        });
    }

    #[test]
    fn who_cannot_become_others_serves_without_capabilities_that_its_user_has_not() {
        in_thread(|| {
            let own = sys::thread_identity().unwrap();
            if own.euid == 0 && !setgroups_denied() {
                // as a service is that runs as a user, with ambient capabilities
                Switcher::new(own).unwrap().become_identity(&Identity::new(NOBODY, NOBODY, vec![])).unwrap();
                let caps = sys::capabilities().unwrap();
                assert_ne!(caps.permitted, 0);
                sys::set_capabilities(Capabilities { effective: caps.permitted, ..caps }).unwrap();
            }
            let own = sys::thread_identity().unwrap();
            let wanted = Identity::new(own.euid, own.egid, own.groups.clone());
            let before = sys::capabilities().unwrap().effective;
            let kept = if own.euid == 0 { before } else { 0 };
            let mut switcher = Switcher { lacks: Some("no CAP_SETUID"), ..Switcher::new(own).unwrap() };
            switcher.become_identity(&wanted).unwrap();
            assert_eq!(sys::capabilities().unwrap().effective, kept);
            let other = Identity::new(wanted.uid + 1, wanted.gid, vec![]);
            assert!(switcher.become_identity(&other).is_err());
        });
    }

    #[test]
    fn another_thread_keeps_its_identity() {
        let before = sys::thread_identity().unwrap();
        let own = before.clone();
        in_thread(move || {
            let privileged = own.euid == 0;
            let mut switcher = Switcher::new(own).unwrap();
            let result = switcher.become_identity(&Identity::new(NOBODY, NOBODY, vec![7, 7, 5]));
            if privileged && switcher.lacks.is_none() {
                result.unwrap();
                let now = sys::thread_identity().unwrap();
                assert_eq!((now.euid, now.fsuid, now.fsgid), (NOBODY, NOBODY, NOBODY));
                assert_eq!(now.groups, [5, 7]);
                assert_eq!(sys::capabilities().unwrap().effective, 0);
                // and back, with everything
                switcher.become_identity(&Identity::new(0, 0, vec![])).unwrap();
                let caps = sys::capabilities().unwrap();
                assert_eq!(caps.effective, caps.permitted);
            } else {
                let error = result.unwrap_err();
                assert!(error.to_string().contains("mapany="), "{error}");
            }
        });
        assert_eq!(sys::thread_identity().unwrap(), before);
    }
}
