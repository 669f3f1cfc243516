//! The host functions as a module calls them, and as one that is wrong, or hostile by accident, might.
//!
//! The functions are reached through the table, as modules reach them. What must hold: no pointer is believed, no
//! call from a foreign thread touches the loop's data, and every refusal is an errno, not a crash.

use std::{ffi::c_void, ptr, rc::Rc};

use io_pkt_abi::{Bytes, FrameDesc, InterfaceInfo, SpawnSpec, info::INTEREST_READ};
use io_pkt_host::SearchPath;
use mio::Poll;

use super::{
    context::{Role, UseContext},
    sys::{self, HOST},
};
use crate::{core::Core, interface::InterfaceData, pool::PoolConfig, switchboard::InterfaceId, uses::UseId};

struct Border {
    _poll: Poll,
    core: Rc<Core>,
}

impl Border {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        let config = PoolConfig { chunks: 256, ..PoolConfig::default() };
        let core = Core::new(poll.registry(), config, SearchPath::new(None, [])).unwrap();
        Self { _poll: poll, core: Rc::new(core) }
    }

    fn context(&self, id: u32, role: Role) -> Rc<UseContext> {
        let holder = self.core.pool.borrow_mut().register();
        let context = Rc::new(UseContext::new(&self.core, UseId(id), "use", role, holder, 0));
        sys::enter(&context);
        context
    }

    fn driver(&self) -> (Rc<UseContext>, InterfaceId) {
        let port = self.core.board.borrow_mut().add_port();
        (self.context(1, Role::Driver(port)), port)
    }

    fn protocol(&self, id: u32) -> Rc<UseContext> {
        let slot = self.core.board.borrow_mut().add_receiver().unwrap();
        self.context(id, Role::Protocol(slot))
    }

    fn free_chunks(&self) -> usize {
        self.core.pool.borrow().free_chunks()
    }
}

fn ctx(context: &Rc<UseContext>) -> *mut c_void {
    Rc::as_ptr(context).cast_mut().cast()
}

#[test]
fn chunks_go_out_and_come_back() {
    let border = Border::new();
    let (driver, _) = border.driver();
    let mut frames = [FrameDesc::default(); 4];
    assert_eq!((HOST.alloc)(ctx(&driver), frames.as_mut_ptr(), 4), 4);
    (HOST.retain)(ctx(&driver), frames.as_ptr(), 1);
    (HOST.free)(ctx(&driver), frames.as_ptr(), 4);
    assert_eq!(border.free_chunks(), 255);
    (HOST.free)(ctx(&driver), frames.as_ptr(), 1);
    assert_eq!(border.free_chunks(), 256);
    assert_eq!((HOST.pool)(ctx(&driver)), ptr::from_ref(border.core.pool_info()));
}

#[test]
fn null_and_misaligned_pointers_and_huge_counts_do_nothing() {
    let border = Border::new();
    let (driver, _) = border.driver();
    let mut frames = [FrameDesc::default(); 4];
    let odd = frames.as_mut_ptr().wrapping_byte_add(1);
    for (at, n) in [(ptr::null_mut(), 4), (odd, 2), (frames.as_mut_ptr(), u32::MAX)] {
        assert_eq!((HOST.alloc)(ctx(&driver), at, n), 0);
        (HOST.free)(ctx(&driver), at, n);
        (HOST.retain)(ctx(&driver), at, n);
        (HOST.deliver)(ctx(&driver), at, n);
    }
    assert_eq!((HOST.interface)(ctx(&driver), ptr::null()), -libc::EFAULT);
    assert_eq!((HOST.spawn)(ctx(&driver), ptr::null()), -i64::from(libc::EFAULT));
    (HOST.fail)(ctx(&driver), Bytes { ptr: ptr::null(), len: 99 });
    assert_eq!(driver.take_failure().as_deref(), Some(""));
    assert_eq!(border.free_chunks(), 256);
}

#[test]
fn without_a_context_every_function_answers_no() {
    let null = ptr::null_mut();
    let mut frames = [FrameDesc::default(); 1];
    assert_eq!((HOST.alloc)(null, frames.as_mut_ptr(), 1), 0);
    assert_eq!((HOST.send)(null, 1, frames.as_ptr(), 1), 0);
    assert_eq!((HOST.claim)(null, 0), -libc::EPERM);
    assert_eq!((HOST.poll_add)(null, 0, INTEREST_READ, 0), -i64::from(libc::EPERM));
    assert_eq!(((HOST.now)(null), (HOST.log_level)(null)), (0, 0));
    assert!((HOST.pool)(null).is_null());
    (HOST.wake)(null);
    (HOST.log)(null, 1, Bytes::EMPTY, Bytes::from_static("nobody said this"));
}

