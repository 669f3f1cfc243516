//! The other file servers, each with settings and keys made for this run, in the mount namespace that has the files.

use std::{
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use bench_support::{is_installed, part::Part, rig::Rig};
use tempfile::TempDir;

use crate::data::SERVED;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Their ports: none of them the usual one.
const SSH: u16 = 2222;
const NFS: u16 = 12_049;
const NINE: u16 = 15_640;

/// Where they are to run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The namespaces.
    pub rig: &'a Rig,
    /// The process that holds the files.
    pub holder: i32,
    /// The address that they listen at.
    pub address: Ipv4Addr,
}

/// A server that runs; ended when dropped.
#[derive(Debug)]
pub struct Server {
    _part: Part,
    _directory: TempDir,
}

impl Place<'_> {
    /// Runs a program beside the files.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&self, command: &[String]) -> Result<Part> {
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.holder);
        let mut words = vec!["exec", "nsenter", &mounts, "--"];
        words.extend(command.iter().map(String::as_str));
        self.rig.play("b", None, &words)
    }

    fn serve(&self, directory: TempDir, port: u16, command: &[&str]) -> Result<Server> {
        let command: Vec<_> = command.iter().map(|word| (*word).to_owned()).collect();
        let mut part = self.start(&command)?;
        let deadline = Instant::now() + PATIENCE;
        while !listens(part.pid(), self.address, port) {
            if !part.runs()? || Instant::now() > deadline {
                bail!("the server does not come up:\n{}", last_lines(&self.rig.log("b")));
            }
            thread::sleep(LOOK);
        }
        Ok(Server { _part: part, _directory: directory })
    }
}

/// Whether somebody listens at an address of the namespace in which `process` lives.
fn listens(process: i32, address: Ipv4Addr, port: u16) -> bool {
    // As the kernel prints it; a mapped IPv6 address ends the same way.
    let local = format!("{:08X}:{port:04X}", u32::from_le_bytes(address.octets()));
    ["tcp", "tcp6"].iter().any(|table| {
        let table = fs::read_to_string(format!("/proc/{process}/net/{table}")).unwrap_or_default();
        is_in_table(&table, &local)
    })
}

/// Looks for a listener at an address, or at all of them, in the text of `/proc/net/tcp`: number, local address, remote
/// address, state.
fn is_in_table(table: &str, local: &str) -> bool {
    let everywhere = |at: &str| match (at.split_once(':'), local.split_once(':')) {
        (Some((host, port)), Some((_, wanted))) => port == wanted && host.bytes().all(|digit| digit == b'0'),
        _ => false,
    };
    table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|words| {
        words.get(1).is_some_and(|at| at.ends_with(local) || everywhere(at))
            && words.get(3).is_some_and(|state| *state == "0A")
    })
}

fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// True when all programs are there; otherwise a line says who does not take part, and what it needs.
fn is_complete(who: &str, programs: &[&str], packages: &str) -> bool {
    let missing = programs.iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        eprintln!("{who} does not take part: it needs Debian's packages {packages} (no {program})");
    }
    missing.is_none()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// sshd, and the command that mounts its files with sshfs; the mount point is to be appended.
///
/// # Errors
/// It is installed and does not start.
pub fn sshfs(place: &Place<'_>) -> Result<Option<(Server, Vec<String>)>> {
    let programs = ["sshfs", "sshd", "ssh-keygen", "setpriv"];
    if !is_complete("sshfs", &programs, "sshfs openssh-server") {
        return Ok(None);
    }
    let directory = place.rig.directory("b")?;
    let file = |name: &str| directory.path().join(name);
    for key in ["host", "user"] {
        make_key(&file(key))?;
    }
    fs::copy(file("user.pub"), file("authorized"))?;
    let (host, user) = (file("host"), file("user"));
    let settings = format!(
        "ListenAddress {}:{SSH}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
         PermitRootLogin prohibit-password\nPasswordAuthentication no\nSubsystem sftp /usr/lib/openssh/sftp-server\n",
        place.address,
        host.display(),
        file("authorized").display(),
    );
    fs::write(file("sshd_config"), settings)?;
    let address = place.address;
    let user = text(&user)?;
    let words = format!(
        "sshfs -f -p {SSH} -o IdentityFile={user},StrictHostKeyChecking=no,UserKnownHostsFile=/dev/null,LogLevel=ERROR \
         root@{address}:{SERVED}"
    );
    let command = words.split_whitespace().map(str::to_owned).collect();
    let settings = file("sshd_config");
    // The directory in which sshd locks its children in lies below /run, which is empty there.
    let script = "mkdir -p /run/sshd && exec /usr/sbin/sshd -D -e -f \"$0\"";
    let server = place.serve(directory, SSH, &["sh", "-ec", script, text(&settings)?])?;
    Ok(Some((server, command)))
}

