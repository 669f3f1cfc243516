//! Listening and connecting, by name and by path.

use std::process;

use super::*;
use crate::{ReceiveBuffer, Root, ToClient, ToServer, packet::Connect};

fn address(chid: i32) -> (tempfile::TempDir, ChannelAddress) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::at(directory.path()).unwrap();
    let address = root.channel(process::id().cast_signed(), chid).unwrap();
    (directory, address)
}

#[test]
fn a_channel_is_reached_by_its_address_and_both_ends_know_each_other() {
    let (_directory, address) = address(5);
    let listener = Listener::channel(&address).unwrap();
    assert!(listener.accept().unwrap().is_none());
    let (mut client, owner) = connect_channel(&address).unwrap();
    let (mut server, caller) = listener.accept().unwrap().unwrap();
    assert_eq!((owner.pid, caller.pid), (address.pid, address.pid));

    let mut buffer = ReceiveBuffer::new();
    let connect = Connect { conn: 1, nd: 0, pid: address.pid, chid: 5, flags: 0, claim: None };
    client.send(&ToServer::Connect(connect.clone())).unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), Some(ToServer::Connect(connect)));
    server.send(&ToClient::ConnectFail { conn: 1, errno: libc::EPERM }).unwrap();
    let answer = client.recv(&mut buffer).unwrap();
    assert_eq!(answer, Some(ToClient::ConnectFail { conn: 1, errno: libc::EPERM }));
}

#[test]
fn a_channel_without_owner_gives_esrch_and_one_in_use_cannot_be_opened_again() {
    let (_directory, address) = address(6);
    let error = connect_channel(&address).unwrap_err();
    assert_eq!(error.errno(), libc::ESRCH, "{error}");
    let listener = Listener::channel(&address).unwrap();
    let error = Listener::channel(&address).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(libc::EADDRINUSE), "{error}");
    drop(listener);
    Listener::channel(&address).unwrap();
}

#[test]
fn a_squatter_on_a_foreign_address_is_found_out() {
    let (_directory, mut address) = address(7);
    address.pid = 1;
    let _squatter = Listener::channel(&address).unwrap();
    let error = connect_channel(&address).unwrap_err();
    assert!(matches!(error, ConnectError::Impostor { expected: 1, .. }), "{error}");
    assert_eq!(error.errno(), libc::ESRCH);
}

#[test]
fn a_dead_socket_at_a_path_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = Root::at(directory.path()).unwrap().qnet_socket();
    let dead = new_socket().unwrap();
    bind(dead.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    drop(dead);
    assert!(path.exists());

    let listener = Listener::at_path(&path, 0o666).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let _client = connect_path(&path).unwrap();
    assert!(listener.accept().unwrap().is_some());
    let error = Listener::at_path(&path, 0o666).unwrap_err();
    assert_eq!(error.source.raw_os_error(), Some(libc::EADDRINUSE), "{error}");
    drop(listener);
    assert!(!path.exists(), "the name goes with its owner");
    assert_eq!(connect_path(&path).unwrap_err().errno(), libc::ESRCH);
}

#[test]
fn nodes_with_different_roots_have_different_channels() {
    let (_a, a) = address(8);
    let (_b, b) = address(8);
    assert_ne!(a, b);
    assert_ne!(a.to_string(), b.to_string());
    let _one = Listener::channel(&a).unwrap();
    let _other = Listener::channel(&b).unwrap();
}

#[test]
fn every_spelling_of_a_root_means_the_same_node() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    let real = directory.path().join("real");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    assert_eq!(Root::at(&link).unwrap().hash(), Root::at(&real.join("../real")).unwrap().hash());
}
