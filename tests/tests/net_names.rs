//! `/net` by its names: one node by several of them, the own node, names that nobody has, and what is refused.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qnet_lab::Options;
use system_tests::{Need, Pair, cases, eventually, refused};

fn up() -> Result<Pair> {
    Pair::up(&Options { qnet: vec!["mapany=off".to_owned()], ..Options::default() })
}

/// Reads a byte, has `change` done, and reads the next byte through the same descriptor, which has the page in its cache.
fn read_meanwhile(path: &str, change: &str) -> String {
    format!(
        "exec 3<{path}; dd bs=1 count=1 <&3 2>/dev/null; {change} || exit 1; dd bs=1 count=1 <&3 2>/dev/null"
    )
}

fn a_file_is_one_file_by_all_names_of_its_node() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir -m 777 /tmp/d && printf ab >/tmp/d/f")?;
    let names = ["joseph", "joseph~loadbalance", "joseph~preferred:en0", "joseph~exclusive:en0"];
    let paths = names.map(|name| format!("/net/{name}/tmp/d/f"));
    let numbers = alonzo.shell(&format!("stat -c %i {}", paths.join(" ")))?;
    let mut numbers: Vec<_> = numbers.lines().collect();
    ensure!(numbers.len() == 4);
    numbers.dedup();
    ensure!(numbers.len() == 1, "{numbers:?}");
    for (at, path) in paths.iter().enumerate() {
        let other = &paths[(at + 1) % paths.len()];
        joseph.shell("printf ab >/tmp/d/f")?;
        let write = format!("printf X | dd of={other} bs=1 seek=1 conv=notrunc 2>/dev/null");
        ensure!(alonzo.shell(&read_meanwhile(path, &write))? == "aX", "{path}, written by {other}");
    }
    let [one, other, ..] = paths.each_ref().map(|path| path.trim_end_matches("/f"));
    alonzo.shell(&format!("mv {one}/f {other}/g && ln {other}/g {one}/h"))?;
    ensure!(joseph.shell("ls /tmp/d")? == "g\nh\n");
    refused(alonzo, &format!("ln {one}/g /net/alonzo/tmp/g"), "Invalid cross-device link")?;
    Ok(())
}

fn what_is_made_and_removed_by_one_name_is_so_by_all() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir -m 777 /tmp/d")?;
    let (one, other) = ("/net/joseph/tmp/d", "/net/joseph~loadbalance/tmp/d");
    for turn in 0..20 {
        let (one, other) = if turn % 2 == 0 { (one, other) } else { (other, one) };
        // each looks first, so that what it saw may be remembered
        let made = alonzo.shell(&format!("! test -e {other}/{turn} && echo x >{one}/{turn}; echo made"))?;
        ensure!(made == "made\n");
        // (kernels before 6.16 remember it for a second)
        eventually("the new file", || {
            alonzo.shell(&format!("cat {other}/{turn}")).is_ok_and(|text| text == "x\n")
        })?;
        alonzo.shell(&format!("test -e {other}/{turn} && rm {one}/{turn}"))?;
        eventually("its end", || alonzo.shell(&format!("! test -e {other}/{turn}")).is_ok())?;
    }
    Ok(())
}

fn the_own_node_is_seen_through_net() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    alonzo.shell("mkdir /tmp/d && printf ab >/tmp/d/f")?;
    let write = "printf X | dd of=/net/alonzo~loadbalance/tmp/d/f bs=1 seek=1 conv=notrunc 2>/dev/null";
    ensure!(alonzo.shell(&read_meanwhile("/net/alonzo/tmp/d/f", write))? == "aX");
    ensure!(alonzo.shell("cat /tmp/d/f")? == "aX");
    alonzo.shell("echo local >/tmp/d/f")?;
    ensure!(alonzo.shell("cat /net/alonzo/tmp/d/f")? == "local\n");
    alonzo.shell(
        "mv /net/alonzo/tmp/d/f /net/alonzo/tmp/d/g && rm /net/alonzo/tmp/d/g && rmdir /net/alonzo/tmp/d",
    )?;
    ensure!(alonzo.shell("ls -A /tmp")?.lines().all(|name| name != "d"));
    Ok(())
}

