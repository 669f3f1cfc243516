//! Programs and servers that spoke last through shared memory are looked at while the daemon is awake anyway.
//!
//! A peer that nobody attends to must ring with each packet, because the daemon might sleep: a system call for it, and two
//! for us. After a packet the engine therefore looks again and again, turn by turn, and asks for the bell only when
//! [`LOOKS`] turns in a row brought nothing. Stretches in which nobody spoke become rare: after one the next two packets
//! begin none, then four, up to 256. On a CPU that is busy with others' work a stretch ends at once: who sleeps gets the CPU back
//! sooner than who gives it away in each turn.

use super::{Engine, Token};

/// Turns in vain before the bell is asked for: with the `sched_yield` in each, about as long as the daemon's spin.
const LOOKS: u32 = 64;
/// Nanoseconds that a `sched_yield` takes at most on a CPU that has time for us.
const SLOW: u64 = 200_000;
/// Most peers that are looked at.
const MOST: usize = 8;
/// Packets that begin no stretch after the last of many in vain: two to this power.
const MAX_FAILURES: u32 = 8;

/// Who is looked at, and whether that pays.
#[derive(Debug, Default)]
pub(super) struct Attention {
    tokens: Vec<Token>,
    /// Turns since somebody spoke.
    vain: u32,
    /// Somebody spoke in this stretch.
    paid: bool,
    failures: u32,
    skip: u32,
}

impl Attention {
    /// Whether the next turn should come without sleep.
    pub(super) fn is_on(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether a peer that spoke is to be looked at from now on.
    fn begins(&mut self, token: Token) -> bool {
        self.vain = 0;
        if self.tokens.contains(&token) || self.tokens.len() == MOST {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.tokens.push(token);
        true
    }

    /// A turn in which nobody spoke; whether it was the last of the stretch.
    fn is_over(&mut self) -> bool {
        self.vain += 1;
        self.vain >= LOOKS
    }

    /// Ends the stretch; who was looked at.
    fn end(&mut self) -> Vec<Token> {
        self.failures = if self.paid { 0 } else { (self.failures + 1).min(MAX_FAILURES) };
        self.skip = if self.failures == 0 { 0 } else { 1 << self.failures };
        self.paid = false;
        self.vain = 0;
        std::mem::take(&mut self.tokens)
    }
}

impl Engine {
    /// A turn of the daemon: listens to those who speak through shared memory. Whether anybody did; while nobody does,
    /// [`Engine::has_more`] stays true for a short while.
    pub fn look(&mut self) -> bool {
        if self.look_again() {
            return true;
        }
        if self.attention.is_on() && self.attention.is_over() {
            self.rest();
        }
        false
    }

    /// The same in the same turn: those who had the CPU in between may have spoken.
    pub fn look_again(&mut self) -> bool {
        let tokens = self.attention.tokens.iter().copied();
        let speaking: Vec<Token> =
            tokens.filter(|token| self.has_packets(*token) && !self.is_clogged(*token)).collect();
        self.attention.paid |= !speaking.is_empty();
        for token in &speaking {
            self.read(*token);
        }
        !speaking.is_empty()
    }

    /// Between two looks the CPU was given to others, for so many nanoseconds.
    pub fn yielded(&mut self, nanos: u64) {
        if self.attention.is_on() && nanos > SLOW {
            self.attention.paid = false;
            self.rest();
        }
    }

    /// Whether the engine looks at shared memory turn by turn.
    #[must_use]
    pub fn is_attentive(&self) -> bool {
        self.attention.is_on()
    }

    /// A peer spoke through shared memory.
    pub(super) fn spoke(&mut self, token: Token) {
        if self.uses_ring(token) && self.attention.begins(token) {
            self.attend(token, true);
        }
    }

    /// Asks everybody for the bell.
    fn rest(&mut self) {
        for token in self.attention.end() {
            if !self.attend(token, false) {
                self.again.insert(token);
            }
        }
    }

    fn has_packets(&self, token: Token) -> bool {
        let client = self.clients.get(&token).map(|client| client.peer.has_packets());
        client.or_else(|| Some(self.channels.get(&token)?.peer.has_packets())).unwrap_or(false)
    }

    fn uses_ring(&self, token: Token) -> bool {
        let client = self.clients.get(&token).map(|client| client.peer.uses_ring());
        client.or_else(|| Some(self.channels.get(&token)?.peer.uses_ring())).unwrap_or(false)
    }

    /// Begins or ends to look at a peer; `false` when one that is not looked at any more has spoken meanwhile.
    fn attend(&mut self, token: Token, attended: bool) -> bool {
        if let Some(client) = self.clients.get_mut(&token) {
            client.peer.set_attended(attended);
            return attended || client.peer.arm();
        }
        let Some(channel) = self.channels.get_mut(&token) else { return true };
        channel.peer.set_attended(attended);
        attended || channel.peer.arm()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_in_vain_become_rare_and_come_back_when_one_pays() {
        let mut attention = Attention::default();
        let begun = (0..2560).filter(|_| {
            let begins = attention.begins(1);
            if begins {
                assert_eq!(attention.end(), [1]);
            }
            begins
        });
        let begun = begun.count();
        assert!((10..=20).contains(&begun), "{begun} stretches for 2560 packets");
        while !attention.begins(1) {}
        attention.paid = true;
        attention.end();
        assert!(attention.begins(1) && attention.is_on());
    }

    #[test]
    fn a_stretch_ends_after_so_many_turns_in_vain() {
        let mut attention = Attention::default();
        assert!(attention.begins(7));
        assert_eq!((1..).find(|_| attention.is_over()), Some(LOOKS));
        attention.begins(7);
        assert!(!attention.is_over(), "a packet begins the count anew");
    }
}
