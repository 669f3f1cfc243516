//! Two nodes see each other in `/net` and read each other's files, as far as `nobody` may.

use anyhow::{Context, Result, ensure};
use qnet_lab::{Isolation, Node, Options, Wire};
use system_tests::{Need, Pair, cases, eventually, refused, shell_as};

const DENIED: &str = "Permission denied";
const MISSING: &str = "No such file or directory";

fn up() -> Result<Pair> {
    Pair::up(&Options::default())
}

fn on(wire: Wire) -> Result<Pair> {
    Pair::up(&Options { wire, ..Options::default() })
}

fn each_node_lists_itself_and_the_other() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    for node in [alonzo, joseph] {
        let names = node.shell("ls /net")?;
        ensure!(names == "alonzo\njoseph\n", "{}: {names}", node.name());
    }
    let kind = alonzo.shell("stat -f -c %T /net; grep ' /net ' /proc/self/mountinfo")?;
    ensure!(kind.contains(" - fuse.qnet ") && kind.contains("nosuid") && kind.contains("nodev"), "{kind}");
    Ok(())
}

fn files_of_the_other_node_are_read() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    ensure!(joseph.shell("cat /net/alonzo/etc/hostname")? == "alonzo\n");
    ensure!(alonzo.shell("cat /net/alonzo/etc/hostname")? == "alonzo\n", "the own node is there as well");
    Ok(())
}

fn a_tap_device_carries_qnet() -> Result<()> {
    ensure!(on(Wire::Tap)?.alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    Ok(())
}

fn a_segment_carries_qnet() -> Result<()> {
    ensure!(on(Wire::Segment)?.alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    Ok(())
}

fn a_large_file_arrives_intact() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let there = joseph.shell("head -c 50000001 /dev/urandom >/tmp/big && sha256sum </tmp/big")?;
    let here = alonzo.shell("sha256sum </net/joseph/tmp/big")?;
    ensure!(there == here, "there {there} here {here}");
    Ok(())
}

fn a_wire_on_a_packet_thread_carries_qnet() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    for node in [alonzo, joseph] {
        // The first driver runs where Qnet runs; the wire comes second and so to the second thread.
        let mut start = node.usual_start(&["bind=en1".to_owned()]);
        let first = ["-t", "2", "-d", "template"].map(str::to_owned);
        start.args.splice(0..0, first);
        node.start(&start)?;
    }
    eventually("joseph", || {
        alonzo.shell("cat /net/joseph/etc/hostname").is_ok_and(|name| name == "joseph\n")
    })?;
    let threads = alonzo.shell("pidin mem")?;
    ensure!(threads.contains("en1 (packet 1)") && !threads.contains("en0 (packet"), "{threads}");
    let there = joseph.shell("head -c 20000001 /dev/urandom >/tmp/big && sha256sum </tmp/big")?;
    let here = alonzo.shell("sha256sum </net/joseph/tmp/big")?;
    ensure!(there == here, "there {there} here {here}");
    Ok(())
}

/// Frames that Qnet sends by AF_XDP arrive like others, and pass by an egress chain that would drop them all.
fn both_ways_of_sending_carry_qnet_and_one_passes_by_egress_rules() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    for (node, send) in [(alonzo, "mmsg"), (joseph, "xdp")] {
        let mut start = node.usual_start(&[]);
        let device = start.args.iter_mut().find(|arg| arg.starts_with("dev=")).context("a device")?;
        device.push_str(&format!(",send={send}"));
        node.start(&start)?;
    }
    let reads = |from: &Node, to: &Node| {
        let read = from.shell(&format!("cat /net/{}/etc/hostname", to.name()));
        read.is_ok_and(|text| text.trim_end() == to.name())
    };
    eventually("both nodes", || reads(alonzo, joseph) && reads(joseph, alonzo))?;
    let there = joseph.shell("head -c 5000001 /dev/urandom >/tmp/big && sha256sum </tmp/big")?;
    let here = alonzo.shell("sha256sum </net/joseph/tmp/big")?;
    ensure!(there == here, "there {there} here {here}");
    let chain = "nft 'add table netdev out; add chain netdev out out \
                 { type filter hook egress device eth0 priority 0; policy drop; }'";
    joseph.shell(&format!("{chain} && echo one >/tmp/one && echo two >/tmp/two"))?;
    let one = alonzo.shell("cat /net/joseph/tmp/one").context("what joseph says does not meet his rules")?;
    ensure!(one == "one\n");
    alonzo.shell(chain)?;
    refused(alonzo, "cat /net/joseph/tmp/two", "")?;
    Ok(())
}

fn many_readers_share_the_wire() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("for i in 1 2 3 4 5 6 7 8; do head -c ${i}00001 /dev/urandom >/tmp/$i; done")?;
    let sums = "for i in 1 2 3 4 5 6 7 8; do (cd D; sha256sum $i) & done; wait";
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let there = sorted(joseph.shell(&sums.replace('D', "/tmp"))?);
    let here = sorted(alonzo.shell(&sums.replace('D', "/net/joseph/tmp"))?);
    ensure!(there.len() == 8 && there == here, "there {there:?} here {here:?}");
    Ok(())
}

