//! The lab itself: nodes are apart from each other and from the machine, and leave nothing behind.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use qnet_lab::{Isolation, Lab, Options, Wire};
use system_tests::{Need, Pair, cases, eventually};

const NOBODY: u32 = 65534;

fn nodes_have_their_own_names_and_files() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    ensure!(alonzo.shell("hostname; cat /etc/hostname")? == "alonzo\nalonzo\n");
    ensure!(joseph.shell("hostname; cat /etc/hostname")? == "joseph\njoseph\n");
    alonzo.shell("touch /tmp/here /run/here /root/here; mkdir /dev/io-net /net")?;
    let left = joseph.shell("ls -d /tmp/here /run/here /root/here /dev/io-net /net 2>/dev/null | wc -l")?;
    ensure!(left.trim() == "0", "{left}");
    ensure!(alonzo.shell("touch /usr/here 2>/dev/null || echo refused")? == "refused\n");
    Ok(())
}

fn nodes_see_only_their_own_processes() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    let mut sleeper = alonzo.command("sleep").arg("1000").spawn()?;
    eventually("the sleeper", || alonzo.shell("pgrep -x sleep").is_ok())?;
    ensure!(joseph.shell("pgrep -x sleep").is_err(), "joseph sees alonzo's process");
    sleeper.kill()?;
    sleeper.wait()?;
    eventually("the end of the sleeper", || alonzo.shell("pgrep -x sleep").is_err())
}

fn nodes_reach_each_other_over_the_switch() -> Result<()> {
    let Pair { alonzo, joseph, .. } = &Pair::bare()?;
    alonzo.shell(&format!("ping -c 1 -w 20 {}", joseph.address()))?;
    let interfaces = alonzo.shell("ls /sys/class/net")?;
    ensure!(interfaces == "eth0\nlo\n", "{interfaces}");
    Ok(())
}

fn a_tap_device_hangs_on_the_same_switch() -> Result<()> {
    let options = Options { start: false, wire: Wire::Tap, ..Options::default() };
    let Pair { alonzo, joseph, .. } = &Pair::start(&options)?;
    ensure!(alonzo.shell("ls /sys/class/net/cable0/brif")? == "eth0\ntap0\n");
    alonzo.shell(&format!("ping -c 1 -w 20 {}", joseph.address()))?;
    Ok(())
}

fn the_status_of_a_program_is_handed_on() -> Result<()> {
    let Pair { alonzo, .. } = &Pair::bare()?;
    let status =
        |line: &str| -> Result<Option<i32>> { Ok(alonzo.command("sh").args(["-c", line]).status()?.code()) };
    ensure!(status("exit 7")? == Some(7));
    ensure!(status("kill -9 $$")? == Some(128 + 9));
    let missing = alonzo.command("no-such-program").stderr(Stdio::null()).status()?.code();
    ensure!(missing == Some(127), "{missing:?}");
    Ok(())
}

fn everything_is_gone_after_down() -> Result<()> {
    let lab = Lab::temporary()?;
    lab.up(2, &Options { start: false, ..Options::default() })?;
    let dir = lab.state().dir().to_owned();
    let mut processes: Vec<_> = lab.state().nodes()?.iter().filter_map(|node| node.holder).collect();
    processes.extend(lab.state().lab()?.and_then(|lab| lab.switch));
    ensure!(processes.len() == 3 && processes.iter().all(qnet_lab::Process::is_alive));
    lab.down()?;
    ensure!(!dir.exists() && !processes.iter().any(qnet_lab::Process::is_alive));
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&*dir.to_string_lossy()), "a mount is left");
    lab.down().context("a second down does nothing")
}

fn a_node_can_go_and_another_come() -> Result<()> {
    let lab = Lab::temporary()?;
    let options = Options { start: false, ..Options::default() };
    lab.up(2, &options)?;
    lab.down_node("alonzo")?;
    ensure!(
        lab.node("alonzo").is_err_and(|error| error.to_string() == "alonzo: no such node; there are: joseph")
    );
    lab.up_named(&["ruth".to_owned()], &options)?;
    let (joseph, ruth) = (lab.node("joseph")?, lab.node("ruth")?);
    ruth.shell(&format!("ping -c 1 -w 20 {}", joseph.address()))?;
    Ok(())
}

