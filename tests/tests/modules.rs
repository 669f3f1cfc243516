//! Modules come and go at run time, in one io-pkt or two, while frames flow.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use ctl::Client;
use qnet_lab::{Node, Options, Process};
use system_tests::{Need, PATIENCE, Pair, cases, eventually, refused};

/// Rounds of mounting under Qnet's traffic; the large count is for `cargo xtask soak`.
fn rounds() -> usize {
    if std::env::var_os("IO_PKT_SOAK").is_some() { 10_000 } else { 50 }
}

/// What a leak would let grow: descriptors, threads, mappings; and resident memory in KiB.
fn footprint(daemon: &Process) -> Result<([usize; 3], u64)> {
    let own = PathBuf::from(format!("/proc/{}", daemon.pid));
    let entries = |folder: &str| -> Result<usize> { Ok(fs::read_dir(own.join(folder))?.count()) };
    let mappings = fs::read_to_string(own.join("maps"))?.lines().count();
    let status = fs::read_to_string(own.join("status"))?;
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().split(' ').next()?.parse().ok());
    Ok(([entries("fd")?, entries("task")?, mappings], resident.context("VmRSS")?))
}

fn mounting_in_a_loop_under_traffic_leaks_nothing() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("head -c 1000000 /dev/urandom >/tmp/big")?;
    let mut reader = alonzo.command("sh");
    reader.args([
        "-c",
        "while cmp /net/joseph/tmp/big /tmp/big; do [ ! -e /tmp/stop ] || exit 0; done; exit 1",
    ]);
    alonzo.shell("cp /net/joseph/tmp/big /tmp/big")?;
    let mut reader = reader.stdin(Stdio::null()).spawn()?;
    let daemon = alonzo.daemon().context("io-pkt runs")?;
    let mut client = Client::connect(&alonzo.outside("/run/io-pkt/io-pkt0.sock"), PATIENCE)?;
    let mut round = || -> Result<()> {
        client.mount("devn-segment.so", "path=/tmp/segment", None)?;
        client.umount("en1")?;
        Ok(())
    };
    // The first rounds load the module and fill the allocator's pools.
    for _ in 0..20 {
        round()?;
    }
    let (before, resident_before) = footprint(&daemon)?;
    for _ in 0..rounds() {
        round()?;
    }
    let (after, resident_after) = footprint(&daemon)?;
    alonzo.shell("touch /tmp/stop")?;
    ensure!(reader.wait()?.success(), "the reader met an error");
    ensure!(before == after, "descriptors, threads, mappings: before {before:?} after {after:?}");
    let grown = resident_after.saturating_sub(resident_before);
    ensure!(grown <= 1024, "resident memory grew by {grown} KiB");
    let mut client = Client::connect(&alonzo.outside("/run/io-pkt/io-pkt0.sock"), PATIENCE)?;
    let mut held = || -> Option<u64> {
        let modules = client.modules().ok()?;
        Some(
            modules
                .builds
                .iter()
                .flat_map(|build| &build.uses)
                .filter(|one| one.name == "en1")
                .map(|one| one.chunks)
                .sum(),
        )
    };
    eventually("chunks of gone uses back in the pool", || held() == Some(0))
}

fn up() -> Result<Pair> {
    Pair::up(&Options::default())
}

/// Starts io-pkt in `node` under one of QNX's names, which returns when it is ready.
fn in_background(node: &Node, line: &str) -> Result<()> {
    let output = node.command("sh").args(["-c", line]).stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn drivers_come_and_go_under_traffic() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let there = joseph.shell("head -c 5000000 /dev/urandom >/tmp/big && sha256sum </tmp/big")?;
    let mut reader = alonzo.command("sh");
    reader
        .args(["-c", "while sha256sum </net/joseph/tmp/big; do [ ! -e /tmp/stop ] || exit 0; done; exit 1"]);
    let reader = reader.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    for _ in 0..10 {
        alonzo.shell("mount -T io-pkt -o path=/tmp/segment devn-segment.so")?;
        ensure!(alonzo.shell("ls /dev/io-net")? == "en0\nen1\n", "the lowest free number is taken");
        alonzo.shell("umount /dev/io-net/en1")?;
        ensure!(alonzo.shell("ls /dev/io-net")? == "en0\n");
    }
    alonzo.shell("touch /tmp/stop")?;
    let output = reader.wait_with_output()?;
    ensure!(output.status.success(), "the reader met an error");
    let sums = String::from_utf8(output.stdout)?;
    ensure!(sums.lines().count() > 0 && sums.lines().all(|line| line == there.trim_end()), "{there} {sums}");
    Ok(())
}

fn the_wire_under_qnet_may_go_and_come_back() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("umount /dev/io-net/en0")?;
    let nicinfo = alonzo.shell("nicinfo")?;
    ensure!(nicinfo.is_empty(), "{nicinfo}");
    ensure!(alonzo.shell("cat /net/alonzo/etc/hostname")? == "alonzo\n", "the own node needs no wire");
    alonzo.shell("mount -T io-pkt -o dev=eth0 devn-packet.so && ls /dev/io-net/en0")?;
    eventually("joseph over the new wire", || {
        alonzo.shell("cat /net/joseph/etc/hostname").is_ok_and(|name| name == "joseph\n")
    })
}

