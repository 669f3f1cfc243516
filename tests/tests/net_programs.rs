//! Programs that people use, on the files of another node: each does its work there and finds it right afterwards.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair};

const CASES: &[system_tests::Case] = &[
    case("git_clones_commits_and_checks", "git", git),
    case("tar_packs_and_unpacks", "tar", tar),
    case("rsync_copies_both_ways_and_finds_no_difference", "rsync", rsync),
    case("links_are_the_same_after_tar_rsync_and_git_in_both_modes", "links", links),
    case("sqlite_keeps_its_data_base", "sqlite3", sqlite),
    case("sqlite_of_two_nodes_takes_turns", "sqlite3", sqlite_of_two),
    case("sqlite_with_a_shared_journal_works_on_one_node", "sqlite3", sqlite_wal),
    case("fio_verifies_what_it_wrote", "fio", fio),
    case("cargo_builds_a_crate", "cargo", cargo),
];

/// What each case needs beside nodes.
const fn case(name: &'static str, program: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    let needs: &'static [Need] = match program.as_bytes() {
        b"git" => &[Need::RootNodes, Need::Fuse, Need::Program("git")],
        b"rsync" => &[Need::RootNodes, Need::Fuse, Need::Program("rsync")],
        b"links" => &[Need::RootNodes, Need::Fuse, Need::Program("git"), Need::Program("rsync")],
        b"sqlite3" => &[Need::RootNodes, Need::Fuse, Need::Program("sqlite3")],
        b"fio" => &[Need::RootNodes, Need::Fuse, Need::Program("fio")],
        b"cargo" => &[Need::RootNodes, Need::Fuse, Need::Program("cargo"), Need::Program("cc")],
        _ => &[Need::RootNodes, Need::Fuse],
    };
    system_tests::Case { name, needs, run }
}

fn main() -> std::process::ExitCode {
    system_tests::main(CASES)
}

/// Nodes that believe each other's users; the files are joseph's, in `/tmp/work`.
fn pair(share: Vec<PathBuf>) -> Result<Pair> {
    pair_with(&[], share)
}

/// The same with more options of Qnet.
fn pair_with(options: &[&str], share: Vec<PathBuf>) -> Result<Pair> {
    let qnet = ["mapany=off"].iter().chain(options).map(ToString::to_string).collect();
    let pair = Pair::up(&Options { qnet, share, ..Options::default() })?;
    pair.joseph.shell("mkdir /tmp/work")?;
    Ok(pair)
}

/// Where the files are for alonzo.
const WORK: &str = "/net/joseph/tmp/work";

fn large() -> bool {
    std::env::var_os("IO_PKT_SOAK").is_some()
}

/// A tree of all kinds of files in `/tmp/tree` of a node: programs of ours, small files, links, odd names, modes, times.
fn tree(node: &Node) -> Result<()> {
    node.shell(
        "mkdir -p /tmp/tree && cd /tmp/tree && \
         for d in one two/deep 'with space'; do mkdir -p \"$d\"; for i in $(seq 30); do \
         echo \"$d $i\" >\"$d/file$i\"; done; done && \
         head -c 3000001 /dev/urandom >large && : >empty && mkdir none && mkfifo fifo && \
         truncate -s 5000000000 sparse && printf end | dd of=sparse bs=1 seek=4999999990 conv=notrunc status=none && \
         ln -s one/file1 link && ln -s /etc/hostname absolute && ln -s nowhere dangling && touch -h -d 2020-02-03T04:05:06.789 link absolute dangling && ln large hard && \
         printf x >\"$(printf 'new\\nline')\" && printf x >\"$(printf 'byte\\377')\" && \
         chmod 4711 one/file1 && chmod 2755 two && chmod 1777 none && chmod 400 one/file2 && \
         chown 1001:1002 one/file3 && touch -d 2050-01-02T03:04:05.678901234 one/file4 && touch -d 1965-01-01 one/file5",
    )?;
    Ok(())
}

