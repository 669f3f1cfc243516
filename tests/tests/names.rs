//! Names and ways to nodes: domains, several network directories, resolvers, routers, entries that leave.

use anyhow::{Context, Result, ensure};
use qnet_lab::{Lab, Node, Options, Start};
use system_tests::{Need, PATIENCE, Pair, cases, eventually, refused, shell_as};

/// Nodes without io-pkt, which each test starts as it needs them.
fn bare(count: usize) -> Result<(Lab, Vec<Node>)> {
    let lab = Lab::temporary()?;
    let nodes = lab.up(count, &Options { start: false, ..Options::default() })?;
    Ok((lab, nodes))
}

fn listing(node: &Node, folder: &str) -> Vec<String> {
    node.shell(&format!("ls {folder}")).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn lists(node: &Node, folder: &str, expected: &[&str]) -> Result<()> {
    let what = format!("{expected:?} in {folder} of {}", node.name());
    eventually(&what, || listing(node, folder) == expected)
}

/// Starts io-pkt with Qnet alone, over the Internet protocol.
fn start_routed(node: &Node, qnet: &str) -> Result<()> {
    let args = ["-p", "qnet", qnet].map(str::to_owned).to_vec();
    node.start(&Start { args })?;
    node.wait_for(&format!("/net/{}", node.name()), PATIENCE)?;
    Ok(())
}

/// alonzo in 10.91.1.0/24, joseph in 10.91.2.0/24, eileen between them; IPv6 likewise. The way to joseph is narrow.
fn routed() -> Result<(Lab, Vec<Node>)> {
    let (lab, nodes) = bare(3)?;
    let [alonzo, joseph, eileen] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    let device =
        eileen.shell("ip -o link show up | grep -v ' lo:' | cut -d: -f2 | cut -d@ -f1 | tr -d ' '")?;
    let device = device.trim();
    for node in &nodes {
        node.shell(&format!(
            "for c in all {device}; do echo 0 >/proc/sys/net/ipv6/conf/$c/disable_ipv6; done"
        ))?;
    }
    for (node, net) in [(alonzo, 1), (joseph, 2)] {
        node.shell(&format!(
            "ip -4 addr flush dev {device} && ip addr add 10.91.{net}.2/24 dev {device} && \
             ip addr add fd91:{net}::2/64 dev {device} nodad && \
             ip route add default via 10.91.{net}.1 && ip -6 route add default via fd91:{net}::1"
        ))?;
    }
    eileen.shell(&format!(
        "ip -4 addr flush dev {device} && \
         for n in 1 2; do ip addr add 10.91.$n.1/24 dev {device}; ip addr add fd91:$n::1/64 dev {device} nodad; done && \
         ip route change 10.91.2.0/24 dev {device} mtu 1300 && \
         ip -6 route del fd91:2::/64 dev {device} && ip -6 route add fd91:2::/64 dev {device} mtu 1300 && \
         echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects && echo 0 >/proc/sys/net/ipv4/conf/{device}/send_redirects && \
         echo 1 >/proc/sys/net/ipv4/ip_forward && echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
    ))?;
    Ok((lab, nodes))
}

fn hosts(nodes: &[Node], lines: &str) -> Result<()> {
    for node in nodes {
        node.shell(&format!("printf '127.0.0.1 localhost\\n{lines}' >/etc/hosts"))?;
    }
    Ok(())
}

fn qnet_crosses_a_router(carrier: &str, family: u32) -> Result<()> {
    let (_lab, nodes) = routed()?;
    let address = |net: u32| if family == 4 { format!("10.91.{net}.2") } else { format!("fd91:{net}::2") };
    hosts(&nodes, &format!("{} alonzo\\n{} joseph\\n", address(1), address(2)))?;
    let [alonzo, joseph, _] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    for node in [alonzo, joseph] {
        start_routed(node, &format!("bind={carrier},resolve=dns"))?;
    }
    ensure!(listing(alonzo, "/net") == ["alonzo"], "there is no broadcast: {:?}", listing(alonzo, "/net"));
    // The router's own IPv6 addresses are not in use at once.
    let read = || alonzo.shell("cat /net/joseph/etc/hostname").is_ok_and(|text| text == "joseph\n");
    eventually("joseph behind the router", read)?;
    ensure!(listing(alonzo, "/net") == ["alonzo", "joseph"]);
    // Larger than the narrow way carries in one packet, in both directions.
    for (from, to) in [(alonzo, joseph), (joseph, alonzo)] {
        to.shell("head -c 3000001 /dev/urandom >/tmp/big")?;
        let there = to.shell("sha256sum </tmp/big")?;
        let here = from.shell(&format!("sha256sum </net/{}/tmp/big", to.name()))?;
        ensure!(there == here, "{carrier}: there {there} here {here}");
    }
    refused(alonzo, "ls /net/nobody", "No such file or directory")?;
    Ok(())
}

fn ip_carries_qnet_across_a_router() -> Result<()> {
    qnet_crosses_a_router("ip", 4)
}

fn ipv6_carries_qnet_across_a_router() -> Result<()> {
    qnet_crosses_a_router("ip", 6)
}

fn udp_carries_qnet_across_a_router() -> Result<()> {
    qnet_crosses_a_router("udp", 4)
}

fn udp_over_ipv6_at_another_port_carries_qnet_across_a_router() -> Result<()> {
    qnet_crosses_a_router("udp:4242", 6)
}

fn packets_on_a_narrow_way_are_not_cut_on_it() -> Result<()> {
    let (_lab, nodes) = routed()?;
    hosts(&nodes, "10.91.1.2 alonzo\\n10.91.2.2 joseph\\n")?;
    let [alonzo, joseph, _] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    for node in [alonzo, joseph] {
        start_routed(node, "bind=ip,resolve=dns,mapany=off")?;
    }
    joseph.shell("head -c 2000000 /dev/urandom >/tmp/big")?;
    alonzo.shell("head -c 2000000 /dev/urandom >/tmp/big")?;
    let fragments = |node: &Node| -> Result<u64> {
        let text = node.shell("grep ^Ip: /proc/net/snmp | tail -1")?;
        // ReasmReqds: fragments that had to be put together.
        Ok(text.split_whitespace().nth(14).and_then(|word| word.parse().ok()).unwrap_or(u64::MAX))
    };
    // Its path is learned with the first large packet; from then on joseph gets no pieces.
    let learned = || -> bool {
        let before = fragments(joseph);
        let read = joseph.shell("cat /net/alonzo/tmp/big | wc -c");
        matches!((before, read, fragments(joseph)), (Ok(a), Ok(_), Ok(b)) if a == b)
    };
    eventually("packets that fit", learned)
}

fn two_domains_list_their_own_nodes_bare() -> Result<()> {
    let (_lab, nodes) = bare(3)?;
    for (node, domain) in nodes.iter().zip(["lab.example", "lab.example", "works.example"]) {
        node.start(&node.usual_start(&[format!("domain={domain}")]))?;
    }
    let [alonzo, joseph, eileen] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    lists(alonzo, "/net", &["alonzo", "eileen.works.example", "joseph"])?;
    lists(eileen, "/net", &["alonzo.lab.example", "eileen", "joseph.lab.example"])?;
    for name in ["joseph", "joseph.lab.example"] {
        ensure!(alonzo.shell(&format!("cat /net/{name}/etc/hostname"))? == "joseph\n", "{name}");
    }
    ensure!(joseph.shell("cat /net/eileen.works.example/etc/hostname")? == "eileen\n");
    refused(joseph, "ls /net/eileen", "No such file or directory").map(|_| ())
}

fn each_network_directory_has_its_domain_and_its_resolvers() -> Result<()> {
    let (_lab, nodes) = bare(2)?;
    let [alonzo, joseph] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    joseph.start(&joseph.usual_start(&["domain=works.example".into(), "auto_add=0".into()]))?;
    joseph.wait_for("/net/joseph", PATIENCE)?;
    let mac = joseph.shell("cat /dev/io-net/en0 | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}' | head -1")?;
    alonzo.shell("printf '# nobody yet\\n' >/etc/qnet_hosts")?;
    let options = "domain=lab.example,auto_add=0,mount=/net,resolve=file,mount=/far:works.example";
    alonzo.start(&alonzo.usual_start(&[options.to_owned()]))?;
    alonzo.wait_for("/far/alonzo.lab.example", PATIENCE)?;
    lists(alonzo, "/net", &["alonzo"])?;
    refused(alonzo, "ls /far/joseph", "No such file or directory")?;
    // The file is read again when it has changed.
    alonzo.shell(&format!("printf 'joseph.works.example {}\\n' >/etc/qnet_hosts", mac.trim()))?;
    eventually("joseph in the file", || {
        alonzo.shell("cat /far/joseph/etc/hostname").is_ok_and(|text| text == "joseph\n")
    })?;
    lists(alonzo, "/far", &["alonzo.lab.example", "joseph"])?;
    lists(alonzo, "/net", &["alonzo", "joseph.works.example"])?;
    ensure!(alonzo.shell("readlink -f /far/joseph/etc/hostname")?.starts_with("/far/joseph/"));
    let mounts = alonzo.shell("grep -c fuse.qnet /proc/self/mounts")?;
    ensure!(mounts == "2\n", "{mounts}");
    Ok(())
}

fn a_loadable_resolver_finds_nodes() -> Result<()> {
    let (_lab, nodes) = bare(2)?;
    let [alonzo, joseph] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    joseph.start(&joseph.usual_start(&["auto_add=0".into()]))?;
    joseph.wait_for("/net/joseph", PATIENCE)?;
    let mac = joseph.shell("cat /dev/io-net/en0 | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}' | head -1")?;
    let options = format!("auto_add=0,resolve=static:joseph={}", mac.trim());
    alonzo.start(&alonzo.usual_start(&[options]))?;
    alonzo.wait_for("/net/alonzo", PATIENCE)?;
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n", "{}", alonzo.log());
    refused(alonzo, "ls /net/karl", "No such file or directory")?;
    ensure!(alonzo.log().contains("uses nr-static of "), "{}", alonzo.log());
    Ok(())
}

fn a_resolver_that_cannot_be_had_is_named() -> Result<()> {
    let (_lab, nodes) = bare(1)?;
    let node = &nodes[0];
    for (options, sentence) in [
        ("resolve=nosuch", "resolve=nosuch: nosuch: no such module"),
        ("resolve=static:joseph", "resolve=static: `joseph`: NODE=ADDRESS"),
        (
            "resolve=static:joseph=02:00:00:00:00:01,resolve=dns",
            "resolve=dns: it finds addresses of the Internet",
        ),
    ] {
        let error = node.start(&node.usual_start(&[options.to_owned()])).err();
        let said = format!("{error:?} {}", node.log());
        ensure!(said.contains(sentence), "{options}: {said}");
    }
    Ok(())
}

fn a_struck_off_node_comes_back_when_it_is_used() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::up(&Options::default())?;
    shell_as(alonzo, 1000, "! rmdir /net/joseph 2>/dev/null")?;
    lists(alonzo, "/net", &["alonzo", "joseph"])?;
    refused(alonzo, "rmdir /net/alonzo", "Device or resource busy")?;
    alonzo.shell("rmdir /net/joseph")?;
    lists(alonzo, "/net", &["alonzo"])?;
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    lists(alonzo, "/net", &["alonzo", "joseph"])
}

