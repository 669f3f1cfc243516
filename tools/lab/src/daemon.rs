//! How a node's io-pkt is started: which driver for which wire, and which options for Qnet.

use nix::unistd::Uid;

use crate::net;
use crate::root::WIRE;
use crate::state::{Isolation, LabRecord, State, Wire};
use crate::sys;

/// Arguments of a node's io-pkt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// `-d` and `-p` with their options, in order.
    pub args: Vec<String>,
}

impl Start {
    /// The usual start: the wire's driver, and Qnet with `qnet_options` added.
    pub(crate) fn usual(state: &State, lab: &LabRecord, name: &str, qnet_options: &[String]) -> Self {
        // A node that cannot become `nobody` serves nobody, unless told to serve as its owner.
        let owner = match lab.isolation {
            Isolation::UserNamespaces => Some(Uid::from_raw(0)),
            _ if sys::can_become_nobody() => None,
            _ => Some(Uid::effective()),
        };
        Self::serving_as(owner, state, lab, name, qnet_options)
    }

    fn serving_as(
        owner: Option<Uid>,
        state: &State,
        lab: &LabRecord,
        name: &str,
        qnet_options: &[String],
    ) -> Self {
        let mut args = vec!["-d".to_owned()];
        args.extend(driver(state, lab));
        args.extend(["-p".to_owned(), "qnet".to_owned()]);
        let options = qnet(owner, lab, name, qnet_options);
        if !options.is_empty() {
            args.push(options.join(","));
        }
        Self { args }
    }
}

/// The driver's name and options.
pub(crate) fn driver(state: &State, lab: &LabRecord) -> [String; 2] {
    match lab.wire {
        Wire::Packet => ["packet".to_owned(), format!("dev={}", net::PORT)],
        Wire::Tap => ["tap".to_owned(), format!("dev={}", net::TAP)],
        Wire::Segment => {
            let folder = match lab.isolation {
                Isolation::Roots => state.wire_dir().display().to_string(),
                _ => WIRE.to_owned(),
            };
            ["segment".to_owned(), format!("path={folder}/segment")]
        }
    }
}

fn qnet(owner: Option<Uid>, lab: &LabRecord, name: &str, more: &[String]) -> Vec<String> {
    let mut options = Vec::new();
    if lab.isolation == Isolation::Roots {
        // Without a UTS namespace all nodes have the machine's host name.
        options.push(format!("host={name}"));
    }
    let says_who = more.iter().any(|option| option.starts_with("mapany=") || option.starts_with("maproot="));
    if let Some(owner) = owner.filter(|_| !says_who) {
        options.push(format!("mapany={owner}"));
    }
    options.extend(more.iter().cloned());
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab(wire: Wire, isolation: Isolation) -> LabRecord {
        LabRecord { wire, isolation, switch: None, programs: "/nowhere".into(), share: Vec::new() }
    }

    fn usual(wire: Wire, isolation: Isolation, more: &[&str]) -> String {
        let more: Vec<String> = more.iter().map(|&option| option.to_owned()).collect();
        Start::usual(&State::new(Some("/state".into())), &lab(wire, isolation), "joseph", &more)
            .args
            .join(" ")
    }

    #[test]
    fn with_root_remote_callers_are_nobody() {
        let line = |wire, more: &[String]| {
            let state = State::new(Some("/state".into()));
            let lab = lab(wire, Isolation::Namespaces);
            Start::serving_as(None, &state, &lab, "joseph", more).args.join(" ")
        };
        assert_eq!(line(Wire::Packet, &[]), "-d packet dev=eth0 -p qnet");
        assert_eq!(line(Wire::Tap, &["do_crc=1".to_owned()]), "-d tap dev=tap0 -p qnet do_crc=1");
    }

    #[test]
    fn without_root_nodes_serve_as_their_owner() {
        let line = usual(Wire::Segment, Isolation::UserNamespaces, &["do_crc=1"]);
        assert_eq!(line, "-d segment path=/lab/wire/segment -p qnet mapany=0,do_crc=1");
    }

    #[test]
    fn a_mapping_that_is_asked_for_is_not_replaced() {
        let line = usual(Wire::Packet, Isolation::UserNamespaces, &["mapany=off"]);
        assert_eq!(line, "-d packet dev=eth0 -p qnet mapany=off");
    }

    #[test]
    fn without_namespaces_the_name_is_given() {
        let line = usual(Wire::Segment, Isolation::Roots, &["mapany=off"]);
        assert_eq!(line, "-d segment path=/state/wire/segment -p qnet host=joseph,mapany=off");
    }
}