/// What can be known of a tree: names, types, modes, owners, sizes, times, targets, sums.
fn known(node: &Node, path: &str, without: &str) -> Result<String> {
    let line = format!(
        "cd {path} && find . {without} -printf '%p %y %m %U %G %l %n' \\( -type d -printf '\\n' -o -printf ' %s %T@\\n' \\) | LC_ALL=C sort && \
         find . -type f -size -100M {without} -print0 | LC_ALL=C sort -z | xargs -0 md5sum"
    );
    Ok(node.shell(&line)?)
}

fn same(what: &str, one: &str, other: &str) -> Result<()> {
    let differs = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    ensure!(one == other, "{what}: {differs:?}, {} and {} lines", one.lines().count(), other.lines().count());
    Ok(())
}

fn git() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    let line = format!(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; set -e; \
         git init -q -b main /tmp/origin; cd /tmp/origin; \
         for i in $(seq 60); do mkdir -p d$((i % 7)); seq $i $((i * 50)) >d$((i % 7))/f$i; done; ln -s d1/f1 link; \
         git add .; git commit -q -m first; \
         git clone -q /tmp/origin {WORK}/clone; cd {WORK}/clone; git fsck --full --strict; test -z \"$(git status --porcelain)\"; \
         for i in 1 2 3; do seq $i 9999 >d1/f1; git rm -q d2/f$((i * 7 + 2)); git add .; git commit -q -m $i; done; \
         git mv d3 moved; git commit -q -m moved; git branch side HEAD~2; git checkout -q side; git checkout -q main; \
         git merge -q side; git gc -q; git fsck --full --strict; git reset -q --hard HEAD~1; test -z \"$(git status --porcelain)\"; \
         git push -q origin main:pushed; git rev-parse HEAD"
    );
    let head = alonzo.shell(&line).context("git")?;
    // The node that has the files sees a sound repository, too.
    let theirs = joseph.shell("cd /tmp/work/clone && git fsck --full --strict && git rev-parse HEAD")?;
    same("the commit", head.trim(), theirs.trim())
}

fn tar() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    tree(alonzo)?;
    alonzo.shell(&format!(
        "tar -C /tmp/tree --format=posix -S -cf /tmp/t.tar . && tar -C {WORK} -xpf /tmp/t.tar --same-owner"
    ))?;
    let ours = known(alonzo, "/tmp/tree", "")?;
    same("unpacked on the other node", &ours, &known(joseph, "/tmp/work", "")?)?;
    // By way of /net a FIFO looks like a file, and absolute links mean the node's own files.
    let without = "! -name fifo ! -name absolute";
    same("seen over /net", &known(alonzo, "/tmp/tree", without)?, &known(alonzo, WORK, without)?)?;
    let sparse = joseph.shell("stat -c %b /tmp/work/sparse")?;
    ensure!(sparse.trim().parse::<u64>()? < 1000, "the hole was filled: {sparse} blocks");
    alonzo.shell(&format!(
        "mkdir /tmp/back && cd {WORK} && tar --format=posix -S --exclude fifo --exclude absolute -cf - . | tar -C /tmp/back -xpf - --same-owner"
    ))?;
    same("packed from there", &known(alonzo, "/tmp/tree", without)?, &known(alonzo, "/tmp/back", without)?)?;
    alonzo.shell(&format!("rm -r {WORK}/*"))?;
    ensure!(joseph.shell("ls -A /tmp/work")?.is_empty(), "something is left");
    Ok(())
}

fn rsync() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    tree(alonzo)?;
    // Its hole is read byte by byte.
    alonzo.shell("rm /tmp/tree/fifo /tmp/tree/absolute && truncate -s 3000000 /tmp/tree/sparse")?;
    let options = "-aHS --numeric-ids";
    alonzo.shell(&format!("rsync {options} /tmp/tree/ {WORK}/"))?;
    let ours = known(alonzo, "/tmp/tree", "")?;
    same("copied to the other node", &ours, &known(joseph, "/tmp/work", "")?)?;
    let again = alonzo.shell(&format!("rsync {options} -cin --delete /tmp/tree/ {WORK}/"))?;
    ensure!(again.is_empty(), "it would copy again: {again}");
    // Something changes here and there, and is brought over.
    joseph.shell(
        "cd /tmp/work && echo more >>one/file9 && rm two/deep/file3 && mkdir new && mv one/file7 new/",
    )?;
    alonzo.shell(&format!("rsync {options} --delete {WORK}/ /tmp/tree/"))?;
    same("brought back", &known(alonzo, "/tmp/tree", "")?, &known(joseph, "/tmp/work", "")?)
}