fn qnet_stays_until_io_pkt_ends() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    let error = refused(alonzo, "umount /net", "qnet")?;
    ensure!(error.starts_with("umount: /net: "), "{error}");
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    Ok(())
}

fn a_second_qnet_on_a_node_is_refused() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    refused(alonzo, "mount -T io-pkt lsm-qnet.so", "lsm-qnet")?;
    let daemon = alonzo.shell("pgrep -o -x io-pkt")?;
    refused(alonzo, "io-pkt -i1 -p qnet", daemon.trim())
        .context("the error names the process that has Qnet")?;
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n", "the first one goes on");
    Ok(())
}

fn an_instance_runs_once() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    let daemon = alonzo.shell("pgrep -o -x io-pkt")?;
    let again = refused(alonzo, "io-pkt -d segment path=/tmp/segment", daemon.trim());
    again.map(|_| ()).context("the error names the running process")
}

fn two_instances_run_side_by_side() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    in_background(alonzo, "io-pkt-v4-hc -dsegment path=/tmp/a")?;
    in_background(alonzo, "io-pkt-v6-hc -i1 -d segment path=/tmp/b")?;
    alonzo.shell(
        "mount -Tio-pkt1 devn-segment.so -o path=/tmp/c && mount -T io-pkt -opath=/tmp/d devn-segment.so",
    )?;
    let devices = alonzo.shell("cat /dev/io-net/*")?;
    let instances: Vec<&str> = devices.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(instances == ["instance=0", "instance=1", "instance=1", "instance=0"], "{devices}");
    let shown = alonzo.shell("nicinfo | grep '^en'")?;
    let mut shown: Vec<&str> = shown.lines().map(str::trim_end).collect();
    shown.sort_unstable();
    ensure!(shown == ["en0:", "en1:", "en2:", "en3:"], "{shown:?}");
    alonzo.shell("umount /dev/io-net/en2 en3 && nicinfo en1 && nicinfo /tmp/a")?;
    ensure!(alonzo.shell("ls /dev/io-net")? == "en0\nen1\n");
    Ok(())
}

fn a_broken_module_leaves_nothing_behind() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("echo text >/tmp/text.so; : >/tmp/empty.so; head -c 3000 /lab/programs/libdevn_segment.so >/tmp/short.so")?;
    let uses = "ls /dev/io-net; pidin mem | grep -o '.so .*[a-z0-9]$' | grep -v failed | wc -l";
    let before = alonzo.shell(uses)?;
    for module in
        ["/tmp/text.so", "/tmp/empty.so", "/tmp/short.so", "/tmp/missing.so", "/tmp", "devn-missing.so"]
    {
        let error = refused(alonzo, &format!("mount -T io-pkt {module}"), module)?;
        ensure!(error.starts_with("mount: ") && error.lines().count() == 1, "one clear line: {error}");
    }
    let error = refused(alonzo, "mount -T io-pkt -o path=/tmp/s,colour=red devn-segment.so", "colour")?;
    ensure!(error.contains("path"), "the error lists what is known: {error}");
    let after = alonzo.shell(uses)?;
    ensure!(before == after, "before {before} after {after}");
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n", "the others carry on");
    Ok(())
}

fn a_module_is_mounted_by_a_relative_path() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("cp /lab/programs/libdevn_segment.so /tmp/mine.so")?;
    let said = alonzo.shell("cd /tmp && mount -v -T io-pkt -o path=/tmp/s ./mine.so")?;
    ensure!(said == "devn-segment: en1 at /dev/io-net/en1\n", "{said}");
    Ok(())
}

fn a_module_is_mounted_from_the_other_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("cp /lab/programs/libdevn_segment.so /tmp/devn-far.so")?;
    // io-pkt carries every byte of it and must not wait for itself.
    alonzo.shell("mount -T io-pkt -o path=/tmp/segment /net/joseph/tmp/devn-far.so")?;
    ensure!(alonzo.shell("ls /dev/io-net")? == "en0\nen1\n");
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n", "Qnet goes on");
    Ok(())
}

fn other_calls_of_mount_reach_the_system() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("command -v mount | grep -q /lab/bin/mount")?;
    let mounted =
        alonzo.shell("mount -t tmpfs -o size=64k none /mnt && mount | grep -c ' on /mnt type tmpfs '")?;
    ensure!(mounted == "1\n", "{mounted}");
    alonzo.shell("umount /mnt && ! mount | grep ' on /mnt type tmpfs '").map(|_| ()).context("umount")
}

