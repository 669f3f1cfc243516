//! A driver against the bare tables of module ABI 1.0: every frame that is sent comes back. Frozen, see `README.md`.
//!
//! Built with `--cfg later` against a later minor version, its table has one more field than the host knows.

use std::ffi::c_void;

use abi_stable::{
    StableAbi, export_root_module, prefix_type::PrefixTypeTrait, std_types::RStr, type_layout::TypeLayout,
};
use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, CreateArgs, DriverStats, DriverTable, FrameDesc, Handshake, HandshakeRef,
    Header, HostTable, InterfaceEvent, InterfaceInfo, OptionSpec, PollWork, ProtocolTable, TextBuf,
    frame::FLAG_CONTINUES,
    handshake::{HANDSHAKE_MAGIC, KIND_DRIVER},
    info::{IF_LINK_UP, option_kind},
    note::ModuleNote,
    table::CAP_UNMOUNTABLE,
};

const NAME: &str = if cfg!(later) { "devn-later" } else { "devn-frozen" };
const ROOM: usize = 64;

struct Echo {
    host: *const HostTable,
    ctx: *mut c_void,
    waiting: Vec<FrameDesc>,
    stats: DriverStats,
}

unsafe extern "C" fn create(args: *const CreateArgs, out: *mut *mut c_void) -> i32 {
    let args = unsafe { &*args };
    let stats = DriverStats { tx_packets: 0, tx_bytes: 0, rx_packets: 0, rx_bytes: 0, ..DriverStats::unknown() };
    let echo = Echo { host: args.host, ctx: args.ctx, waiting: Vec::with_capacity(ROOM), stats };
    unsafe { out.write(Box::into_raw(Box::new(echo)).cast()) };
    0
}

unsafe extern "C" fn start(use_: *mut c_void, _: *mut TextBuf) -> i32 {
    let echo = unsafe { &mut *use_.cast::<Echo>() };
    let info = InterfaceInfo {
        size: size_of::<InterfaceInfo>() as u32,
        flags: IF_LINK_UP,
        mac: [2, 0, 0, 0, 1, 0],
        permanent_mac: [2, 0, 0, 0, 1, 0],
        mtu: 1500,
        speed_mbps: 0,
        reserved: 0,
        system_name: Bytes::from_static("frozen"),
        description: Bytes::from_static("driver of module ABI 1.0"),
        media: Bytes::EMPTY,
    };
    unsafe { ((*echo.host).interface)(echo.ctx, &info) }
}

unsafe extern "C" fn poll(use_: *mut c_void, work: *mut PollWork) -> i32 {
    let echo = unsafe { &mut *use_.cast::<Echo>() };
    for desc in &echo.waiting {
        echo.stats.rx_bytes += u64::from(desc.len);
        echo.stats.rx_packets += u64::from(desc.flags & FLAG_CONTINUES == 0);
    }
    unsafe {
        (*work).more = 0;
        (*work).done = echo.waiting.len() as u32;
        ((*echo.host).deliver)(echo.ctx, echo.waiting.as_ptr(), echo.waiting.len() as u32);
    }
    echo.waiting.clear();
    0
}

unsafe extern "C" fn transmit(use_: *mut c_void, frames: *const FrameDesc, n: u32, taken: *mut u32) -> i32 {
    let echo = unsafe { &mut *use_.cast::<Echo>() };
    let frames = unsafe { std::slice::from_raw_parts(frames, n as usize) };
    let room = ROOM - echo.waiting.len();
    let fit = frames[..frames.len().min(room)].iter().rposition(|desc| desc.flags & FLAG_CONTINUES == 0);
    let count = fit.map_or(0, |last| last + 1);
    for desc in &frames[..count] {
        echo.stats.tx_bytes += u64::from(desc.len);
        echo.stats.tx_packets += u64::from(desc.flags & FLAG_CONTINUES == 0);
    }
    echo.waiting.extend_from_slice(&frames[..count]);
    unsafe {
        taken.write(count as u32);
        ((*echo.host).wake)(echo.ctx);
    }
    0
}

unsafe extern "C" fn stats(use_: *mut c_void, stats: *mut DriverStats) -> i32 {
    let echo = unsafe { &*use_.cast::<Echo>() };
    let size = unsafe { (*stats).size };
    let bytes = size_of::<DriverStats>().min(size as usize);
    let filled = DriverStats { size, ..echo.stats };
    unsafe { std::ptr::copy_nonoverlapping((&raw const filled).cast::<u8>(), stats.cast(), bytes) };
    0
}

unsafe extern "C" fn stop(use_: *mut c_void) -> i32 {
    let echo = unsafe { &mut *use_.cast::<Echo>() };
    unsafe { ((*echo.host).free)(echo.ctx, echo.waiting.as_ptr(), echo.waiting.len() as u32) };
    echo.waiting.clear();
    0
}

unsafe extern "C" fn destroy(use_: *mut c_void) {
    drop(unsafe { Box::from_raw(use_.cast::<Echo>()) });
}

struct Static<T>(T);
unsafe impl<T> Sync for Static<T> {}

static OPTIONS: Static<[OptionSpec; 1]> = Static([OptionSpec {
    name: Bytes::from_static("depth"),
    help: Bytes::from_static("not used: shows that options of 1.0 are still understood"),
    kind: option_kind::NUMBER,
    repeats: 0,
    min: 1,
    max: 64,
    choices: Bytes::EMPTY,
}]);

static TABLE: Static<DriverTable> = Static(DriverTable {
    header: Header { size: size_of::<DriverTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
    capabilities: CAP_UNMOUNTABLE,
    options: OPTIONS.0.as_ptr(),
    n_options: 1,
    create,
    start,
    poll,
    transmit,
    stats,
    stop,
    destroy,
    #[cfg(later)]
    later: destroy,
});

#[used]
#[unsafe(link_section = ".note.io-pkt")]
static NOTE: ModuleNote = ModuleNote::new(NAME);

extern "C" fn get_table(kind: u32) -> *const Header {
    if kind == KIND_DRIVER { (&raw const TABLE.0).cast() } else { std::ptr::null() }
}

/// What this build knows of the structures that cross, for the test that holds two builds against each other.
#[unsafe(no_mangle)]
pub extern "C" fn io_pkt_layout_of(which: u32) -> Option<&'static TypeLayout> {
    Some(match which {
        0 => HandshakeRef::LAYOUT,
        1 => HostTable::LAYOUT,
        2 => DriverTable::LAYOUT,
        3 => ProtocolTable::LAYOUT,
        4 => CreateArgs::LAYOUT,
        5 => InterfaceEvent::LAYOUT,
        6 => DriverStats::LAYOUT,
        _ => return None,
    })
}

#[export_root_module]
fn root() -> HandshakeRef {
    Handshake {
        magic: HANDSHAKE_MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        name: RStr::from_str(NAME),
        build: RStr::from_str("frozen 1.0"),
        get_table,
    }
    .leak_into_prefix()
}
