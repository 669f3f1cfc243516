//! Names and numbers of nodes as QNX's calls have them: `netmgr_strtond` and its sisters, for the node that this process
//! belongs to ([`calls::root`]).
//!
//! A descriptor (`nd`) is this node's own number for another one: ask for it, use it at once in an attach, and forget it. While
//! a connection to the node exists the number is kept for it; afterwards another node may get it. To tell somebody on
//! another node which node is meant, tell its name, or translate the number with [`remote_nd`].

use super::Netmgr;
use crate::{Error, LOCAL_NODE, calls};

/// `ND2S_*`: what [`ndtostr`] writes. Each piece may be shown, hidden, or left to the rules in `docs/messages.md`.
pub mod nd2s {
    /// `ND2S_DIR_SHOW`: a path to the node's root, which ends in a slash.
    pub const DIR_SHOW: u32 = 0x1;
    /// `ND2S_DIR_HIDE`
    pub const DIR_HIDE: u32 = 0x2;
    /// `ND2S_QOS_SHOW`
    pub const QOS_SHOW: u32 = 0x4;
    /// `ND2S_QOS_HIDE`
    pub const QOS_HIDE: u32 = 0x8;
    /// `ND2S_NAME_SHOW`
    pub const NAME_SHOW: u32 = 0x10;
    /// `ND2S_NAME_HIDE`
    pub const NAME_HIDE: u32 = 0x20;
    /// `ND2S_DOMAIN_SHOW`
    pub const DOMAIN_SHOW: u32 = 0x40;
    /// `ND2S_DOMAIN_HIDE`
    pub const DOMAIN_HIDE: u32 = 0x80;
    /// `ND2S_LOCAL_STR`: the short form, for display on this node.
    pub const LOCAL_STR: u32 = 0x1000;
    /// `ND2S_SEP_FORCE`: the separator also before the first piece.
    pub const SEP_FORCE: u32 = 0x2000;
}

/// The part of a descriptor that names the node; what lies above names a quality of service.
const NODE_MASK: u32 = 0xffff;

fn netmgr() -> Result<Netmgr, Error> {
    Netmgr::attach(calls::root()?)
}

/// The descriptor of the node that a text begins with (`joseph`, `joseph.lab.example`, `/net/joseph/dev/ser1`, each with `~qos`
/// behind the name if wanted), and how many bytes of the text name it. The node is looked for on the network when it is not
/// known yet.
///
/// # Errors
/// `ENOENT`: no node answers to the name. `EINVAL`: no such quality of service. `ENOTSUP`: the node runs no Qnet.
#[doc(alias = "netmgr_strtond")]
pub fn strtond(text: &str) -> Result<(u32, usize), Error> {
    netmgr()?.strtond_used(text)
}

/// The text for a descriptor, by [`nd2s`]; with no flag it is a name that any other node understands.
///
/// # Errors
/// `ENOENT`: the descriptor names no node. `ENOTSUP`: the node runs no Qnet; then only the path to its own root is
/// known, `/`.
#[doc(alias = "netmgr_ndtostr")]
pub fn ndtostr(flags: u32, nd: u32) -> Result<String, Error> {
    match netmgr() {
        Ok(netmgr) => netmgr.ndtostr(flags, nd),
        Err(Error::Errno(libc::ENOTSUP)) if node_cmp(nd, LOCAL_NODE) == 0 && is_root_path(flags) => {
            Ok("/".to_owned())
        }
        Err(error) => Err(error),
    }
}

/// Whether the flags ask for the path to a node's root and for no piece that only Qnet knows.
fn is_root_path(flags: u32) -> bool {
    flags & nd2s::DIR_SHOW != 0 && flags & (nd2s::NAME_SHOW | nd2s::DOMAIN_SHOW | nd2s::QOS_SHOW) == 0
}

/// The descriptor by which node `remote` knows the node that is `local` here; both are descriptors of this node.
///
/// # Errors
/// `ENOENT`: one of them does not know the other. `EHOSTUNREACH`, `EHOSTDOWN`: `remote` is not reached. `ENOTSUP`: the node
/// runs no Qnet, and the answer is not plain without it.
#[doc(alias = "netmgr_remote_nd")]
pub fn remote_nd(remote: u32, local: u32) -> Result<u32, Error> {
    if node_cmp(remote, LOCAL_NODE) == 0 {
        return Ok(local);
    }
    if node_cmp(remote, local) == 0 {
        return Ok(LOCAL_NODE);
    }
    netmgr()?.remote_nd(remote, local)
}

/// The path of `suffix` on the node that `network` names: `joseph` and `/dev/ser1` give `/net/joseph.lab.example/dev/ser1`.
///
/// # Errors
/// As [`strtond`].
#[doc(alias = "netmgr_path")]
pub fn path(network: &str, suffix: &str) -> Result<String, Error> {
    let netmgr = netmgr()?;
    let nd = netmgr.strtond(network)?;
    let root = netmgr.ndtostr(nd2s::DIR_SHOW, nd)?;
    Ok(join(&root, suffix))
}

/// A path below a directory whose own ends in a slash.
fn join(root: &str, suffix: &str) -> String {
    [root, suffix.trim_start_matches('/')].concat()
}

/// Compares the nodes that two descriptors name, whatever their quality of service: negative, 0 or positive.
#[doc(alias = "ND_NODE_CMP")]
#[must_use]
pub const fn node_cmp(a: u32, b: u32) -> i32 {
    (a & NODE_MASK) as i32 - (b & NODE_MASK) as i32
}

/// Sends a signal, in this system's numbers, to a process of another node as QNX does: success means that it is on its way.
/// [`crate::signal_kill`] tells what came of it.
///
/// # Errors
/// `EHOSTUNREACH`: no such node. `EINVAL`: a signal that QNX has not, or this node. `ENOTSUP`: the node runs no Qnet.
#[doc(alias = "SignalKill")]
pub fn signal(nd: u32, pid: i32, tid: i32, signo: i32, code: i32, value: i32) -> Result<(), Error> {
    netmgr()?.signal(nd, (pid, tid), signo, (code, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_compare_by_their_lower_half_and_sort() {
        for (a, b, order) in [
            (0, 0, 0),
            (5, 5, 0),
            (0x1_0005, 5, 0),
            (0xffff_0005, 0x1_0005, 0),
            (4, 5, -1),
            (0x7_0004, 5, -1),
            (6, 0x7_0005, 1),
            (0xffff, 0, 1),
            (0, 0xffff, -1),
        ] {
            assert_eq!(node_cmp(a, b).signum(), order, "{a:#x} {b:#x}");
        }
    }

    #[test]
    fn a_path_has_one_slash_between_node_and_suffix() {
        for (root, suffix, want) in [
            ("/net/joseph/", "/dev/ser1", "/net/joseph/dev/ser1"),
            ("/net/joseph/", "dev/ser1", "/net/joseph/dev/ser1"),
            ("/net/joseph/", "", "/net/joseph/"),
            ("/", "/dev", "/dev"),
        ] {
            assert_eq!(join(root, suffix), want);
        }
    }

    #[test]
    fn without_qnet_the_own_root_is_all_that_is_known() {
        for (flags, known) in [
            (nd2s::DIR_SHOW, true),
            (nd2s::DIR_SHOW | nd2s::QOS_HIDE, true),
            (0, false),
            (nd2s::DIR_SHOW | nd2s::NAME_SHOW, false),
            (nd2s::LOCAL_STR, false),
        ] {
            assert_eq!(is_root_path(flags), known, "{flags:#x}");
        }
    }
}