fn the_systems_mount_knows_the_type_io_pkt() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    // The system's mount looks for helpers in /sbin only, which a node cannot write: it gets a changed copy.
    alonzo.shell(
        "mkdir /tmp/sbin && cp -a /sbin/. /tmp/sbin && ln -s /lab/programs/qnx-mount /tmp/sbin/mount.io-pkt
        /bin/mount --bind /tmp/sbin /usr/sbin && /bin/mount -t io-pkt -o path=/tmp/s devn-segment.so none",
    )?;
    ensure!(alonzo.shell("ls /dev/io-net")? == "en0\nen1\n");
    Ok(())
}

fn pidin_shows_the_modules() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    for name in ["io-pkt", "io-pkt-v4-hc", "io-net"] {
        let text = alonzo.shell(&format!("pidin -P {name} mem"))?;
        let modules: Vec<&str> =
            text.lines().filter_map(|line| line.trim_start().split_once(".so ")).map(|m| m.0).collect();
        ensure!(modules == ["devn-packet", "lsm-qnet"], "{text}");
        ensure!(text.lines().any(|line| line.contains("@") && line.ends_with(" en0")), "{text}");
    }
    Ok(())
}

fn the_network_directory_of_any_root_is_busy() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    alonzo.shell("io-pkt --root /tmp/other --background -d segment path=/tmp/segment -p qnet")?;
    eventually("/tmp/other/net", || {
        alonzo.shell("grep -q ' /tmp/other/net fuse.qnet' /proc/mounts").is_ok()
    })?;
    let text =
        refused(alonzo, "unset IO_PKT_ROOT; umount /tmp/other/net", "cannot be unmounted while io-pkt runs")?;
    ensure!(text.starts_with("umount: /tmp/other/net: "), "{text}");
    alonzo.shell("grep -q ' /tmp/other/net fuse.qnet' /proc/mounts")?;
    Ok(())
}

fn frames_flow_while_a_module_is_read_from_another_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let module = alonzo.shell("ls -d $(dirname $(command -v io-pkt))/*devn[_-]segment.so | head -n 1")?;
    joseph.shell(&format!("cp {} /tmp/devn-segment.so", module.trim()))?;
    // By its path: io-pkt itself opens the file, and carries the answers to what it reads.
    let mut client = Client::connect(&alonzo.outside("/run/io-pkt/io-pkt0.sock"), PATIENCE)?;
    let mounted = client.mount("/net/joseph/tmp/devn-segment.so", "path=/tmp/segment", None)?;
    ensure!(mounted.name == "en1", "{mounted:?}");
    Ok(())
}

fn a_directory_in_use_is_never_covered() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    let start = "io-pkt --background -d packet dev=eth0 -p qnet";
    for (mount, reason) in [("/etc", "mount=/etc: is not empty"), ("/proc", "mount=/proc: in use by proc")] {
        let text = refused(alonzo, &format!("{start} mount={mount}"), reason)?;
        ensure!(text.contains("mount=/qnet"), "{text}");
    }
    // While io-pkt runs as well; the rest goes on.
    alonzo.shell("io-pkt --background -d packet dev=eth0")?;
    refused(alonzo, "mount -T io-pkt -o mount=/etc lsm-qnet.so", "mount=/etc: is not empty")?;
    ensure!(alonzo.shell("ls /dev/io-net; ls /run/io-pkt | grep -c qnet; true")? == "en0\n0\n");
    alonzo.shell("mount -T io-pkt lsm-qnet.so")?;
    eventually("/net", || alonzo.shell("grep -q ' /net fuse.qnet' /proc/mounts").is_ok())
}

cases! {
    mounting_in_a_loop_under_traffic_leaks_nothing: [Need::RootNodes, Need::Fuse],
    drivers_come_and_go_under_traffic: [Need::RootNodes, Need::Fuse],
    the_wire_under_qnet_may_go_and_come_back: [Need::RootNodes, Need::Fuse],
    qnet_stays_until_io_pkt_ends: [Need::RootNodes, Need::Fuse],
    a_second_qnet_on_a_node_is_refused: [Need::RootNodes, Need::Fuse],
    an_instance_runs_once: [Need::RootNodes, Need::Fuse],
    two_instances_run_side_by_side: [Need::Nodes],
    a_broken_module_leaves_nothing_behind: [Need::RootNodes, Need::Fuse],
    a_module_is_mounted_by_a_relative_path: [Need::RootNodes, Need::Fuse],
    a_module_is_mounted_from_the_other_node: [Need::RootNodes, Need::Fuse],
    other_calls_of_mount_reach_the_system: [Need::RootNodes, Need::Fuse],
    the_systems_mount_knows_the_type_io_pkt: [Need::RootNodes, Need::Fuse],
    pidin_shows_the_modules: [Need::RootNodes, Need::Fuse],
    the_network_directory_of_any_root_is_busy: [Need::RootNodes, Need::Fuse],
    frames_flow_while_a_module_is_read_from_another_node: [Need::RootNodes, Need::Fuse],
    a_directory_in_use_is_never_covered: [Need::RootNodes, Need::Fuse],
}