fn listing_with_attributes_sweeps_dead_nodes_out() -> Result<()> {
    let pair = Pair::up(&Options::default())?;
    pair.lab.down_node("joseph")?;
    // Its farewell may have been lost with it.
    eventually("joseph is found dead", || {
        let _dead = pair.alonzo.shell("ls -l /net");
        listing(&pair.alonzo, "/net") == ["alonzo"]
    })
}

fn a_changed_host_name_is_followed() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::up(&Options::default())?;
    ensure!(alonzo.shell("cat /net/joseph/etc/hostname")? == "joseph\n");
    joseph.shell("echo karl >/proc/sys/kernel/hostname")?;
    lists(alonzo, "/net", &["alonzo", "karl"])?;
    lists(joseph, "/net", &["alonzo", "karl"])?;
    ensure!(alonzo.shell("cat /net/karl/etc/hostname")? == "joseph\n");
    Ok(())
}

/// The lab's wire is a bridge of Linux, which learns where an address is from who spoke from it last.
fn of_two_nodes_of_one_address_one_takes_another_and_all_reach_each_other() -> Result<()> {
    let (_lab, nodes) = bare(3)?;
    let [alonzo, joseph, _] = &nodes[..] else { anyhow::bail!("{} nodes", nodes.len()) };
    let address = alonzo.shell("ip -o link show eth0 | grep -o 'ether [^ ]*' | cut -c7-")?;
    joseph.shell(&format!("ip link set eth0 address {address}"))?;
    joseph.start(&joseph.usual_start(&[]))?;
    for node in nodes.iter().filter(|node| node.name() != "joseph") {
        node.start(&node.usual_start(&[]))?;
    }
    for from in &nodes {
        for to in &nodes {
            let read = || from.shell(&format!("cat /net/{}/etc/hostname", to.name()));
            let what = format!("{} for {}", to.name(), from.name());
            eventually(&what, || read().is_ok_and(|text| text.trim_end() == to.name()))?;
        }
    }
    // Either may count as the newcomer: they start within the same seconds.
    let logs = format!("{}{}", alonzo.log(), joseph.log());
    ensure!(logs.contains("two nodes have the address"), "{logs}");
    let moves = |node: &&Node| node.log().contains("en0: Qnet takes the address 02:ea:");
    let moved = [alonzo, joseph].into_iter().find(moves).with_context(|| format!("one moves:\n{logs}"))?;
    // The card hears the new address as well.
    let heard = moved.shell("bridge fdb show dev eth0")?;
    ensure!(heard.contains("02:ea:"), "{heard}");
    Ok(())
}