#[test]
fn a_foreign_thread_may_wake_log_and_ask_the_time_only() {
    let border = Border::new();
    let (driver, _) = border.driver();
    let address = ctx(&driver) as usize;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let ctx = address as *mut c_void;
            let mut frames = [FrameDesc::default(); 1];
            assert_eq!((HOST.alloc)(ctx, frames.as_mut_ptr(), 1), 0);
            assert_eq!((HOST.claim)(ctx, 0), -libc::EPERM);
            assert!((HOST.now)(ctx) > 0);
            (HOST.log)(ctx, 5, Bytes::EMPTY, Bytes::from_static("from elsewhere"));
            (HOST.fail)(ctx, Bytes::from_static("not here"));
            (HOST.wake)(ctx);
        });
    });
    assert!(driver.take_wake() && !driver.take_wake());
    assert_eq!(driver.take_failure(), None);
    assert_eq!(border.free_chunks(), 256);
}

#[test]
fn drivers_deliver_and_protocols_send_and_not_the_other_way() {
    let border = Border::new();
    let ((driver, port), protocol) = (border.driver(), border.protocol(2));
    let mut frame = [FrameDesc::default()];
    (HOST.alloc)(ctx(&driver), frame.as_mut_ptr(), 1);
    assert_eq!((HOST.send)(ctx(&driver), port.0, frame.as_ptr(), 1), 0);
    assert!(driver.take_failure().unwrap().contains("send"));
    (HOST.alloc)(ctx(&protocol), frame.as_mut_ptr(), 1);
    (HOST.deliver)(ctx(&protocol), frame.as_ptr(), 1);
    assert!(protocol.take_failure().unwrap().contains("deliver"));
    assert_eq!(border.free_chunks(), 256);
    assert_eq!((HOST.claim)(ctx(&driver), 0x8204), -libc::EPERM);
    assert_eq!((HOST.interface)(ctx(&protocol), &InterfaceData::default().as_abi()), -libc::EPERM);
}

#[test]
fn an_ethertype_has_one_owner() {
    let border = Border::new();
    let (one, two) = (border.protocol(1), border.protocol(2));
    assert_eq!((HOST.claim)(ctx(&one), 0x8204), 0);
    assert_eq!((HOST.claim)(ctx(&two), 0x8204), -libc::EBUSY);
    assert_eq!((HOST.claim)(ctx(&two), 5), -libc::EINVAL);
    assert_eq!((HOST.claim)(ctx(&two), 0), 0);
}

#[test]
fn interface_data_is_copied_and_a_change_is_noted_once() {
    let border = Border::new();
    let (driver, _) = border.driver();
    let told = InterfaceData { mtu: 1500, system_name: "eth1".into(), ..InterfaceData::default() };
    assert_eq!((HOST.interface)(ctx(&driver), &told.as_abi()), 0);
    assert!(driver.take_noted() && !driver.take_noted());
    assert_eq!((HOST.interface)(ctx(&driver), &told.as_abi()), 0);
    assert!(!driver.take_noted(), "nothing is new");
    assert_eq!(driver.interface(), Some(told.clone()));
    let short = InterfaceInfo { size: 8, ..told.as_abi() };
    assert_eq!((HOST.interface)(ctx(&driver), &short), -libc::EINVAL);
}

#[test]
fn the_first_reason_for_a_failure_stays() {
    let border = Border::new();
    let (driver, _) = border.driver();
    (HOST.fail)(ctx(&driver), Bytes::from_static("the cause"));
    (HOST.fail)(ctx(&driver), Bytes::from_static("a consequence"));
    assert!(driver.take_noted());
    assert_eq!(driver.take_failure().as_deref(), Some("the cause"));
}

#[test]
fn a_deadline_comes_once_and_can_be_taken_back() {
    let border = Border::new();
    let (driver, _) = border.driver();
    (HOST.set_deadline)(ctx(&driver), 100);
    assert!(!driver.take_deadline(99) && driver.take_deadline(100) && !driver.take_deadline(101));
    (HOST.set_deadline)(ctx(&driver), 200);
    (HOST.set_deadline)(ctx(&driver), 0);
    assert!(!driver.take_deadline(u64::MAX));
}

#[test]
fn helpers_are_looked_up_by_plain_names_only() {
    let border = Border::new();
    let protocol = border.protocol(1);
    for name in ["", "nosuch", "/bin/sh", "../bin/sh", ".hidden"] {
        let spec = SpawnSpec {
            size: size_of::<SpawnSpec>() as u32,
            n_args: 0,
            program: Bytes::borrow(name.as_bytes()),
            args: ptr::null(),
            token: 0,
            fds: ptr::null(),
            n_fds: 0,
            reserved: 0,
        };
        assert_eq!((HOST.spawn)(ctx(&protocol), &raw const spec), -i64::from(libc::ENOENT), "{name}");
        let many = SpawnSpec { n_args: 100_000, ..spec };
        assert_eq!((HOST.spawn)(ctx(&protocol), &raw const many), -i64::from(libc::E2BIG));
    }
    assert_eq!((HOST.kill)(ctx(&protocol), 1, 15), -libc::ENOENT);
    assert_eq!((HOST.poll_remove)(ctx(&protocol), -5), -libc::ENOENT);
}
