//! `pidin net`: every node of the network, asked at the same time.
//!
//! ```text
//!  ND    Node             CPU      Release FreeMem       BootTime
//!  0     alonzo           2 X86    6.18.0  1024Mb/7956Mb Nov 22 05:26:36 UTC 2026
//!        86 Processes, 213 Threads
//!        CPU 0: Some Processor 2394MHz FPU
//!  3     joseph           Host is down
//! ```
//!
//! A node has [`PATIENCE`] to answer; one that does not is "Host is down". Questions to other nodes run in threads that are
//! left behind when their time is up, so no node waits for another.
//!
//! DEVIATION: the columns are filled from the files of a Linux node's `/proc`, under the rights that it gives its callers. A
//! node that came under a name that was taken is marked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ctl::Root;
use nix::errno::Errno;
use qnet::Netmgr;
use qnet::netmgr::Node;

use crate::calendar;
use crate::facts::{self, Facts, Source, Trouble};

/// How long a node may take.
const PATIENCE: Duration = Duration::from_millis(900);
/// Nodes asked at the same time; the rest are asked as these answer or fail.
const AT_ONCE: usize = 512;
/// Stack of a thread that asks: it keeps nothing on it.
const STACK: usize = 256 * 1024;

const HEADING: &str = " ND    Node             CPU      Release FreeMem       BootTime\n";
/// What stands below a node begins under its name.
const INDENT: &str = "       ";

type Answer = Result<Facts, Trouble>;

/// Asks all nodes and prints the table.
pub(crate) fn print(root: &Root, out: &mut impl Write) -> Result<()> {
    let root = qnet::Root::at(root.dir())?;
    let netmgr = match Netmgr::attach(&root) {
        Ok(netmgr) => netmgr,
        Err(error) if error.errno() == Errno::ENOTSUP as i32 => {
            bail!("the network manager is not running (nobody answers at {})", root.qnet_socket().display())
        }
        Err(error) => return Err(error).context("cannot reach the network manager"),
    };
    let nodes = netmgr.nodes().context("the network manager does not tell the nodes")?;
    let answers = ask_all(&Arc::new(netmgr), &nodes);
    let own_domain =
        nodes.iter().find(|node| node.nd == 0).map(|node| node.domain.as_str()).unwrap_or_default();
    let mut text = HEADING.to_owned();
    for (node, answer) in nodes.iter().zip(&answers) {
        text.push_str(&entry(node, own_domain, answer));
    }
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The answers in the order of the nodes.
fn ask_all(netmgr: &Arc<Netmgr>, nodes: &[Node]) -> Vec<Answer> {
    let silent = Trouble { errno: Errno::EHOSTDOWN, path: None };
    let mut answers: Vec<Answer> = vec![Err(silent); nodes.len()];
    let (sender, receiver) = mpsc::channel();
    let mut asked = 0;
    // When each question that is under way has taken too long. All take equally long, so the first is the oldest.
    let mut pending: BTreeMap<usize, Instant> = BTreeMap::new();
    loop {
        while pending.len() < AT_ONCE && asked < nodes.len() {
            let (sender, netmgr, nd) = (sender.clone(), Arc::clone(netmgr), nodes[asked].nd);
            let index = asked;
            // The receiver is gone when the answer comes too late; then nobody wants it.
            let question = move || drop(sender.send((index, ask(&netmgr, nd))));
            let started = thread::Builder::new().stack_size(STACK).spawn(question);
            match started {
                Ok(_) => drop(pending.insert(index, Instant::now() + PATIENCE)),
                Err(_) => answers[index] = Err(Trouble { errno: Errno::EAGAIN, path: None }),
            }
            asked += 1;
        }
        let Some((&oldest, &until)) = pending.first_key_value() else { return answers };
        match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok((index, answer)) => {
                if pending.remove(&index).is_some() {
                    answers[index] = answer;
                }
            }
            // Its time is up, and the answer that stands for it says so.
            Err(_) => drop(pending.remove(&oldest)),
        }
    }
}

/// Asks one node.
fn ask(netmgr: &Netmgr, nd: u32) -> Answer {
    if nd == 0 {
        return facts::gather(&Source::Here);
    }
    let server = netmgr
        .server_of(nd)
        .map_err(|error| Trouble { errno: Errno::from_raw(error.errno()), path: None })?;
    facts::gather(&Source::There(Arc::new(server)))
}

