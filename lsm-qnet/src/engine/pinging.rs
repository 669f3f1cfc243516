//! The network manager's PING: whether a node answers, by which link, and how fast.

use std::time::Duration;

use qnet_iomsg::netmgr::Pong;
use qnet_proto::{Command, Errno, LinkAddr, LinkId, NodeId};

use super::{CallId, Engine, wire::errno_of};

impl Engine {
    pub(super) fn ping(&mut self, id: CallId, nd: u32, patience: u32, link: &[u8]) {
        let nd = NodeId(nd);
        if nd.node() == NodeId::LOCAL.node() {
            return self.reply_pong(id, Duration::ZERO, "", "");
        }
        let found = self.node.links().find(|(_, info)| info.name.as_bytes() == link).map(|(link, _)| link);
        if found.is_none() && !link.is_empty() {
            return self.reply_error(id, libc::ENODEV);
        }
        let patience = Duration::from_millis(patience.into());
        let command = Command::Ping { token: id.into(), nd, link: found, patience };
        if let Err(error) = self.node.handle_command(self.now, command) {
            self.reply_error(id, errno_of(error));
        }
    }

    /// The node answered.
    pub(super) fn on_pong(&mut self, token: u64, rtt: Duration, link: LinkId, addr: LinkAddr) {
        let Ok(id) = CallId::try_from(token) else { return };
        self.reply_pong(id, rtt, &self.link_name(link), &addr.to_string());
    }

    /// It did not, by none of these ways.
    pub(super) fn on_ping_failed(&mut self, token: u64, errno: Errno, ways: &[(LinkId, LinkAddr)]) {
        let Ok(id) = CallId::try_from(token) else { return };
        let record = |(link, addr): &(LinkId, LinkAddr)| {
            let (link, addr) = (self.link_name(*link), addr.to_string());
            Pong { nanoseconds: 0, link: link.as_bytes(), addr: addr.as_bytes() }.emit()
        };
        match ways.iter().map(record).collect::<Result<Vec<_>, _>>() {
            Ok(records) => self.reply(id, errno.0.into(), 0, &records.concat()),
            // Neither text is longer than a line.
            Err(error) => self.reply_error(id, error.linux_errno()),
        }
    }

    /// What a link is called; nothing when it is gone.
    fn link_name(&self, link: LinkId) -> String {
        self.node.links().find(|(up, _)| *up == link).map(|(_, info)| info.name.clone()).unwrap_or_default()
    }

    fn reply_pong(&mut self, id: CallId, rtt: Duration, link: &str, addr: &str) {
        let nanoseconds = u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX);
        match (Pong { nanoseconds, link: link.as_bytes(), addr: addr.as_bytes() }).emit() {
            Ok(data) => self.reply(id, 0, 0, &data),
            // Neither text is longer than a line.
            Err(error) => self.reply_error(id, error.linux_errno()),
        }
    }
}
