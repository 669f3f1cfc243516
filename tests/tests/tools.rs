//! The tools that look at the network, on nodes of a lab: statistics, `pidin net`.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, cases, eventually, refused};

const COUNTERS: [&str; 5] = ["txd ok", "txd bad", "rxd ok", "rxd bad dr", "rxd bad L4"];

fn up() -> Result<Pair> {
    Pair::up(&Options::default())
}

fn the_statistics_hold_the_documented_lines() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("cat /net/joseph/etc/hostname")?;
    for source in ["cat /net/.qnetstats", "qnetstats"] {
        let text = alonzo.shell(source)?;
        let first = text.lines().next().context("a first line")?;
        ensure!(
            first.starts_with("**** Qnet compiled on ") && first.ends_with(" running on alonzo"),
            "{first}"
        );
        let grepped = alonzo.shell(&format!("{source} | grep -e \"ok\" -e \"bad\""))?;
        let names: Vec<&str> =
            grepped.lines().map(|line| line.trim_end_matches(|c: char| c.is_ascii_digit()).trim()).collect();
        ensure!(names == COUNTERS, "{source}: {grepped}");
        ensure!(text.contains("  joseph (nd ") && text.contains(": up for "), "{text}");
    }
    let listed = alonzo.shell("ls -a /net")?;
    ensure!(!listed.contains("qnetstats"), "listings name nodes: {listed}");
    refused(alonzo, "echo 1 >/net/.qnetstats", "Read-only file system").map(|_| ())
}

fn a_copy_shows_while_it_runs() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    // Watched for as long as it takes until a copy was seen.
    let line = "qnetstats -w 0.2 >/tmp/rates & watcher=$!
                for round in $(seq 5000); do cat /net/joseph/bin/sh >/dev/null
                awk '$1 == \"joseph\" && $3 > 0 { seen = 1 } END { exit !seen }' /tmp/rates && break; done
                kill $watcher; cat /tmp/rates";
    let text = alonzo.shell(line)?;
    let (heads, rates) = text.split_once('\n').context("heads")?;
    let moved =
        |line: &str| -> Option<f64> { line.strip_prefix("joseph ")?.split_whitespace().nth(1)?.parse().ok() };
    let seen = rates.lines().any(|line| moved(line).is_some_and(|received| received > 0.0));
    ensure!(heads.starts_with("node ") && seen, "{text}");
    let text = alonzo.shell("qnetstats -w 0.05 -c 3")?;
    ensure!(text.starts_with("node ") && text.lines().count() == 4, "three looks: {text}");
    Ok(())
}

fn a_reader_of_the_statistics_sees_one_moment() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    // Between the two reads the counters move on; the open file does not.
    let line = "exec 3</net/.qnetstats; head -c 200 <&3 >/tmp/a; cat /net/joseph/etc/hostname >/tmp/x; cat <&3 >>/tmp/a
        grep -c Qnet /tmp/a; tail -c 40 /tmp/a";
    let text = alonzo.shell(line)?;
    ensure!(text.starts_with("1\n") && text.contains("hears everything"), "{text}");
    Ok(())
}

fn qnet_ping_tells_the_way_to_a_node_and_where_it_ends() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let text = alonzo.shell("qnet-ping -c 3 -i 0.01 -W 10 joseph")?;
    ensure!(text.contains("qnet-ping joseph: found, node number "), "{text}");
    ensure!(text.contains(" over en0 time=") && text.contains("\n3 asked, 3 answered, 0% lost\n"), "{text}");
    ensure!(text.ends_with("links: en0 3\n"), "{text}");
    alonzo.shell("qnet-ping -q -c 1 -I en0 -W 10 joseph && qnet-ping -c 1 alonzo")?;
    let status = |line: &str| -> Result<String> { Ok(alonzo.shell(&format!("{line}; echo $?"))?) };
    let text = status("qnet-ping -c 1 nosuch 2>&1")?;
    ensure!(text.contains("nosuch: not found") && text.ends_with("\n2\n"), "{text}");
    let text = status("qnet-ping -c 1 -I en9 joseph 2>&1")?;
    ensure!(text.contains("not over en9") && text.ends_with("\n2\n"), "{text}");
    let daemon = joseph.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    let text = status("qnet-ping -c 2 -i 0.01 -W 0.3 joseph")?;
    ensure!(text.contains("100% lost") && text.ends_with("\n1\n"), "{text}");
    Ok(())
}

