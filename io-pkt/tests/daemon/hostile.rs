//! Clients that mean no good, while frames flow.
//!
//! A storm between two interfaces is the measure: whatever the clients do, it goes on. What only root may do is
//! tried as somebody else.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use crate::support::{Daemon, PATIENCE, Place, eventually};

fn socket(place: &Place) -> UnixStream {
    let stream = UnixStream::connect(place.root().control_socket(0)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    stream
}

/// Frames must go on flowing.
fn flows(daemon: &Daemon) {
    let sent = || daemon.client().counters().unwrap().frames_sent;
    let before = sent();
    eventually("frames flow", || sent() > before + 50);
}

#[test]
fn no_client_can_stop_the_frames() {
    let place = Place::new();
    let daemon = place.start(&["-d", "template", "period=1", "-dtemplate", "-pbridge"]);
    flows(&daemon);
    let silent: Vec<_> = (0..500).map(|_| socket(&place)).collect();
    flows(&daemon);

    let mut half = socket(&place);
    half.write_all(b"{\"v\":1,\"id\":1,\"cmd\":").unwrap();
    let mut garbage = socket(&place);
    garbage.write_all(&[0xff, 0, b'\n', b'{', b'\n', b'\n']).unwrap();
    let mut answers = [0; 16];
    garbage.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"{\"v\":1,\"id\":0,\"e");
    flows(&daemon);

    // 100 MB without a newline: the connection ends long before they are through.
    let mut long = socket(&place);
    let piece = vec![b'x'; 1 << 20];
    let written = (0..100).take_while(|_| long.write_all(&piece).is_ok()).count();
    assert!(written < 100, "the daemon swallowed a line of 100 MB");
    flows(&daemon);
    drop((silent, half, garbage));
    daemon.stop();
}
