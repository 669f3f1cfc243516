//! Asks every instance of io-pkt on the node for its interfaces.

use std::time::Duration;

use anyhow::{Result, bail};
use ctl::{Client, ClientError, Interface, Root};

/// For a question that a healthy daemon answers at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// A name that was asked for, and why there is nothing to show.
pub(crate) type Missing = (String, String);

/// The interfaces called `names`, all when there are none; and the names that nobody knows.
///
/// With `relative` a name is one below the device directory, never Linux's name of the device.
pub(crate) fn find(root: &Root, names: &[String], relative: bool) -> Result<(Vec<Interface>, Vec<Missing>)> {
    let instances = root.instances();
    if instances.is_empty() {
        bail!("io-pkt is not running (no instance answers in {})", root.dir().display());
    }
    let mut clients = Vec::new();
    for instance in &instances {
        clients.push(Client::connect(&instance.socket, PATIENCE)?);
    }
    let mut found = Vec::new();
    let mut missing = Vec::new();
    if names.is_empty() {
        for client in &mut clients {
            found.extend(client.interfaces(None)?);
        }
        return Ok((found, missing));
    }
    for name in names {
        let asked = if relative { format!("/dev/io-net/{name}") } else { name.clone() };
        match first_answer(&mut clients, &asked)? {
            Ok(interfaces) => found.extend(interfaces),
            Err(why) => missing.push((name.clone(), why)),
        }
    }
    Ok((found, missing))
}

/// The first instance that knows the name; otherwise what the last one said.
fn first_answer(clients: &mut [Client], name: &str) -> Result<Result<Vec<Interface>, String>> {
    let mut why = "no such interface".to_owned();
    for client in clients {
        match client.interfaces(Some(name)) {
            Ok(interfaces) if !interfaces.is_empty() => return Ok(Ok(interfaces)),
            Ok(_) => {}
            Err(ClientError::Refused(error)) => why = without_subject(&error.text, name),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Err(why))
}

/// The daemon's sentence names its subject, and so do we.
fn without_subject(text: &str, name: &str) -> String {
    text.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(text).to_owned()
}