fn a_name_that_nobody_has_is_told_soon() -> Result<()> {
    let Pair { alonzo, .. } = &up()?;
    // a second is promised; a busy machine has ten
    for name in ["nobody", "nobody.lab", "nobody~preferred:en0"] {
        let begun = Instant::now();
        refused(alonzo, &format!("cat /net/{name}/etc/hostname"), "No such file or directory")?;
        ensure!(begun.elapsed() < Duration::from_secs(10), "{name}: {:?}", begun.elapsed());
    }
    refused(alonzo, "ls /net/joseph~sideways", "Invalid argument")?;
    refused(alonzo, "mkdir /net/nobody", "Read-only file system")?;
    refused(alonzo, "rmdir /net/alonzo", "Device or resource busy").map(drop)
}

fn one_of_two_nodes_makes_a_file_with_o_excl() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir -m 777 /tmp/d")?;
    let race = |name: &str| {
        format!(
            "set -C; for i in $(seq 200); do (echo {name} >/net/joseph/tmp/d/$i) 2>/dev/null && echo $i; done; true"
        )
    };
    let (ours, theirs) = std::thread::scope(|scope| {
        let other = scope.spawn(|| joseph.shell(&race("joseph")));
        (alonzo.shell(&race("alonzo")), other.join())
    });
    let theirs = theirs.map_err(|_| anyhow::anyhow!("a thread"))??;
    for (who, made) in [("alonzo", &ours?), ("joseph", &theirs)] {
        let found = joseph.shell(&format!("cd /tmp/d && grep -l {who} * | sort -n; true"))?;
        ensure!(found == *made, "{who} made {made} and they hold {found}");
    }
    ensure!(joseph.shell("ls /tmp/d | wc -l")? == "200\n");
    Ok(())
}

fn what_net_has_no_words_for_is_refused() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    joseph.shell("mkdir -m 777 /tmp/d && head -c 65536 /dev/zero >/tmp/d/f && chmod 666 /tmp/d/f")?;
    for how in ["--collapse-range", "--insert-range"] {
        let line = format!("fallocate {how} -o 0 -l 4096 /net/joseph/tmp/d/f");
        refused(alonzo, &line, "not supported")?;
    }
    ensure!(joseph.shell("stat -c %s /tmp/d/f")? == "65536\n");
    refused(alonzo, "mknod /net/joseph/tmp/d/null c 1 3", "Operation not permitted")?;
    refused(alonzo, "ln /net/joseph/tmp/d/f /net/alonzo/tmp/f", "Invalid cross-device link")?;
    Ok(())
}

fn the_file_system_of_a_path_is_told_as_its_node_tells_it() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &up()?;
    // of what nobody writes to, so that it stays as it is
    joseph
        .shell("mkdir /tmp/m && mount -t tmpfs -o size=8m,nr_inodes=500 none /tmp/m && echo x >/tmp/m/f")?;
    for path in ["tmp/m", "tmp/m/f"] {
        let told = |node: &qnet_lab::Node, path: &str| {
            node.shell(&format!("stat -f -c '%b %f %a %c %d %s %l' {path}"))
        };
        ensure!(
            told(alonzo, &format!("/net/joseph/{path}"))? == told(joseph, &format!("/{path}"))?,
            "{path}"
        );
    }
    Ok(())
}

cases! {
    a_file_is_one_file_by_all_names_of_its_node: [Need::RootNodes, Need::Fuse],
    what_is_made_and_removed_by_one_name_is_so_by_all: [Need::RootNodes, Need::Fuse],
    the_own_node_is_seen_through_net: [Need::RootNodes, Need::Fuse],
    a_name_that_nobody_has_is_told_soon: [Need::RootNodes, Need::Fuse],
    one_of_two_nodes_makes_a_file_with_o_excl: [Need::RootNodes, Need::Fuse],
    what_net_has_no_words_for_is_refused: [Need::RootNodes, Need::Fuse, Need::Program("fallocate")],
    the_file_system_of_a_path_is_told_as_its_node_tells_it: [Need::RootNodes, Need::Fuse],
}