fn files_without_a_size_are_read_to_their_end() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let line =
        "cat D/proc/filesystems D/proc/sys/kernel/hostname D/proc/1/comm; stat -c %s D/proc/filesystems";
    let there = joseph.shell(&line.replace('D', ""))?;
    let here = alonzo.shell(&line.replace('D', "/net/joseph"))?;
    ensure!(there == here && there.ends_with("\n0\n"), "there {there} here {here}");
    Ok(())
}

fn attributes_and_links_are_the_other_nodes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let prepare = "cd /tmp && printf 12345 >f && chmod 4751 f && touch -d '2001-02-03 04:05:06.789 UTC' f
        mkdir d && ln -s f short && ln -s /etc/hostname long && mkfifo pipe && ln f hard";
    joseph.shell(prepare)?;
    let stat = "cd D/tmp && stat -c '%n %a %h %s %y %F' f d; stat -c '%n %F' short";
    let (there, here) =
        (joseph.shell(&stat.replace('D', ""))?, alonzo.shell(&stat.replace('D', "/net/joseph"))?);
    ensure!(there == here, "there {there} here {here}");
    let links = alonzo.shell("cd /net/joseph/tmp && readlink short long && cat long")?;
    ensure!(links == "f\n/net/joseph/etc/hostname\njoseph\n", "{links}");
    let pipe = alonzo.shell("stat -c %F /net/joseph/tmp/pipe")?;
    ensure!(!pipe.contains("fifo"), "a FIFO of another node must not open one of ours: {pipe}");
    Ok(())
}

fn a_directory_of_thousands_is_listed_once_each() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph
        .shell("mkdir /tmp/many && cd /tmp/many && seq -f 'a-name-of-some-length-%05g' 3000 | xargs touch")?;
    joseph.shell("touch '/tmp/many/zwei Wörter' '/tmp/many/-' ")?;
    let there = joseph.shell("ls -U /tmp/many | sort | sha256sum; ls /tmp/many | wc -l")?;
    let here =
        alonzo.shell("ls -U /net/joseph/tmp/many | sort | sha256sum; ls /net/joseph/tmp/many | wc -l")?;
    ensure!(there == here && there.ends_with("3002\n"), "there {there} here {here}");
    Ok(())
}

fn remote_root_is_nobody_here() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("echo secret >/tmp/private && chmod 600 /tmp/private && mkdir -m 700 /tmp/closed")?;
    let daemon = joseph.shell("pgrep -o -x io-pkt")?;
    let daemon = daemon.trim();
    for (path, reason) in [
        ("tmp/private".to_owned(), DENIED),
        // Whose own entry would that be? Not the caller's: it has none there.
        ("proc/self/environ".to_owned(), MISSING),
        ("proc/1/maps".to_owned(), DENIED),
        ("proc/1/environ".to_owned(), DENIED),
        (format!("proc/{daemon}/maps"), DENIED),
        (format!("proc/{daemon}/mem"), DENIED),
    ] {
        refused(alonzo, &format!("cat /net/joseph/{path}"), reason)?;
    }
    for (path, reason) in [
        ("tmp/closed".to_owned(), DENIED),
        ("root".to_owned(), DENIED),
        ("proc/self/fd".to_owned(), MISSING),
        (format!("proc/{daemon}/fd"), DENIED),
    ] {
        refused(alonzo, &format!("ls /net/joseph/{path}/"), reason)?;
    }
    Ok(())
}

fn a_network_directory_is_not_entered_through_another() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    refused(alonzo, "ls /net/joseph/net/", "Too many levels of symbolic links")?;
    refused(alonzo, "cat /net/joseph/net/alonzo/etc/hostname", "Too many levels of symbolic links")
        .map(|_| ())
}

fn nothing_is_written_without_leave() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("echo old >/tmp/open && chmod 666 /tmp/open")?;
    for line in ["echo new >/net/joseph/tmp/open", "touch /net/joseph/tmp/new", "rm /net/joseph/tmp/open"] {
        refused(alonzo, line, "Permission denied")?;
    }
    ensure!(joseph.shell("cat /tmp/open; ls /tmp/new 2>/dev/null || echo none")? == "old\nnone\n");
    Ok(())
}

fn other_users_of_a_node_may_look_as_well() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    ensure!(shell_as(alonzo, 1234, "cat /net/joseph/etc/hostname")? == "joseph\n");
    Ok(())
}

fn a_node_that_is_not_there_is_not_found() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    refused(alonzo, "ls /net/nosuch/", MISSING).map(|_| ())
}