cases! {
    ip_carries_qnet_across_a_router: [Need::RootNodes, Need::Fuse],
    ipv6_carries_qnet_across_a_router: [Need::RootNodes, Need::Fuse],
    udp_carries_qnet_across_a_router: [Need::RootNodes, Need::Fuse],
    udp_over_ipv6_at_another_port_carries_qnet_across_a_router: [Need::RootNodes, Need::Fuse],
    packets_on_a_narrow_way_are_not_cut_on_it: [Need::RootNodes, Need::Fuse],
    two_domains_list_their_own_nodes_bare: [Need::Nodes, Need::Fuse],
    each_network_directory_has_its_domain_and_its_resolvers: [Need::RootNodes, Need::Fuse],
    a_loadable_resolver_finds_nodes: [Need::RootNodes, Need::Fuse],
    a_resolver_that_cannot_be_had_is_named: [Need::RootNodes],
    a_struck_off_node_comes_back_when_it_is_used: [Need::RootNodes, Need::Fuse],
    listing_with_attributes_sweeps_dead_nodes_out: [Need::Nodes, Need::Fuse],
    a_changed_host_name_is_followed: [Need::RootNodes, Need::Fuse],
    of_two_nodes_of_one_address_one_takes_another_and_all_reach_each_other: [Need::RootNodes, Need::Fuse],
}