/// Links and their targets; `above` climbs higher than the root.
const LINKS: [(&str, &str); 5] = [
    ("absolute", "/etc/hostname"),
    ("relative", "f"),
    ("dangling", "/no/where"),
    ("up", "../../../etc/hostname"),
    ("above", "../../../../etc/hostname"),
];

fn links() -> Result<()> {
    for mode in ["node", "verbatim"] {
        links_with(mode).with_context(|| format!("symlinks={mode}"))?;
    }
    Ok(())
}

fn links_with(mode: &str) -> Result<()> {
    // `node` is what one has without saying so.
    let option = format!("symlinks={mode}");
    let options: &[&str] = if mode == "node" { &[] } else { &[&option] };
    let Pair { alonzo, joseph, .. } = &pair_with(options, Vec::new())?;
    let make: String = LINKS.iter().map(|(name, target)| format!("; ln -s {target} {name}")).collect();
    joseph.shell(&format!("set -e; mkdir /tmp/work/a; cd /tmp/work/a; echo one >f{make}"))?;
    let read = alonzo.shell(&format!("readlink {WORK}/a/absolute"))?;
    let expected = if mode == "node" { "/net/joseph/etc/hostname\n" } else { "/etc/hostname\n" };
    ensure!(read == expected, "{read}");
    alonzo.shell(&format!(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b; set -e; \
         cd {WORK}; mkdir tar; tar -C a -cf - . | tar -C tar -xf -; rsync -a a/ rsync/; \
         test -z \"$(rsync -acin a/ rsync/)\"; \
         cd a; git init -q -b main; git add .; git commit -q -m links; test -z \"$(git status --porcelain)\"; \
         git clone -q {WORK}/a {WORK}/git; cd {WORK}/git; test -z \"$(git status --porcelain)\""
    ))?;
    for copy in ["a", "tar", "rsync", "git"] {
        for (name, target) in LINKS {
            // What climbed above the node's root read as an absolute path of that node, and is made as one.
            let target =
                if (mode, name) == ("node", "above") && copy != "a" { "/etc/hostname" } else { target };
            let found = joseph.shell(&format!("readlink /tmp/work/{copy}/{name}"))?;
            ensure!(found.trim_end() == target, "{copy}/{name}: {found}");
        }
    }
    Ok(())
}

fn sqlite() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    let rows = if large() { 100_000 } else { 2000 };
    for mode in ["delete", "truncate", "persist"] {
        let line = format!(
            "printf '%s\\n' 'pragma journal_mode={mode};' 'create table if not exists t(i integer primary key, s text);' \
             'begin;' >/tmp/sql; for i in $(seq {rows}); do echo \"insert into t(s) values('row $i');\"; done >>/tmp/sql; \
             printf '%s\\n' 'commit;' 'begin;' 'delete from t;' 'rollback;' \"update t set s='one' where i=1;\" \
             'pragma integrity_check;' 'select count(*) from t;' >>/tmp/sql; sqlite3 -bail {WORK}/base.db </tmp/sql | tail -2"
        );
        let said = alonzo.shell(&line).with_context(|| mode.to_owned())?;
        ensure!(said.starts_with("ok\n"), "{mode}: {said}");
    }
    let said = joseph.shell("sqlite3 /tmp/work/base.db 'pragma integrity_check; select count(*) from t'")?;
    ensure!(said == format!("ok\n{}\n", 3 * rows), "{said}");
    Ok(())
}