/// The lines of a node.
fn entry(node: &Node, own_domain: &str, answer: &Answer) -> String {
    let mut name = node.name.clone();
    if !node.domain.is_empty() && !node.domain.eq_ignore_ascii_case(own_domain) {
        name.push('.');
        name.push_str(&node.domain);
    }
    let mut text = format!(" {:<5} {name:<16} ", node.nd);
    // Writing to a string cannot fail, here and below.
    let _ = match answer {
        Ok(facts) => write!(text, "{}", machine(facts)),
        Err(Trouble { errno, path: None }) => writeln!(text, "{}", errno.desc()),
        Err(Trouble { errno, path: Some(path) }) => writeln!(text, "{} ({path})", errno.desc()),
    };
    for clash in clashes(node) {
        let _ = writeln!(text, "{INDENT}{clash}");
    }
    text
}

/// What a node shares with another, and the cure.
fn clashes(node: &Node) -> impl Iterator<Item = &'static str> {
    let name = match (node.renamed, node.name_clash) {
        (true, _) => Some("listed by this name because its own was taken: give it another"),
        (false, true) => Some("another node calls itself the same: give one of them another name"),
        (false, false) => None,
    };
    let address = "another node has its address on a link: give one of them another";
    name.into_iter().chain(node.address_clash.then_some(address))
}

fn machine(facts: &Facts) -> String {
    let (free, total) = facts.memory;
    let mut text = format!(
        "{:<8} {:<7} {:<13} {}\n",
        format!("{} {}", facts.cpus.len(), facts.family),
        facts.release,
        format!("{free}Mb/{total}Mb"),
        calendar::show(facts.booted),
    );
    let count = |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let processes = facts.processes.map(|count| count as u64);
    let _ = writeln!(text, "{INDENT}{} Processes, {} Threads", count(processes), count(facts.threads));
    for (id, cpu) in facts.cpus.iter().enumerate() {
        let mhz = cpu.mhz.map(|mhz| format!(" {mhz}MHz")).unwrap_or_default();
        let _ = writeln!(text, "{INDENT}CPU {id}: {}{mhz}{}", cpu.name, if cpu.fpu { " FPU" } else { "" });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Cpu;
    use qnet::netmgr::NodeState;

    fn node(name: &str, domain: &str, renamed: bool) -> Node {
        Node {
            nd: 3,
            state: NodeState::Known,
            renamed,
            name_clash: renamed,
            address_clash: false,
            name: name.into(),
            domain: domain.into(),
        }
    }

    #[test]
    fn columns_stand_below_their_headings() {
        let facts = Facts {
            cpus: vec![Cpu { name: "Fast".into(), mhz: Some(2394), fpu: true }],
            family: "X86",
            release: "6.18.0".into(),
            memory: (1024, 7956),
            booted: 0,
            processes: Some(86),
            threads: Some(213),
        };
        let text = entry(&node("joseph", "lab", false), "LAB", &Ok(facts));
        let expected = " 3     joseph           1 X86    6.18.0  1024Mb/7956Mb Jan 01 00:00:00 UTC 1970
       86 Processes, 213 Threads
       CPU 0: Fast 2394MHz FPU\n";
        assert_eq!(text, expected);
        for (heading, value) in
            [("Node", "joseph"), ("CPU", "1 X86"), ("Release", "6.18"), ("FreeMem", "1024Mb")]
        {
            assert_eq!(HEADING.find(heading), text.find(value), "{heading}");
        }
    }

    #[test]
    fn a_node_that_does_not_answer_shows_why() {
        let trouble = |errno, path| Err(Trouble { errno, path });
        let down = entry(&node("joseph", "other", false), "lab", &trouble(Errno::EHOSTDOWN, None));
        assert_eq!(down, " 3     joseph.other     Host is down\n");
        let closed = entry(&node("joseph", "", false), "lab", &trouble(Errno::EACCES, Some("/proc/stat")));
        assert_eq!(closed, " 3     joseph           Permission denied (/proc/stat)\n");
    }

    #[test]
    fn a_clash_of_names_is_shown() {
        let text = entry(
            &node("joseph-EA000002", "", true),
            "",
            &Err(Trouble { errno: Errno::EHOSTUNREACH, path: None }),
        );
        assert!(
            text.ends_with("\n       listed by this name because its own was taken: give it another\n"),
            "{text}"
        );
        let both = Node { address_clash: true, renamed: false, ..node("joseph", "", true) };
        let told: Vec<&str> = clashes(&both).collect();
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("another node calls itself the same") && told[1].contains("address"));
        assert_eq!(clashes(&node("joseph", "", false)).count(), 0);
    }
}
