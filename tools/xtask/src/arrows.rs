//! Which crate may depend on which: the border guard between the parts.
//!
//! The table lists every crate with the workspace crates it may name in `[dependencies]`.
//! A crate that is not in the table is an error too, so a new crate must be thought about.
//! `[dev-dependencies]` are free: tests may reach everywhere. The pure crates are held to
//! their outside dependencies as well, since one `libc` would end their purity.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use crate::workspace::{Package, Workspace};

/// What one crate may use inside the workspace.
enum May<'a> {
    /// These crates and no others.
    Use(&'a [&'a str]),
    /// Tests and benches reach everywhere.
    UseAll,
}

use May::{Use, UseAll};

/// The permitted arrows. A trailing `*` stands for any ending; the first match decides.
const ARROWS: &[(&str, May)] = &[
    // leaves
    ("io-pkt-abi", Use(&[])),
    ("qnet-proto", Use(&[])),
    ("qnet-iomsg", Use(&[])),
    ("xtask", Use(&[])),
    // the daemon and what it loads; they meet at run time only
    ("io-pkt-ctl", Use(&[])),
    ("io-pkt-host", Use(&["io-pkt-abi"])),
    // The frames and tables that host hands out are abi's: data, no behaviour.
    ("io-pkt", Use(&["io-pkt-ctl", "io-pkt-host", "io-pkt-abi"])),
    ("io-pkt-sdk", Use(&["io-pkt-abi"])),
    ("lsm-qnet", Use(&["io-pkt-sdk", "qnet-ipc", "qnet-proto", "qnet-iomsg"])),
    ("devn-*", Use(&["io-pkt-sdk"])),
    ("lsm-*", Use(&["io-pkt-sdk"])),
    ("nr-*", Use(&["io-pkt-sdk"])),
    // messages on one node
    ("qnet-ipc", Use(&[])),
    ("qnet", Use(&["qnet-ipc", "qnet-iomsg"])),
    ("qnet-c", Use(&["qnet", "qnet-iomsg"])),
    // The helpers run event loops of their own, which the blocking client cannot.
    ("qnet-netfs", Use(&["qnet", "qnet-ipc", "qnet-iomsg"])),
    ("qnet-server", Use(&["qnet", "qnet-ipc", "qnet-iomsg"])),
    // tools
    ("qnx-*", Use(&["io-pkt-ctl", "qnet"])),
    ("nicinfo", Use(&["io-pkt-ctl", "qnet"])),
    ("pidin", Use(&["io-pkt-ctl", "qnet"])),
    ("waitfor", Use(&["io-pkt-ctl", "qnet"])),
    ("qnetstats", Use(&["io-pkt-ctl", "qnet"])),
    ("qnet-ping", Use(&["io-pkt-ctl", "qnet"])),
    ("qnet-tty", Use(&["io-pkt-ctl", "qnet"])),
    ("gns", Use(&["io-pkt-ctl", "qnet"])),
    ("qnet-lab", Use(&["io-pkt-ctl", "qnet"])),
    // tests and benches
    ("qnet-sim", Use(&["qnet-proto"])),
    ("conformance", Use(&["io-pkt-host", "io-pkt-abi"])),
    ("system-tests", UseAll),
    ("fuzz", UseAll),
    ("bench-*", UseAll),
];

/// Crates that know neither sockets nor clocks nor files, and what they may use from outside.
const PURE: &[(&str, &[&str])] = &[
    ("io-pkt-abi", &["abi_stable"]),
    ("qnet-proto", &["crc-fast", "thiserror"]),
    ("qnet-iomsg", &["thiserror", "zerocopy"]),
];

/// Compares the workspace with the tables.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    let faults = faults(&workspace.packages);
    if faults.is_empty() {
        eprintln!("{} crates, every arrow is permitted", workspace.packages.len());
        return Ok(());
    }
    for fault in &faults {
        eprintln!("arrows: {fault}");
    }
    bail!("{} forbidden arrow(s); the permitted ones are in tools/xtask/src/arrows.rs", faults.len());
}

fn faults(packages: &[Package]) -> Vec<String> {
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    packages.iter().flat_map(|package| package_faults(package, &ours)).collect()
}

fn package_faults(package: &Package, ours: &BTreeSet<&str>) -> Vec<String> {
    let name = package.name.as_str();
    let Some((_, may)) = ARROWS.iter().find(|(pattern, _)| matches(pattern, name)) else {
        return vec![format!("{name} is not in the table")];
    };
    let pure = PURE.iter().find(|(pure, _)| *pure == name).map(|(_, outside)| *outside);
    let mut faults = Vec::new();
    for dependency in package.dependencies.iter().filter(|d| d.kind.as_deref() != Some("dev")) {
        let target = dependency.name.as_str();
        if ours.contains(target) {
            let permitted = match may {
                UseAll => true,
                Use(names) => names.contains(&target),
            };
            if !permitted {
                faults.push(format!("{name} -> {target}"));
            }
        } else if pure.is_some_and(|outside| !outside.contains(&target)) {
            faults.push(format!("{name} is pure and may not use {target}"));
        }
    }
    faults
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, uses: &[(&str, Option<&str>)]) -> Package {
        let dependencies = uses
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).to_owned(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.to_owned(), version: "0.1.0".to_owned(), dependencies, targets: Vec::new() }
    }

    #[test]
    fn a_driver_may_use_the_sdk_and_nothing_else_of_ours() {
        let sdk = package("io-pkt-sdk", &[]);
        let good = package("devn-tap", &[("io-pkt-sdk", None), ("libc", None)]);
        assert_eq!(faults(&[sdk, good]), Vec::<String>::new());
        let host = package("io-pkt-host", &[]);
        let bad = package("devn-tap", &[("io-pkt-host", None)]);
        assert_eq!(faults(&[host, bad]), ["devn-tap -> io-pkt-host"]);
    }

    #[test]
    fn the_protocol_core_may_not_use_libc() {
        let bad = package("qnet-proto", &[("crc-fast", None), ("libc", None)]);
        assert_eq!(faults(&[bad]), ["qnet-proto is pure and may not use libc"]);
    }

    #[test]
    fn a_test_may_use_every_crate() {
        let sim = package("qnet-sim", &[]);
        let proto = package("qnet-proto", &[("qnet-sim", Some("dev")), ("proptest", Some("dev"))]);
        assert_eq!(faults(&[sim, proto]), Vec::<String>::new());
    }

    #[test]
    fn an_unknown_crate_is_a_fault() {
        assert_eq!(faults(&[package("helper", &[])]), ["helper is not in the table"]);
    }
}
