//! A service that several nodes offer under one global name; a client takes whichever answers, and the next one when that
//! dies. Attaching a global name needs root, and other nodes a running `gns`.
//!
//! ```text
//! cargo run -p qnet --example redundant -- serve        on each node that offers it
//! cargo run -p qnet --example redundant                 anywhere: asks five times
//! ```

use std::{env, error::Error, process};

use qnet::{
    Channel, ChannelFlags, Connection, Received, Root,
    names::{self, Scope},
};

const NAME: &str = "example/clock";

fn main() -> Result<(), Box<dyn Error>> {
    let root = Root::locate(None)?;
    if env::args().nth(1).as_deref() == Some("serve") { serve(&root) } else { ask(&root) }
}

fn serve(root: &Root) -> Result<(), Box<dyn Error>> {
    let channel = Channel::create(root, ChannelFlags::DISCONNECT)?;
    let _name = names::attach(root, NAME, channel.chid(), Scope::Global)?;
    loop {
        if let Received::Message(message) = channel.receive(None)? {
            // Both the opening of the name and a question are answered with who we are; a client that left needs nothing.
            let _gone = message.reply(0, process::id().to_string().as_bytes());
        }
    }
}

fn ask(root: &Root) -> Result<(), Box<dyn Error>> {
    let mut service: Option<Connection> = None;
    for _ in 0..5 {
        let connection = match service.take() {
            Some(connection) => connection,
            None => names::open(root, NAME, Scope::Global)?,
        };
        let mut answer = [0; 32];
        match connection.send(b"who", &mut answer) {
            Ok(reply) => {
                println!("process {} answers", String::from_utf8_lossy(&answer[..reply.len]));
                service = Some(connection);
            }
            // The next question finds another one.
            Err(error) => println!("the service is gone: {error}"),
        }
    }
    Ok(())
}
