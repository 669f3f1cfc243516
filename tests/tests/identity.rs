//! Who callers of another node become, and what they may do there: `mapany=`, `maproot=`, `allow=`, `export=`.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use qnet_lab::{Node, Options};
use system_tests::{Need, Pair, refused, shell_as};

const CASES: &[system_tests::Case] = &[
    case("without_options_a_caller_reads_as_nobody_and_changes_nothing", without_options),
    case("allow_write_lets_nobody_change_what_he_may", allow_write),
    case("mapany_makes_every_caller_one_user", mapany),
    case("maproot_maps_root_alone", maproot),
    case("mapany_off_keeps_users_and_all_their_groups", mapany_off),
    case("an_export_may_be_read_only", read_only_export),
    case("setuid_bits_are_shown_and_not_honoured", setuid),
];

const fn case(name: &'static str, run: fn() -> Result<()>) -> system_tests::Case {
    system_tests::Case { name, needs: &[Need::RootNodes, Need::Fuse], run }
}

fn main() -> ExitCode {
    system_tests::main(CASES)
}

/// Two nodes; joseph's `/tmp/d` may be written by everybody.
fn pair(options: &[&str]) -> Result<Pair> {
    let qnet = options.iter().map(ToString::to_string).collect();
    let pair = Pair::up(&Options { qnet, ..Options::default() })?;
    pair.joseph.shell(
        "mkdir -m 777 /tmp/d; cd /tmp/d; echo open >open; echo closed >closed; chmod 600 closed; \
         mkdir -m 755 roots; echo text >roots/f",
    )?;
    Ok(pair)
}

/// Owner and group of a file of the node.
fn owner(node: &Node, path: &str) -> Result<String> {
    Ok(node.shell(&format!("stat -c %u:%g {path}"))?.trim().to_owned())
}

const D: &str = "/net/joseph/tmp/d";

fn without_options() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&[])?;
    ensure!(alonzo.shell(&format!("cat {D}/open"))? == "open\n");
    for line in [
        "cat closed",
        "echo x >new",
        "echo x >>open",
        "mkdir new",
        "rm open",
        "chmod 777 open",
        "touch open",
        "mv open other",
        "ln open other",
        "ln -s x other",
        "cat /net/joseph/proc/1/maps",
        "cat /net/joseph/proc/1/environ",
    ] {
        refused(alonzo, &format!("cd {D} && {line}"), "Permission denied")?;
    }
    let log = joseph.log();
    ensure!(log.matches("allow=write").count() == 1, "the log names what would let him, once: {log}");
    ensure!(joseph.shell("ls /tmp/d")? == "closed\nopen\nroots\n");
    Ok(())
}

fn allow_write() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&["allow=write"])?;
    alonzo.shell(&format!(
        "cd {D} && echo x >new && mkdir dir && ln -s new link && mv new newer && chmod 640 newer"
    ))?;
    ensure!(owner(joseph, "/tmp/d/newer")? == "65534:65534");
    for line in ["echo x >open", "echo x >roots/new", "rm roots/f", "touch roots/f", "cat closed"] {
        refused(alonzo, &format!("cd {D} && {line}"), "Permission denied")?;
    }
    for line in ["chmod 777 open", "chown 0 newer"] {
        refused(alonzo, &format!("cd {D} && {line}"), "Operation not permitted")?;
    }
    refused(alonzo, "cat /net/joseph/proc/1/maps", "Permission denied")?;
    Ok(())
}

fn mapany() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&["mapany=1234"])?;
    alonzo.shell(&format!("echo root >{D}/root"))?;
    shell_as(alonzo, 1001, &format!("echo user >{D}/user && echo more >>{D}/root && rm {D}/user"))?;
    ensure!(owner(joseph, "/tmp/d/root")? == "1234:1234");
    ensure!(joseph.shell("cat /tmp/d/root")? == "root\nmore\n");
    refused(alonzo, &format!("cat {D}/closed"), "Permission denied")?;
    Ok(())
}

fn maproot() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&["maproot=1234"])?;
    alonzo.shell(&format!("echo x >{D}/new"))?;
    ensure!(owner(joseph, "/tmp/d/new")? == "1234:1234");
    ensure!(shell_as(alonzo, 1001, &format!("cat {D}/open"))? == "open\n");
    ensure!(shell_as(alonzo, 1001, &format!("echo x >{D}/other")).is_err());
    ensure!(joseph.shell("ls /tmp/d")? == "closed\nnew\nopen\nroots\n");
    Ok(())
}

fn mapany_off() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&["mapany=off"])?;
    alonzo.shell(&format!("echo x >{D}/roots/new && cat {D}/closed && chown 1001:1002 {D}/roots/new"))?;
    ensure!(owner(joseph, "/tmp/d/roots/new")? == "1001:1002");
    shell_as(alonzo, 1001, &format!("echo more >>{D}/roots/new && ! echo x >{D}/roots/f"))?;
    // a file for the members of a group, of which the caller is one by the last of his forty
    joseph.shell("cd /tmp/d; echo team >team; chown 0:2039 team; chmod 060 team")?;
    let with_groups = |last: u32, line: &str| {
        alonzo.shell(&format!(
            "setpriv --reuid 1001 --regid 1001 --groups $(seq -s, 2000 {last}) sh -c '{line}'"
        ))
    };
    ensure!(with_groups(2039, &format!("cat {D}/team && echo more >>{D}/team"))? == "team\n");
    ensure!(with_groups(2038, &format!("cat {D}/team")).is_err(), "without it he is nobody special");
    ensure!(joseph.shell("cat /tmp/d/team")? == "team\nmore\n");
    // sticky: only the owner removes
    joseph.shell("mkdir -m 1777 /tmp/d/sticky")?;
    shell_as(alonzo, 1001, &format!("echo x >{D}/sticky/f"))?;
    ensure!(shell_as(alonzo, 1002, &format!("rm -f {D}/sticky/f")).is_err());
    shell_as(alonzo, 1001, &format!("rm {D}/sticky/f"))?;
    Ok(())
}

fn read_only_export() -> Result<()> {
    let options = ["mapany=off", "export=/usr:ro", "export=/tmp"];
    let Pair { alonzo, joseph, .. } = &pair(&options)?;
    refused(alonzo, "mkdir /net/joseph/usr/new", "Read-only file system")?;
    refused(alonzo, "touch /net/joseph/usr", "Read-only file system")?;
    refused(alonzo, "mkdir /net/joseph/new", "Read-only file system")?;
    refused(alonzo, "ls /net/joseph/etc", "No such file")?;
    alonzo.shell(&format!("mkdir {D}/new"))?;
    ensure!(joseph.log().matches("export=PATH:ro").count() == 1, "{}", joseph.log());
    Ok(())
}

fn setuid() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &pair(&["mapany=off"])?;
    joseph.shell("cp /usr/bin/id /tmp/d/id; chmod 4755 /tmp/d/id")?;
    ensure!(alonzo.shell(&format!("stat -c %a {D}/id"))? == "4755\n");
    ensure!(shell_as(alonzo, 1001, &format!("{D}/id -u"))? == "1001\n");
    Ok(())
}
