//! Two nodes with two links between them: they share the work, replace each other, and are chosen by path.
//!
//! The second link is a veth pair of the nodes' own, `eth1` on both sides; io-pkt calls them `en0` and `en1`. All links are
//! limited with tbf, so that one is not enough for what is read. Counted are bytes, and not how long they take: on a busy
//! machine the processor may be what limits.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use qnet_lab::Node;
use system_tests::{Need, Pair, cases, eventually};

/// Bits per second of a link.
const RATE: &str = "30mbit";
/// Files that are read at the same time, and their size: four seconds over one link.
const FILES: u32 = 4;
const MIB: u32 = 4;

/// Two nodes with two limited links; both are in use.
fn two_links() -> Result<Pair> {
    let pair = Pair::bare()?;
    let holder = |node: &Node| -> Result<i32> {
        let record = pair.lab.state().node(node.name())?.context("the node is up")?;
        Ok(record.holder.context("it has namespaces")?.pid)
    };
    let (a, b) = (holder(&pair.alonzo)?, holder(&pair.joseph)?);
    let net = format!("--net=/proc/{a}/ns/net");
    let peer = b.to_string();
    let args = [&net, "ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth1", "netns", &peer];
    let made = Command::new("nsenter").args(args).output().context("nsenter")?;
    ensure!(made.status.success(), "a second link: {}", String::from_utf8_lossy(&made.stderr));
    for node in [&pair.alonzo, &pair.joseph] {
        node.shell("ip link set eth1 up")?;
        for device in ["eth0", "eth1"] {
            let tbf = format!("tc qdisc add dev {device} root tbf rate {RATE} burst 32kb latency 20ms");
            node.shell(&tbf)?;
        }
        let mut start = node.usual_start(&[]);
        let second = ["-d", "packet", "dev=eth1"].map(str::to_owned);
        start.args.splice(2 + 1..2 + 1, second);
        node.start(&start)?;
    }
    for (node, other) in [(&pair.alonzo, "joseph"), (&pair.joseph, "alonzo")] {
        eventually(&format!("{other} in /net"), || {
            node.shell("ls /net").is_ok_and(|names| names.lines().any(|name| name == other))
        })?;
    }
    let make = format!("for i in $(seq {FILES}); do head -c {MIB}M /dev/urandom >/tmp/file$i; done");
    pair.joseph.shell(&make)?;
    // The session is young: let both links be proven.
    pair.alonzo.shell("cat /net/joseph/etc/hostname")?;
    Ok(pair)
}

/// Reads joseph's files over `/net/NODE`, all at once; their sums, in order.
fn read(alonzo: &Node, node: &str) -> Result<String> {
    let line = format!(
        "for i in $(seq {FILES}); do (md5sum </net/{node}/tmp/file$i >/tmp/sum$i || echo failed >/tmp/sum$i) & done; wait; \
         cat $(seq -f /tmp/sum%g {FILES})"
    );
    Ok(alonzo.shell(&line)?)
}

fn sums(joseph: &Node) -> Result<String> {
    Ok(joseph.shell(&format!("for i in $(seq {FILES}); do md5sum </tmp/file$i; done"))?)
}

/// Bytes that joseph sends over each link while all is read.
fn shares(pair: &Pair, node: &str) -> Result<(u64, u64)> {
    let right = sums(&pair.joseph)?;
    // What the kernel has cached need not travel.
    pair.joseph.shell(&format!("for i in $(seq {FILES}); do touch /tmp/file$i; done"))?;
    let before = (sent(&pair.joseph, "eth0")?, sent(&pair.joseph, "eth1")?);
    let got = read(&pair.alonzo, node)?;
    ensure!(got == right, "{node}: read\n{got}instead of\n{right}");
    Ok((sent(&pair.joseph, "eth0")? - before.0, sent(&pair.joseph, "eth1")? - before.1))
}

fn sent(node: &Node, device: &str) -> Result<u64> {
    let text = node.shell(&format!("cat /sys/class/net/{device}/statistics/tx_bytes"))?;
    text.trim().parse().context("a number")
}

fn two_limited_links_carry_more_than_one_and_a_path_can_choose_one() -> Result<()> {
    let pair = two_links()?;
    let bulk = u64::from(FILES * MIB) << 20;
    let one = shares(&pair, "joseph~exclusive:en1")?;
    ensure!(one.1 > bulk, "en1 carries it all: {one:?}");
    ensure!(one.0 < bulk / 50, "en0 carries nothing of it: {one:?}");
    let two = shares(&pair, "joseph")?;
    println!("chosen {one:?}, shared {two:?}");
    // At their limits both are at work at the same time: the larger share is what it takes.
    ensure!(two.0.max(two.1) * 3 < (two.0 + two.1) * 2, "each carries at least a third: {two:?}");
    Ok(())
}

/// Reads while `harm` is done to the second link of joseph.
fn read_through(harm: &str, cure: &str) -> Result<()> {
    let pair = two_links()?;
    let right = sums(&pair.joseph)?;
    for line in [harm, cure] {
        std::thread::scope(|scope| -> Result<()> {
            let reader = scope.spawn(|| read(&pair.alonzo, "joseph"));
            let before = sent(&pair.joseph, "eth0")?;
            eventually("traffic", || sent(&pair.joseph, "eth0").is_ok_and(|now| now > before + 200_000))?;
            pair.joseph.shell(line)?;
            let got = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
            ensure!(got == right, "after `{line}` read\n{got}instead of\n{right}");
            Ok(())
        })?;
        pair.joseph.shell(&format!("for i in $(seq {FILES}); do touch /tmp/file$i; done"))?;
    }
    eventually("both links in use again", || {
        let Ok(before) = sent(&pair.joseph, "eth1") else { return false };
        let read = read(&pair.alonzo, "joseph").is_ok_and(|got| got == right);
        pair.joseph.shell(&format!("for i in $(seq {FILES}); do touch /tmp/file$i; done")).is_ok()
            && read
            && sent(&pair.joseph, "eth1").is_ok_and(|now| now > before + 1_000_000)
    })
}

fn files_arrive_intact_when_a_cable_is_pulled_and_put_back() -> Result<()> {
    read_through("ip link set eth1 down", "ip link set eth1 up")
}

fn files_arrive_intact_when_a_link_falls_silent_and_recovers() -> Result<()> {
    let harm = "nft add table netdev lost && \
                nft 'add chain netdev lost out { type filter hook egress device eth1 priority 0; policy drop; }'";
    read_through(harm, "nft delete table netdev lost")
}

cases! {
    two_limited_links_carry_more_than_one_and_a_path_can_choose_one: [
        Need::RootNodes, Need::Fuse, Need::Program("tc"), Need::Program("nsenter"), Need::Program("md5sum")
    ],
    files_arrive_intact_when_a_cable_is_pulled_and_put_back: [
        Need::RootNodes, Need::Fuse, Need::Program("tc"), Need::Program("nsenter"), Need::Program("md5sum")
    ],
    files_arrive_intact_when_a_link_falls_silent_and_recovers: [
        Need::RootNodes, Need::Fuse, Need::Program("tc"), Need::Program("nft"), Need::Program("nsenter"),
        Need::Program("md5sum")
    ],
}
