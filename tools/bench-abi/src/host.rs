//! A daemon that only counts: a small pool and host functions that do next to nothing.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, FrameDesc, Header, HostTable, InterfaceEvent, InterfaceInfo, PoolInfo,
    SpawnSpec,
    info::{EVENT_ARRIVED, IF_LINK_UP, IF_PROMISCUOUS},
};

use crate::{FRAMES, FROM, TO};

const LEVEL_ERROR: u32 = 1;
const CHUNK: usize = 2048;
const HEADROOM: usize = 128;
/// One batch in each direction.
const CHUNKS: usize = 2 * FRAMES;

/// Pool, counters and the table of functions. Stays where it is: modules hold its address.
pub struct Host {
    pool: Vec<u64>,
    info: Cell<PoolInfo>,
    table: HostTable,
    clock: Cell<u64>,
    sent: Cell<u64>,
    log: RefCell<Vec<String>>,
}

impl Host {
    /// A pool whose first batch of chunks holds frames from [`FROM`] to [`TO`], the second the way back.
    #[must_use]
    pub fn new() -> Box<Self> {
        let mut host = Box::new(Self {
            pool: vec![0; CHUNKS * CHUNK / 8],
            info: Cell::new(PoolInfo {
                size: size_of::<PoolInfo>() as u32,
                chunk_size: CHUNK as u32,
                base: std::ptr::null_mut(),
                len: (CHUNKS * CHUNK) as u64,
                headroom: HEADROOM as u32,
                fd: -1,
            }),
            table: table(),
            clock: Cell::new(1),
            sent: Cell::new(0),
            log: RefCell::new(Vec::new()),
        });
        let base = host.pool.as_mut_ptr().cast::<u8>();
        host.info.set(PoolInfo { base, ..host.info.get() });
        let (a, b) = ([2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0xb]);
        for chunk in 0..CHUNKS {
            let (destination, source) = if chunk < FRAMES { (b, a) } else { (a, b) };
            host.write(chunk, &destination, &source);
        }
        host
    }

    /// The functions, for a module.
    #[must_use]
    pub fn table(&self) -> &HostTable {
        &self.table
    }

    /// Their first argument.
    #[must_use]
    pub fn ctx(&self) -> *mut c_void {
        std::ptr::from_ref(self).cast_mut().cast()
    }

    /// Descriptors of the batch that goes from [`FROM`] to [`TO`], or back.
    #[must_use]
    pub fn batch(&self, back: bool) -> [FrameDesc; FRAMES] {
        std::array::from_fn(|at| {
            let chunk = at + if back { FRAMES } else { 0 };
            FrameDesc { offset: (chunk * CHUNK + HEADROOM) as u64, len: 64, flags: 0, region: 0 }
        })
    }

    /// Frames that were sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// Errors that modules logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.borrow().join("\n")
    }

    /// Calls `tell` with the arrival of each of the two interfaces.
    pub fn arrivals(&self, mut tell: impl FnMut(&InterfaceEvent)) {
        for (id, name) in [(FROM, "en0"), (TO, "en1")] {
            let info = InterfaceInfo {
                size: size_of::<InterfaceInfo>() as u32,
                flags: IF_LINK_UP | IF_PROMISCUOUS,
                mac: [2, 0, 0, 0, 1, id as u8],
                permanent_mac: [2, 0, 0, 0, 1, id as u8],
                mtu: 1500,
                speed_mbps: 0,
                reserved: 0,
                system_name: Bytes::from_static("bench"),
                description: Bytes::EMPTY,
                media: Bytes::EMPTY,
            };
            tell(&InterfaceEvent {
                size: size_of::<InterfaceEvent>() as u32,
                kind: EVENT_ARRIVED,
                interface: id,
                reserved: 0,
                name: Bytes::from_static(name),
                info: &raw const info,
            });
        }
    }

    fn write(&mut self, chunk: usize, destination: &[u8; 6], source: &[u8; 6]) {
        let words = &mut self.pool[(chunk * CHUNK + HEADROOM) / 8..][..8];
        let mut frame = [0_u8; 64];
        frame[..6].copy_from_slice(destination);
        frame[6..12].copy_from_slice(source);
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        for (word, bytes) in words.iter_mut().zip(frame.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
    }
}

fn host<'a>(ctx: *mut c_void) -> &'a Host {
    // SAFETY: `ctx` is what `Host::ctx` gave out, and the host outlives every use in this benchmark.
    unsafe { &*ctx.cast::<Host>() }
}

fn table() -> HostTable {
    HostTable {
        header: Header { size: size_of::<HostTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
        log,
        now,
        pool,
        alloc,
        free,
        retain: free,
        deliver: free,
        send,
        claim,
        interface,
        poll_add,
        poll_modify,
        poll_remove,
        set_deadline,
        wake,
        spawn,
        kill,
        fail,
        log_level,
        open_resolver: None,
    }
}

extern "C" fn log(ctx: *mut c_void, level: u32, _target: Bytes, text: Bytes) {
    if level > LEVEL_ERROR {
        return;
    }
    // SAFETY: the text is valid during the call by the ABI.
    let text = unsafe { std::slice::from_raw_parts(text.ptr, text.len as usize) };
    host(ctx).log.borrow_mut().push(String::from_utf8_lossy(text).into_owned());
}

extern "C" fn now(ctx: *mut c_void) -> u64 {
    let clock = &host(ctx).clock;
    clock.set(clock.get() + 1);
    clock.get()
}

extern "C" fn pool(ctx: *mut c_void) -> *const PoolInfo {
    host(ctx).info.as_ptr()
}

extern "C" fn alloc(_: *mut c_void, _: *mut FrameDesc, _: u32) -> u32 {
    0
}

extern "C" fn free(_: *mut c_void, _: *const FrameDesc, _: u32) {}

extern "C" fn send(ctx: *mut c_void, _interface: u32, _: *const FrameDesc, n: u32) -> u32 {
    let sent = &host(ctx).sent;
    sent.set(sent.get() + u64::from(n));
    n
}

extern "C" fn claim(_: *mut c_void, _: u32) -> i32 {
    0
}

extern "C" fn interface(_: *mut c_void, _: *const InterfaceInfo) -> i32 {
    -1
}

extern "C" fn poll_add(_: *mut c_void, _: i32, _: u32, _: u64) -> i64 {
    -1
}

extern "C" fn poll_modify(_: *mut c_void, _: i64, _: u32) -> i32 {
    -1
}

extern "C" fn poll_remove(_: *mut c_void, _: i64) -> i32 {
    -1
}

extern "C" fn set_deadline(_: *mut c_void, _: u64) {}

extern "C" fn wake(_: *mut c_void) {}

extern "C" fn spawn(_: *mut c_void, _: *const SpawnSpec) -> i64 {
    -1
}

extern "C" fn kill(_: *mut c_void, _: i64, _: i32) -> i32 {
    -1
}

extern "C" fn fail(ctx: *mut c_void, reason: Bytes) {
    log(ctx, LEVEL_ERROR, Bytes::EMPTY, reason);
}

extern "C" fn log_level(_: *mut c_void) -> u32 {
    3
}