fn what_a_killed_lab_left_is_cleaned_by_the_next() -> Result<()> {
    let lab = Lab::temporary()?;
    let options = Options { start: false, ..Options::default() };
    lab.up(1, &options)?;
    let record = lab.state().lab()?.context("a record")?;
    let mut processes: Vec<_> = lab.state().nodes()?.iter().filter_map(|node| node.holder).collect();
    processes.extend(record.switch);
    for process in processes {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid), nix::sys::signal::Signal::SIGKILL)?;
        eventually("the end of a holder", || !process.is_alive())?;
    }
    let nodes = lab.up(1, &options)?;
    ensure!(nodes.len() == 1 && nodes[0].shell("hostname")? == "alonzo\n");
    Ok(())
}

/// The program `qnet-lab`: tests lie in a folder below it.
fn program() -> Result<PathBuf> {
    let test = fs::canonicalize(std::env::current_exe()?)?;
    Ok(test.ancestors().nth(2).context("target/debug")?.join("qnet-lab"))
}

/// The built programs where everybody may reach them: a clone in root's home is closed to others.
struct PublicPrograms {
    folder: tempfile::TempDir,
}

impl PublicPrograms {
    fn new() -> Result<Self> {
        let built = program()?.parent().context("target/debug")?.to_owned();
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        for entry in fs::read_dir(&built)? {
            let entry = entry?;
            let (from, to) = (entry.path(), folder.path().join(entry.file_name()));
            let is_program = entry.file_type()?.is_file() && entry.metadata()?.mode() & 0o111 != 0;
            if is_program && fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            }
        }
        Ok(Self { folder })
    }

    fn lab(&self) -> PathBuf {
        self.folder.path().join("qnet-lab")
    }
}

