//! Looking at shared memory instead of being woken for each packet.
//!
//! A bell costs `lsm-qnet` one system call and us three. So an event loop that spins anyway looks by itself, and asks for
//! the bell only before it sleeps.

use qnet_ipc::ClientPeer;

use super::Link;

impl Link {
    /// The owner looks by itself whether packets are there ([`Self::has_packets`]), says so when the descriptor is ready
    /// ([`Self::is_ready`]), and asks to be woken before it sleeps ([`Self::arm`]).
    pub fn attend(&mut self) {
        self.attended = true;
        if let Some(peer) = &mut self.peer {
            peer.set_attended(true);
        }
    }

    /// Whether packets are there, as far as can be seen without a system call.
    pub fn has_packets(&self) -> bool {
        self.peer.as_ref().is_some_and(ClientPeer::has_packets)
    }

    /// The descriptor is ready.
    pub fn is_ready(&self) {
        if let Some(peer) = &self.peer {
            peer.socket_is_ready();
        }
    }

    /// Asks to be woken by the descriptor; `false`: packets are there already.
    pub fn arm(&self) -> bool {
        self.peer.as_ref().is_none_or(ClientPeer::arm)
    }

    /// Looks by itself again.
    pub fn disarm(&self) {
        if let Some(peer) = &self.peer {
            peer.disarm();
        }
    }
}
