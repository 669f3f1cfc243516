//! The server of `MsgSend`, of which every benchmark of messages is a client in its own way.

use std::{path::Path, thread};

use anyhow::{Result, bail};
use qnet::{Channel, ChannelFlags, Received, Root};

/// Serves: prints `PID CHID`, takes every message whole into its own memory, and replies with as much of it as the
/// client has room for.
///
/// # Errors
/// When the channel cannot be made.
pub fn serve(root: &Path, threads: usize) -> Result<()> {
    let channel = Channel::create(&Root::at(root)?, ChannelFlags::empty())?;
    println!("{} {}", channel.pid(), channel.chid());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| serve_messages(&channel))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(outcome) => outcome,
            Err(_) => bail!("a server thread ended"),
        })
    })
}

fn serve_messages(channel: &Channel) -> Result<()> {
    let mut memory = Vec::new();
    loop {
        let Received::Message(message) = channel.receive(None)? else { continue };
        let (whole, room) = (message.info().srcmsglen as usize, message.info().dstmsglen as usize);
        if memory.len() < whole {
            memory.resize(whole, 0);
        }
        // A client that is gone has no use for the answer.
        let _gone = match message.read(0, &mut memory[..whole]) {
            Ok(_) => message.reply(0, &memory[..whole.min(room)]),
            Err(error) => message.error(error.errno()),
        };
    }
}