/// Runs the program `lab` as a user without any privilege.
fn as_nobody(lab: &Path, state: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new(lab);
    command.arg("--state").arg(state).args(args).current_dir("/").env_remove("XDG_RUNTIME_DIR");
    let output = command.uid(NOBODY).gid(NOBODY).output()?;
    if !output.status.success() {
        bail!("qnet-lab {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn without_root_nodes_live_in_user_namespaces() -> Result<()> {
    let state = PathBuf::from(format!("/tmp/qnet-lab-nobody-{}", std::process::id()));
    let programs = PublicPrograms::new()?;
    let as_nobody = |args: &[&str]| as_nobody(&programs.lab(), &state, args);
    let result = (|| {
        as_nobody(&["up", "2", "--bare"])?;
        let status = as_nobody(&["status"])?;
        ensure!(status.contains(&format!("{:?}", Isolation::UserNamespaces)), "{status}");
        let who = as_nobody(&["exec", "joseph", "--", "sh", "-c", "id -u; hostname; cat /etc/hostname"])?;
        ensure!(who == "0\njoseph\njoseph\n", "{who}");
        as_nobody(&["exec", "joseph", "--", "ping", "-c", "1", "-w", "20", "10.137.0.2"])?;
        Ok(())
    })();
    as_nobody(&["down"])?;
    ensure!(!state.exists());
    result
}

/// Runs `qnet-lab` where no namespace can be made any more: in one whose limits are 0.
fn without_namespaces(line: &str) -> Result<std::process::Output> {
    let limits = "for n in user net; do echo 0 >/proc/sys/user/max_${n}_namespaces; done; exec";
    let program = program()?;
    let line = format!("{limits} {} {line}", program.display());
    Ok(Command::new("unshare").args(["-Urm", "sh", "-c", &line]).current_dir("/").output()?)
}

fn forbidden_namespaces_are_told_with_their_cure() -> Result<()> {
    let state = std::env::temp_dir().join(format!("qnet-lab-limits-{}", std::process::id()));
    let output = without_namespaces(&format!("--state {} up 2 --bare", state.display()))?;
    let _ = fs::remove_dir_all(&state);
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    for part in ["user.max_user_namespaces = 0", "sudo sysctl -w user.max_user_namespaces=", "--wire segment"]
    {
        ensure!(text.contains(part), "{part} is not in: {text}");
    }
    Ok(())
}

fn a_user_namespace_that_cannot_be_had_is_told_with_its_cure() -> Result<()> {
    let state = std::env::temp_dir().join(format!("qnet-lab-none-{}", std::process::id()));
    let output =
        without_namespaces(&format!("--state {} up 1 --bare --isolation user-namespaces", state.display()))?;
    let _ = fs::remove_dir_all(&state);
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{output:?}");
    for part in ["user.max_user_namespaces", "sudo sysctl -w user.max_user_namespaces="] {
        ensure!(text.contains(part) && !text.contains("ENOSPC"), "{part} is not in: {text}");
    }
    Ok(())
}

fn without_namespaces_a_segment_joins_nodes() -> Result<()> {
    let output = without_namespaces("tour --wire segment")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("\nalonzo\njoseph\n"), "{text}");
    Ok(())
}

fn the_tour_works() -> Result<()> {
    let output = Command::new(program()?).arg("tour").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in ["\nalonzo\njoseph\n", "cat /net/joseph/etc/hostname\njoseph\n", "en0\nen1\n", "\nen0\n"] {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    Ok(())
}

/// Device files that everybody may open, as on a stock system, in a mount namespace that ends with the command.
const OPEN_DEVICES: &str = "for d in fuse net/tun; do
        mkdir -p D/net && mknod -m 666 D/$d c $(stat -c '0x%t 0x%T' /dev/$d) && mount --bind D/$d /dev/$d || exit
    done
    exec setpriv --reuid 65534 --regid 65534 --clear-groups env -u XDG_RUNTIME_DIR";

/// The tour of a user without any privilege, where `devices` prepared the device files.
fn tour_as_nobody(devices: &str) -> Result<String> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("qnet-lab-devices-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(name);
    let prepare = devices.replace("D/", &format!("{}/", folder.display()));
    let programs = PublicPrograms::new()?;
    let line = format!("{prepare} {} tour", programs.lab().display());
    let output = Command::new("unshare").args(["-m", "sh", "-c", &line]).current_dir("/").output()?;
    fs::remove_dir_all(&folder)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        text.contains("the nodes run with mapany=0") && text.contains("nothing is left behind"),
        "{text}"
    );
    Ok(text.into_owned())
}

fn a_user_without_any_privilege_takes_the_tour() -> Result<()> {
    let text = tour_as_nobody(OPEN_DEVICES)?;
    ensure!(text.contains("cat /net/joseph/etc/hostname\njoseph\n"), "{text}");
    Ok(())
}

fn without_fuse_the_tour_reads_files_by_messages() -> Result<()> {
    let text = tour_as_nobody(&OPEN_DEVICES.replace("666", "600"))?;
    for part in ["sudo chmod 666 /dev/fuse", "qnet-lab read joseph /etc/hostname\njoseph\n"] {
        ensure!(text.contains(part), "{part:?} is not in: {text}");
    }
    Ok(())
}

cases! {
    nodes_have_their_own_names_and_files: [Need::Nodes],
    nodes_see_only_their_own_processes: [Need::Nodes],
    nodes_reach_each_other_over_the_switch: [Need::Nodes],
    a_tap_device_hangs_on_the_same_switch: [Need::Nodes, Need::Tap],
    the_status_of_a_program_is_handed_on: [Need::Nodes],
    everything_is_gone_after_down: [Need::Nodes],
    a_node_can_go_and_another_come: [Need::Nodes],
    what_a_killed_lab_left_is_cleaned_by_the_next: [Need::Nodes],
    without_root_nodes_live_in_user_namespaces: [Need::RootNodes],
    forbidden_namespaces_are_told_with_their_cure: [Need::RootNodes],
    a_user_namespace_that_cannot_be_had_is_told_with_its_cure: [Need::RootNodes],
    without_namespaces_a_segment_joins_nodes: [Need::RootNodes, Need::Fuse],
    a_user_without_any_privilege_takes_the_tour: [Need::RootNodes, Need::Fuse, Need::Tap],
    without_fuse_the_tour_reads_files_by_messages: [Need::RootNodes, Need::Fuse, Need::Tap],
    the_tour_works: [Need::Nodes, Need::Fuse],
}
