//! Bytes between the local terminal and the far one, a thread for each direction, each byte as it is.

use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use nix::errno::Errno;
use qnet::terminal::Terminal;

use crate::pair::Pair;

/// Bytes moved at once.
const PIECE: usize = 4096;

/// The two threads. They end with the process: a read that waits at the other node is given up by nothing else.
#[derive(Debug)]
pub(crate) struct Relay {
    ends: Receiver<String>,
}

impl Relay {
    /// Begins.
    pub(crate) fn start(far: &Arc<Terminal>, near: &Pair) -> Result<Self> {
        let (sender, ends) = channel();
        let master = File::from(near.master().try_clone_to_owned()?);
        let other = master.try_clone()?;
        spawn("to the node", sender.clone(), far, move |far| outward(master, far))?;
        spawn("from the node", sender, far, move |far| inward(other, far))?;
        Ok(Self { ends })
    }

    /// Waits for at most this long; why it is over, if it is.
    pub(crate) fn ended(&self, patience: Duration) -> Option<String> {
        match self.ends.recv_timeout(patience) {
            Ok(why) => Some(why),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some("both directions have ended".to_owned()),
        }
    }
}

fn spawn(
    name: &str,
    ends: Sender<String>,
    far: &Arc<Terminal>,
    work: impl FnOnce(&Terminal) -> String + Send + 'static,
) -> Result<()> {
    let far = Arc::clone(far);
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        // nobody listens any more when the program is ending
        let _ = ends.send(work(&far));
    })?;
    Ok(())
}

/// What programs write goes to the node.
fn outward(mut master: File, far: &Terminal) -> String {
    let mut buffer = [0; PIECE];
    loop {
        match master.read(&mut buffer) {
            Ok(0) => return "the local terminal has ended".to_owned(),
            Ok(n) => {
                if let Err(error) = far.write_all(&buffer[..n]) {
                    return words(error.errno());
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return format!("the local terminal: {error}"),
        }
    }
}

/// What comes from the node is there to be read by programs.
fn inward(mut master: File, far: &Terminal) -> String {
    let mut buffer = [0; PIECE];
    loop {
        match far.read(&mut buffer) {
            Ok(0) => return "it has hung up".to_owned(),
            Ok(n) => {
                if let Err(error) = master.write_all(&buffer[..n]) {
                    return format!("the local terminal: {error}");
                }
            }
            Err(error) => return words(error.errno()),
        }
    }
}

fn words(errno: i32) -> String {
    Errno::from_raw(errno).desc().to_owned()
}