fn pidin_net_shows_every_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    let text = alonzo.shell("pidin net")?;
    let mut lines = text.lines();
    let heading = lines.next().context("a heading")?;
    ensure!(heading == " ND    Node             CPU      Release FreeMem       BootTime", "{heading}");
    for node in [alonzo, joseph] {
        let row = text.lines().find(|line| line.get(7..).is_some_and(|rest| rest.starts_with(node.name())));
        let row = row.with_context(|| format!("{} in {text}", node.name()))?;
        ensure!(row.contains("Mb/") && row.contains(" UTC "), "{text}");
    }
    ensure!(text.matches(" Processes, ").count() == 2 && text.matches("CPU 0: ").count() == 2, "{text}");
    Ok(())
}

fn pidin_net_shows_a_dead_node_with_its_error() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    alonzo.shell("cat /net/joseph/etc/hostname")?;
    let daemon = joseph.daemon().context("io-pkt runs")?;
    kill(Pid::from_raw(daemon.pid), Signal::SIGKILL)?;
    eventually("the end of io-pkt", || !daemon.is_alive())?;
    let text = alonzo.shell("pidin net")?;
    let row = text.lines().find(|line| line.contains(" joseph ")).with_context(|| text.clone())?;
    ensure!(row.ends_with(" Host is down") || row.ends_with(" No route to host"), "{text}");
    ensure!(text.matches(" Processes, ").count() == 1, "the own node is shown all the same: {text}");
    Ok(())
}

fn two_nodes_of_one_name_are_shown_as_such() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    alonzo.start(&alonzo.usual_start(&[]))?;
    joseph.start(&joseph.usual_start(&["host=alonzo".to_owned()]))?;
    let seen = || alonzo.shell("ls /net").is_ok_and(|names| names.contains("alonzo-EA"));
    eventually("the newcomer's other name", seen)?;
    let text = alonzo.shell("pidin net")?;
    ensure!(text.contains("listed by this name because its own was taken"), "{text}");
    let text = alonzo.shell("qnetstats")?;
    ensure!(text.contains("calls itself     alonzo:"), "{text}");
    eventually("a line about the shared name", || alonzo.log().contains("two nodes are called alonzo: "))?;
    let log = alonzo.log();
    ensure!(
        log.matches("two nodes are called").count() == 1 && log.contains("another host name (or host=)"),
        "{log}"
    );
    ensure!(alonzo.shell("cat /net/alonzo-EA*/etc/hostname")? == "joseph\n", "the newcomer is reached");
    ensure!(alonzo.shell("cat /net/alonzo/etc/hostname")? == "alonzo\n");
    Ok(())
}

fn two_nodes_of_one_address_are_told_and_reach_each_other() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    for node in [alonzo, joseph] {
        node.shell("ip link set eth0 down; ip link set eth0 address 02:aa:bb:cc:dd:01; ip link set eth0 up")?;
        node.start(&node.usual_start(&[]))?;
    }
    // The first that hears of it takes another address for Qnet, perhaps before the other one heard anything.
    let told = |node: &Node| node.log().contains("two nodes have the address 02:aa:bb:cc:dd:01, ");
    eventually("a line about the shared address", || told(alonzo) || told(joseph))?;
    let teller = if told(alonzo) { alonzo } else { joseph };
    ensure!(teller.log().contains("mac= of its driver"), "the line has the cure: {}", teller.log());
    let text = teller.shell("pidin net")?;
    ensure!(text.contains("another node has its address on a link"), "{text}");
    for (node, other) in [(alonzo, "joseph"), (joseph, "alonzo")] {
        let read =
            || node.shell(&format!("cat /net/{other}/etc/hostname")).is_ok_and(|name| name.trim() == other);
        eventually("a file of the other one", read)?;
    }
    Ok(())
}

cases! {
    the_statistics_hold_the_documented_lines: [Need::RootNodes, Need::Fuse],
    a_copy_shows_while_it_runs: [Need::RootNodes, Need::Fuse],
    a_reader_of_the_statistics_sees_one_moment: [Need::RootNodes, Need::Fuse],
    qnet_ping_tells_the_way_to_a_node_and_where_it_ends: [Need::RootNodes, Need::Fuse],
    pidin_net_shows_every_node: [Need::RootNodes, Need::Fuse],
    pidin_net_shows_a_dead_node_with_its_error: [Need::RootNodes, Need::Fuse],
    two_nodes_of_one_name_are_shown_as_such: [Need::RootNodes, Need::Fuse],
    two_nodes_of_one_address_are_told_and_reach_each_other: [Need::RootNodes, Need::Fuse],
}
