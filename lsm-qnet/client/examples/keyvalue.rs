//! A key-value server and its client.
//!
//! ```text
//! cargo run -p qnet --example keyvalue -- server            prints the process and channel that clients name
//! cargo run -p qnet --example keyvalue -- PID CHID set colour blue
//! cargo run -p qnet --example keyvalue -- PID CHID get colour
//! ```
//!
//! A message is `KEY` (get) or `KEY=VALUE` (set); an unknown key is answered with `ENOENT`.

use std::{collections::HashMap, env, error::Error};

use qnet::{Channel, ChannelFlags, Connection, LOCAL_NODE, Received, Root};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Root::locate(None)?;
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["server"] => serve(&root),
        [pid, chid, "set", key, value] => {
            ask(&root, pid.parse()?, chid.parse()?, &format!("{key}={value}")).map(drop)
        }
        [pid, chid, "get", key] => {
            let value = ask(&root, pid.parse()?, chid.parse()?, key);
            println!("{}", value.map_err(|error| format!("{key}: {error}"))?);
            Ok(())
        }
        _ => Err("usage: keyvalue server | PID CHID get KEY | PID CHID set KEY VALUE".into()),
    }
}

fn serve(root: &Root) -> Result<(), Box<dyn Error>> {
    let channel = Channel::create(root, ChannelFlags::empty())?;
    println!("{} {}", channel.pid(), channel.chid());
    let mut values = HashMap::new();
    loop {
        let Received::Message(message) = channel.receive(None)? else { continue };
        let text = String::from_utf8_lossy(message.data()).into_owned();
        // A client that is gone by now needs no answer.
        let _gone = match text.split_once('=') {
            Some((key, value)) => {
                values.insert(key.to_owned(), value.to_owned());
                message.reply(0, b"")
            }
            None => match values.get(&text) {
                Some(value) => message.reply(0, value.as_bytes()),
                None => message.error(libc::ENOENT),
            },
        };
    }
}

fn ask(root: &Root, pid: i32, chid: i32, message: &str) -> Result<String, Box<dyn Error>> {
    let connection = Connection::attach(root, LOCAL_NODE, pid, chid)?;
    let mut answer = [0; 4096];
    let reply = connection.send(message.as_bytes(), &mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..reply.len]).into_owned())
}
