//! A node that looks for names while others speak: LR messages, calls, and answers of resolvers.

use qnet_proto::wire::Order;
use qnet_proto::wire::lwl4::{Header, Kind, Layer};
use qnet_proto::{ClientId, ClientInfo, Command};

use super::victim::{EVIL, Script, Victim};

pub(super) fn run(data: &[u8]) {
    let auto_add = if data.len().is_multiple_of(2) { 0 } else { 15 };
    let victim = Victim::new(|config| config.auto_add = auto_add);
    victim.play(data, act);
}

fn act(victim: &mut Victim, what: u8, script: &mut Script<'_>) {
    match what % 8 {
        0 => victim.hear(header(script, Kind::Lres, Layer::Lr), script.bytes()),
        1 | 2 => announce(victim, script),
        3 => {
            let mut init = header(script, Kind::TcsInit, Layer::Kif);
            init.sconn = script.u8().into();
            victim.hear(init, script.bytes());
        }
        4 => {
            let name = String::from_utf8_lossy(script.bytes()).into_owned();
            victim.command(Command::Resolve { token: 1, name });
        }
        5 => {
            let (client, nd) = (ClientId(script.u8().into()), victim.nd);
            victim.command(Command::Connect { client, nd, pid: 1, chid: 1, cred: ClientInfo::default() });
        }
        6 => victim.wait(script.u16().into()),
        _ => victim.hear_raw(script.bytes()),
    }
}

fn header(script: &mut Script<'_>, kind: Kind, layer: Layer) -> Header {
    let order = if script.u8() & 1 == 0 { Order::Little } else { Order::Big };
    Header { order, ..Header::new(kind, layer) }
}

/// A well-formed LR message with names from the script.
fn announce(victim: &mut Victim, script: &mut Script<'_>) {
    use qnet_proto::wire::lr::{Lr, LrKind, Party};
    let kind = if script.u8() & 1 == 0 { LrKind::Reply } else { LrKind::Request };
    let name = String::from_utf8_lossy(script.bytes());
    let to = String::from_utf8_lossy(script.bytes());
    let mac = Some([EVIL[0], 0, 0, 0, script.u8(), script.u8()]);
    let src = Party { name: &name, domain: "", mac };
    let lr = Lr { kind, src, dst: Party { name: &to, ..Party::default() }, extensions: None };
    let mut body = [0; 2048];
    if let Ok(len) = lr.emit(&mut body, Order::Little) {
        victim.hear(Header::new(Kind::Lres, Layer::Lr), &body[..len]);
    }
}
