//! Which bridge has which interfaces: none has two.
//!
//! Two bridges with a common port would send each frame that floods through both of them round and round. Protocols of
//! a daemon are made and destroyed on one thread, so what this thread knows is all there is to know.

use std::cell::RefCell;

use io_pkt_sdk::Error;

thread_local! {
    static TAKEN: RefCell<Vec<(String, Ports)>> = const { RefCell::new(Vec::new()) };
}

/// Names of interfaces; empty for all.
type Ports = Vec<String>;

/// The interfaces of one bridge. They are free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    bridge: String,
}

impl Share {
    /// Takes `ports` (empty: all) for the bridge of that name.
    ///
    /// # Errors
    /// `EBUSY` names the bridge that has one of them.
    pub(crate) fn take(bridge: &str, ports: &[String]) -> Result<Self, Error> {
        TAKEN.with_borrow_mut(|taken| {
            for (owner, theirs) in taken.iter() {
                if let Some(what) = common(ports, theirs) {
                    let cure = "name the ports of both bridges, as in ports=en0:en1";
                    return Err(Error::new(libc::EBUSY, format!("{what} to {owner}; {cure}")));
                }
            }
            taken.push((bridge.to_owned(), ports.to_vec()));
            Ok(Self { bridge: bridge.to_owned() })
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TAKEN.with_borrow_mut(|taken| taken.retain(|(bridge, _)| *bridge != self.bridge));
    }
}

/// What both want, as the beginning of a sentence that ends in the name of a bridge.
fn common(ours: &[String], theirs: &[String]) -> Option<String> {
    match (ours.is_empty(), theirs.is_empty()) {
        (_, true) => Some("every interface belongs".to_owned()),
        (true, false) => {
            Some(format!("without ports= a bridge takes all interfaces, and {} belongs", theirs[0]))
        }
        (false, false) => {
            let port = ours.iter().find(|port| theirs.contains(port))?;
            Some(format!("ports={}: {port} belongs", ours.join(":")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(bridge: &str, ports: &[&str]) -> Result<Share, String> {
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        Share::take(bridge, &ports).map_err(|error| error.to_string())
    }

    #[test]
    fn no_interface_is_in_two_bridges() {
        let first = take("bridge0", &["en0", "en1"]).unwrap();
        let second = take("bridge1", &["en2", "en3"]).unwrap();
        let error = take("bridge2", &["en4", "en1"]).unwrap_err();
        assert!(error.starts_with("ports=en4:en1: en1 belongs to bridge0;"), "{error}");
        let error = take("bridge2", &[]).unwrap_err();
        assert!(error.contains("en0 belongs to bridge0"), "{error}");
        drop(first);
        let third = take("bridge2", &["en4", "en1"]).unwrap();
        drop((second, third));
        let _all = take("bridge0", &[]).unwrap();
        let error = take("bridge1", &["en0", "en1"]).unwrap_err();
        assert!(error.starts_with("every interface belongs to bridge0;"), "{error}");
    }
}
