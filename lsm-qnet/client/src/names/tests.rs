//! Servers in threads of this process, over real sockets and entries; other processes and users are in `tests/`.

use std::{thread, time::Instant};

use qnet_iomsg::Connect as ConnectMessage;

use super::*;
use crate::{Channel, ChannelFlags, Received};

fn setup() -> (tempfile::TempDir, Root, Channel) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let channel = Channel::create(&root, ChannelFlags::empty()).unwrap();
    (directory, root, channel)
}

fn message(channel: &Channel) -> crate::Message {
    let soon = Instant::now() + std::time::Duration::from_secs(60);
    match channel.receive(Some(soon)).unwrap() {
        Received::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_server_itself_lets_a_client_in() {
    let (_directory, root, channel) = setup();
    let _name = attach(&root, "a/server", channel.chid(), Scope::Local).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let first = message(&channel);
            let connect = ConnectMessage::parse(first.data()).unwrap();
            assert_eq!(
                (connect.subtype, connect.file_type, connect.path),
                (Subtype::Open, FTYPE_NAME, &b""[..])
            );
            first.reply(0, b"").unwrap();
            let second = message(&channel);
            assert_eq!(second.data(), b"hello");
            second.reply(5, b"").unwrap();
        });
        let connection = open(&root, "a/server", Scope::Local).unwrap();
        assert_eq!(connection.send(b"hello", &mut []).unwrap().status, 5);
    });
}

#[test]
fn the_server_itself_turns_a_client_away() {
    let (_directory, root, channel) = setup();
    let _name = attach(&root, "server", channel.chid(), Scope::Local).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| message(&channel).error(libc::EBUSY).unwrap());
        assert_eq!(open(&root, "/dev/name/local/server", Scope::Local).unwrap_err().errno(), libc::EBUSY);
    });
}

#[test]
fn a_name_whose_channel_is_gone_is_not_there() {
    let (_directory, root, channel) = setup();
    let _name = attach(&root, "server", channel.chid(), Scope::Local).unwrap();
    drop(channel);
    assert_eq!(open(&root, "server", Scope::Local).unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn a_name_that_nobody_has_is_not_there_with_or_without_directories() {
    let (_directory, root, channel) = setup();
    for scope in [Scope::Local, Scope::Global] {
        assert_eq!(open(&root, "server", scope).unwrap_err().errno(), libc::ENOENT);
    }
    let _name = attach(&root, "server", channel.chid(), Scope::Local).unwrap();
    assert_eq!(open(&root, "other", Scope::Local).unwrap_err().errno(), libc::ENOENT);
    assert_eq!(open(&root, "server/part", Scope::Local).unwrap_err().errno(), libc::ENOTDIR);
    assert_eq!(
        open(&root, "server", Scope::Global).unwrap_err().errno(),
        libc::ENOENT,
        "a local one is not global"
    );
}

#[test]
fn a_global_name_of_this_node_needs_no_gns_and_one_owner() {
    let (_directory, root, channel) = setup();
    let name = attach(&root, "alarm", channel.chid(), Scope::Global).unwrap();
    assert_eq!(attach(&root, "alarm", channel.chid(), Scope::Global).unwrap_err().errno(), libc::EEXIST);
    assert_eq!(attach(&root, "net/alarm", channel.chid(), Scope::Global).unwrap_err().errno(), libc::EINVAL);
    let target = Target::new(Scope::Global, "alarm").unwrap();
    let here = Service { nd: 0, pid: channel.pid(), chid: channel.chid() };
    assert_eq!(find(&root, &target).unwrap(), [here]);
    assert_eq!(
        open(&root, "alarm", Scope::Local).unwrap_err().errno(),
        libc::ENOENT,
        "a global one is not local"
    );
    drop(name);
    assert_eq!(find(&root, &target).unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn a_name_on_another_node_needs_qnet() {
    let (_directory, root, _channel) = setup();
    let error = open(&root, "/net/joseph/dev/name/local/server", Scope::Local).unwrap_err();
    assert_eq!(error.errno(), libc::ENOTSUP);
}