fn waitfor_wants_a_live_network_directory() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    alonzo.shell("mkdir /net && waitfor -s /net 0:10")?;
    refused(alonzo, "waitfor /net 0.2:10", "waitfor: /net: still not served by Qnet after 0.2 s")?;
    alonzo.start(&alonzo.usual_start(&[]))?;
    alonzo.shell("waitfor /net 60:10 && waitfor /net/alonzo/etc/hostname 60")?;
    ensure!(alonzo.shell("ls /net")?.starts_with("alonzo\n"), "the own node is there at once");
    Ok(())
}

fn a_name_is_resolved_on_first_use() -> Result<()> {
    let options = Options { qnet: vec!["auto_add=0".to_owned()], ..Options::default() };
    let Pair { alonzo, .. } = &Pair::start(&options)?;
    eventually("/net of alonzo", || alonzo.shell("ls /net").is_ok_and(|names| names.contains("alonzo")))?;
    let before = alonzo.shell("ls /net")?;
    ensure!(before == "alonzo\n", "{before}");
    eventually("joseph", || {
        alonzo.shell("cat /net/joseph/etc/hostname").is_ok_and(|name| name == "joseph\n")
    })?;
    let after = alonzo.shell("ls /net")?;
    ensure!(after == "alonzo\njoseph\n", "{after}");
    Ok(())
}

fn a_node_without_root_serves_as_its_owner_only_when_told() -> Result<()> {
    let userland = Options { isolation: Some(Isolation::UserNamespaces), ..Options::default() };
    let pair = Pair::up(&userland)?;
    ensure!(pair.alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n", "the lab says mapany=0");
    drop(pair);
    let Pair { alonzo, joseph, .. } = &Pair::start(&Options { start: false, ..userland })?;
    for node in [alonzo, joseph] {
        let mut start = node.usual_start(&[]);
        let options = start.args.pop().context("options of Qnet")?;
        ensure!(options == "mapany=0", "{options}");
        node.start(&start)?;
    }
    let seen = || alonzo.shell("ls /net").is_ok_and(|names| names.contains("joseph"));
    eventually("joseph in /net", seen)?;
    refused(alonzo, "cat /net/joseph/etc/hostname", "Operation not permitted").map(|_| ())
}

fn only_exported_directories_are_seen() -> Result<()> {
    let qnet = ["export=/tmp:ro", "export=/usr/lib"].map(str::to_owned).to_vec();
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options { qnet, ..Options::default() })?;
    joseph.shell("mkdir -m 755 /tmp/pub; echo hello >/tmp/pub/file; ln -s /etc/hostname /tmp/pub/out")?;
    ensure!(alonzo.shell("cat /net/joseph/tmp/pub/file")? == "hello\n");
    ensure!(alonzo.shell("ls /net/joseph")? == "tmp\nusr\n");
    ensure!(alonzo.shell("ls /net/joseph/usr")? == "lib\n");
    ensure!(!alonzo.shell("ls /net/joseph/usr/lib")?.is_empty());
    for hidden in ["etc/hostname", "proc/1/status", "usr/bin", "tmp/pub/out"] {
        refused(alonzo, &format!("cat /net/joseph/{hidden}"), "No such file or directory")?;
    }
    Ok(())
}

cases! {
    each_node_lists_itself_and_the_other: [Need::RootNodes, Need::Fuse],
    files_of_the_other_node_are_read: [Need::RootNodes, Need::Fuse],
    a_tap_device_carries_qnet: [Need::RootNodes, Need::Fuse, Need::Tap],
    a_segment_carries_qnet: [Need::RootNodes, Need::Fuse],
    a_large_file_arrives_intact: [Need::RootNodes, Need::Fuse],
    a_wire_on_a_packet_thread_carries_qnet: [Need::RootNodes, Need::Fuse],
    both_ways_of_sending_carry_qnet_and_one_passes_by_egress_rules: [
        Need::RootNodes, Need::Fuse, Need::Program("nft")
    ],
    many_readers_share_the_wire: [Need::RootNodes, Need::Fuse],
    files_without_a_size_are_read_to_their_end: [Need::RootNodes, Need::Fuse],
    attributes_and_links_are_the_other_nodes: [Need::RootNodes, Need::Fuse],
    a_directory_of_thousands_is_listed_once_each: [Need::RootNodes, Need::Fuse],
    only_exported_directories_are_seen: [Need::RootNodes, Need::Fuse],
    remote_root_is_nobody_here: [Need::RootNodes, Need::Fuse],
    a_network_directory_is_not_entered_through_another: [Need::RootNodes, Need::Fuse],
    nothing_is_written_without_leave: [Need::RootNodes, Need::Fuse],
    other_users_of_a_node_may_look_as_well: [Need::RootNodes, Need::Fuse],
    a_node_that_is_not_there_is_not_found: [Need::RootNodes, Need::Fuse],
    waitfor_wants_a_live_network_directory: [Need::RootNodes, Need::Fuse],
    a_name_is_resolved_on_first_use: [Need::RootNodes, Need::Fuse],
    a_node_without_root_serves_as_its_owner_only_when_told: [Need::RootNodes, Need::Fuse],
}