fn make_key(path: &Path) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).stdin(Stdio::null());
    ensure!(command.status().context("ssh-keygen")?.success(), "ssh-keygen failed");
    Ok(())
}

/// NFS-Ganesha, and the URL under which libnfs finds a file of it: `BEFORE` name `BEHIND`.
///
/// # Errors
/// It is installed and does not start.
pub fn nfs(place: &Place<'_>) -> Result<Option<(Server, [String; 2])>> {
    let programs = ["ganesha.nfsd", "nfs-cat", "nfs-ls"];
    if !is_complete("NFS-Ganesha", &programs, "nfs-ganesha nfs-ganesha-vfs libnfs-utils") {
        return Ok(None);
    }
    let directory = place.rig.directory("b")?;
    let [settings, process, recovery] =
        ["ganesha.conf", "pid", "recovery"].map(|name| directory.path().join(name));
    fs::create_dir(&recovery)?;
    let address = place.address;
    let content = format!(
        "NFS_CORE_PARAM {{ NFS_Port = {NFS}; NFS_Protocols = 4; Bind_addr = {address}; Enable_NLM = false; \
         Enable_RQUOTA = false; }}\n\
         NFSV4 {{ Graceless = true; RecoveryBackend = fs; RecoveryRoot = \"{}\"; }}\n\
         EXPORT {{ Export_Id = 1; Path = {SERVED}; Pseudo = {SERVED}; Access_Type = RW; Squash = No_Root_Squash; \
         Protocols = 4; Transports = TCP; SecType = sys; FSAL {{ Name = VFS; }} }}\n\
         LOG {{ Default_Log_Level = WARN; }}\n",
        recovery.display(),
    );
    fs::write(&settings, content)?;
    // It talks to itself before it serves.
    let script = "ip link set lo up && exec ganesha.nfsd -F -L /dev/stderr -f \"$0\" -p \"$1\"";
    let command = ["sh", "-ec", script, text(&settings)?, text(&process)?];
    let server = place.serve(directory, NFS, &command)?;
    let url = [format!("nfs://{address}{SERVED}/"), format!("?version=4&nfsport={NFS}")];
    Ok(Some((server, url)))
}

/// diod, and the command that fetches a file of it; the name is to be appended.
///
/// # Errors
/// It is installed and does not start.
pub fn nine(place: &Place<'_>) -> Result<Option<(Server, Vec<String>)>> {
    if !is_complete("9P", &["diod", "diodcat"], "diod") {
        return Ok(None);
    }
    let directory = place.rig.directory("b")?;
    let [settings, hosts] = ["diod.conf", "hosts"].map(|name| directory.path().join(name));
    fs::write(&settings, "")?;
    // It turns away who has no name.
    let [a, b, c, _] = place.address.octets();
    fs::write(&hosts, format!("{a}.{b}.{c}.1 near\n{} far\n", place.address))?;
    let at = format!("{}:{NINE}", place.address);
    let script =
        format!("mount --bind \"$0\" /etc/hosts && exec diod -f -n -c \"$1\" -e {SERVED} -l {at} -L stderr");
    let server = place.serve(directory, NINE, &["sh", "-ec", &script, text(&hosts)?, text(&settings)?])?;
    let words = format!("diodcat -s {at} -a {SERVED}");
    Ok(Some((server, words.split_whitespace().map(str::to_owned).collect())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0201620A:08AE 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1
   1: 0201620A:08AF 0101620A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 101 1
";

    #[test]
    fn only_a_listener_listens() {
        assert!(is_in_table(TABLE, "0201620A:08AE"));
        assert!(!is_in_table(TABLE, "0201620A:08AF"), "a connection");
        assert!(!is_in_table(TABLE, "0201620A:08B0"));
        assert!(!is_in_table("", "0201620A:08AE"));
        let all = TABLE.replace("0201620A:08AE", "00000000000000000000000000000000:2F11");
        assert!(is_in_table(&all, "0201620A:2F11"), "at every address");
        assert!(!is_in_table(&all, "0201620A:2F12"));
    }
}