/// Both count in one data base, transaction by transaction; locks make them take turns.
fn sqlite_of_two() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    let each = if large() { 2000 } else { 25 };
    let base = format!("{WORK}/base.db");
    alonzo.shell(&format!("sqlite3 {base} 'create table t(n integer); insert into t values(0)'"))?;
    let line = format!(
        "for i in $(seq {each}); do sqlite3 -cmd '.timeout 60000' {base} \
         'begin immediate; update t set n = n + 1; commit' || exit 1; done"
    );
    let start = |node: &Node| {
        let mut command: Command = node.command("sh");
        command.args(["-c", &line]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn()
    };
    let counters = [start(alonzo)?, start(joseph)?];
    for counter in counters {
        let output = counter.wait_with_output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let said = joseph.shell("sqlite3 /tmp/work/base.db 'pragma integrity_check; select n from t'")?;
    ensure!(said == format!("ok\n{}\n", 2 * each), "{said}");
    Ok(())
}

/// The journal that programs of one node share by memory: two of them write, and the other node finds all of it.
fn sqlite_wal() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(Vec::new())?;
    let each = if large() { 2000 } else { 50 };
    let base = format!("{WORK}/base.db");
    let mode = alonzo.shell(&format!(
        "sqlite3 {base} 'pragma journal_mode=wal; create table t(n integer); insert into t values(0)'"
    ))?;
    ensure!(mode == "wal\n", "{mode}");
    let line = format!(
        "count() {{ for i in $(seq {each}); do sqlite3 -cmd '.timeout 60000' {base} \
         'begin immediate; update t set n = n + 1; commit' || exit 1; done; }}; \
         count & first=$!; count & second=$!; wait $first && wait $second"
    );
    alonzo.shell(&line)?;
    let said = alonzo.shell(&format!("sqlite3 {base} 'pragma integrity_check; select n from t'"))?;
    ensure!(said == format!("ok\n{}\n", 2 * each), "{said}");
    let said = joseph.shell("sqlite3 /tmp/work/base.db 'pragma integrity_check; select n from t'")?;
    ensure!(said == format!("ok\n{}\n", 2 * each), "the node that has the file: {said}");
    Ok(())
}

fn fio() -> Result<()> {
    let Pair { alonzo, .. } = &pair(Vec::new())?;
    let size = if large() { "1g" } else { "4m" };
    for (name, options) in [
        ("random", "--rw=randwrite --bs=4k --ioengine=psync"),
        ("direct", "--rw=randrw --bsrange=512-64k --bs_unaligned --direct=1 --ioengine=psync"),
        ("mapped", "--rw=randwrite --bs=4k --ioengine=mmap"),
        ("many", "--rw=randwrite --bs=16k --ioengine=libaio --iodepth=16 --direct=1"),
        ("long", "--rw=write --bs=1m --ioengine=psync --fsync=4"),
    ] {
        let line = format!(
            "cd {WORK} && fio --name={name} --filename={name} --size={size} {options} --verify=crc32c \
             --verify_fatal=1 --randseed=7 --output=/tmp/fio.txt || {{ cat /tmp/fio.txt; exit 1; }} 1>&2"
        );
        alonzo.shell(&line).with_context(|| name.to_owned())?;
    }
    Ok(())
}

/// The folder of the compiler that is in use.
fn toolchain() -> Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("rustc")?;
    ensure!(output.status.success(), "rustc --print sysroot: {output:?}");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

fn cargo() -> Result<()> {
    let toolchain = toolchain()?;
    if !toolchain.join("bin/cargo").is_file() {
        bail!("{}: no cargo beside its rustc", toolchain.display());
    }
    let Pair { alonzo, joseph, .. } = &pair(vec![toolchain.clone()])?;
    let line = format!(
        "export PATH={}/bin:$PATH CARGO_HOME=/tmp/cargo; set -e; cd {WORK}; \
         cargo new -q --vcs none --name small small; cd small; mkdir -p inner/src; \
         printf '[package]\\nname = \"inner\"\\nedition = \"2024\"\\n' >inner/Cargo.toml; \
         echo 'pub fn answer() -> u32 {{ 42 }}' >inner/src/lib.rs; \
         echo 'inner = {{ path = \"inner\" }}' >>Cargo.toml; \
         echo 'fn main() {{ println!(\"{{}}\", inner::answer()); }}' >src/main.rs; \
         cargo run -q --offline; sed -i s/42/43/ inner/src/lib.rs; cargo run -q --offline",
        toolchain.display()
    );
    let said = alonzo.shell(&line)?;
    ensure!(said == "42\n43\n", "{said}");
    ensure!(joseph.shell("/tmp/work/small/target/debug/small")? == "43\n");
    Ok(())
}
