//! How many sockets of each kind there may be: shares of the descriptors that io-pkt may open, which it shares with its
//! drivers. Nobody alone, neither a node nor a user, gets so many that there are none for others.

use nix::sys::resource::{Resource, getrlimit};

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Sockets to channels of this node; beyond, connecting ends with `EAGAIN`.
    pub(super) channels: usize,
    /// Of these, for the processes of one node.
    pub(super) channels_of_node: usize,
    /// Programs at `qnet.sock`; beyond, new ones are turned away.
    pub(super) clients: usize,
    /// Of these, programs of one user other than the node's owner.
    pub(super) clients_of_user: usize,
}

impl Shares {
    /// Of the descriptors that this process may open.
    pub(super) fn of_this_process() -> Self {
        // The kernel's own default, where it tells nothing.
        Self::of(getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft))
    }

    fn of(descriptors: u64) -> Self {
        let part = |of: u64| usize::try_from(descriptors / of).unwrap_or(usize::MAX);
        Self { channels: part(2), channels_of_node: part(4), clients: part(4), clients_of_user: part(8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_descriptors_is_nobodys() {
        for descriptors in [64, 1024, 16 * 1024, 1 << 40] {
            let Shares { channels, channels_of_node, clients, clients_of_user } = Shares::of(descriptors);
            assert!(channels as u64 + clients as u64 <= descriptors / 4 * 3);
            assert!(channels_of_node < channels && clients_of_user < clients);
        }
    }
}
