//! System calls of the benchmark: rings of packet sockets, two tiny XDP programs.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use bench_support::sys::{interface_index, packet_socket, set_option};

/// XDP verdict "send back out of the same interface".
pub(crate) const XDP_TX: i32 = 3;
/// XDP verdict "go on to the stack".
pub(crate) const XDP_PASS: i32 = 2;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_ATTACH_XDP: u32 = 37;
const TEST_LIVE_FRAMES: u32 = 1 << 1;

/// Loads an XDP program that gives the same verdict on every frame.
pub(crate) fn verdict_program(verdict: i32) -> io::Result<OwnedFd> {
    // r0 = verdict; exit
    let code: [u64; 2] = [0xb7 | (u64::from(verdict.cast_unsigned()) << 32), 0x95];
    let licence = c"Dual MIT/GPL";
    let mut attr = [0_u8; 128];
    put(&mut attr, 0, &BPF_PROG_TYPE_XDP.to_ne_bytes());
    put(&mut attr, 4, &(code.len() as u32).to_ne_bytes());
    put(&mut attr, 8, &(code.as_ptr() as u64).to_ne_bytes());
    put(&mut attr, 16, &(licence.as_ptr() as u64).to_ne_bytes());
    bpf(BPF_PROG_LOAD, &mut attr).map(|fd| {
        // SAFETY: the kernel just gave us this descriptor.
        unsafe { OwnedFd::from_raw_fd(fd) }
    })
}

/// Attaches a program to an interface for as long as the returned link is open.
pub(crate) fn attach(program: &OwnedFd, interface: &str) -> io::Result<OwnedFd> {
    let mut attr = [0_u8; 128];
    put(&mut attr, 0, &program.as_raw_fd().to_ne_bytes());
    put(&mut attr, 4, &interface_index(interface)?.to_ne_bytes());
    put(&mut attr, 8, &BPF_ATTACH_XDP.to_ne_bytes());
    bpf(BPF_LINK_CREATE, &mut attr).map(|fd| {
        // SAFETY: the kernel just gave us this descriptor.
        unsafe { OwnedFd::from_raw_fd(fd) }
    })
}

/// Lets the kernel send `repeat` copies of a frame out of the interface through `program` (an [`XDP_TX`] verdict).
pub(crate) fn send_live(program: &OwnedFd, interface: u32, frame: &[u8], repeat: u32) -> io::Result<()> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let context: [u32; 6] = [0, frame.len() as u32, 0, interface, 0, 0];
    let mut attr = [0_u8; 128];
    put(&mut attr, 0, &program.as_raw_fd().to_ne_bytes());
    put(&mut attr, 8, &(frame.len() as u32).to_ne_bytes());
    put(&mut attr, 16, &(frame.as_ptr() as u64).to_ne_bytes());
    put(&mut attr, 32, &repeat.to_ne_bytes());
    put(&mut attr, 40, &(size_of_val(&context) as u32).to_ne_bytes());
    put(&mut attr, 48, &(context.as_ptr() as u64).to_ne_bytes());
    put(&mut attr, 64, &TEST_LIVE_FRAMES.to_ne_bytes());
    put(&mut attr, 72, &64_u32.to_ne_bytes());
    bpf(BPF_PROG_TEST_RUN, &mut attr).map(|_| ())
}

fn put(attr: &mut [u8; 128], at: usize, bytes: &[u8]) {
    attr[at..at + bytes.len()].copy_from_slice(bytes);
}

fn bpf(command: libc::c_long, attr: &mut [u8; 128]) -> io::Result<i32> {
    // SAFETY: the attribute block is larger than any command used here needs, zero where unused, and what it points to
    // lives in the callers over this call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), attr.len()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// A TPACKET_V2 socket with a receive and a transmit ring of equal slots.
pub(crate) struct Ring {
    fd: OwnedFd,
    map: *mut u8,
    slots: usize,
    rx: usize,
    tx: usize,
}

const SLOT: usize = 2048;
const SLOTS: usize = 2048;
const BLOCK: usize = 1 << 16;
/// Where the kernel looks for a frame to send: behind the aligned header.
const TX_DATA: usize =
    libc::TPACKET_ALIGNMENT * size_of::<libc::tpacket2_hdr>().div_ceil(libc::TPACKET_ALIGNMENT);

impl Ring {
    /// Opens the interface for all frames.
    pub(crate) fn open(interface: &str) -> io::Result<Self> {
        let fd = packet_socket(interface, libc::ETH_P_ALL as u16)?;
        set_option(
            &fd,
            libc::SOL_PACKET,
            libc::PACKET_VERSION,
            &(libc::tpacket_versions::TPACKET_V2 as i32),
        )?;
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: (SLOT * SLOTS / BLOCK) as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: SLOTS as u32,
        };
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        set_option(&fd, libc::SOL_PACKET, libc::PACKET_TX_RING, &request)?;
        // SAFETY: a fresh shared mapping of the rings just asked for; the kernel checks the size.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                2 * SLOT * SLOTS,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                fd.as_raw_fd(),
                0,
            )
        };
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, map: map.cast(), slots: SLOTS, rx: 0, tx: 0 })
    }

    /// The socket, for polling.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Moves up to `limit` received frames to the other ring's transmit slots; how many. Frames that find no slot are
    /// dropped, as a forwarder must.
    pub(crate) fn forward(&mut self, to: &mut Self, limit: usize) -> usize {
        let mut done = 0;
        while done < limit {
            let slot = self.slot(self.rx);
            if status(slot).load(std::sync::atomic::Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            to.put(slot);
            status(slot).store(libc::TP_STATUS_KERNEL, std::sync::atomic::Ordering::Release);
            self.rx = (self.rx + 1) % self.slots;
            done += 1;
        }
        done
    }

    /// Sends up to 64 received frames out of `to`, straight from their slots; how many. Frames that find no room are
    /// dropped, as a forwarder must.
    pub(crate) fn send(&mut self, to: &OwnedFd, vectors: &mut Vectors) -> usize {
        let mut ready = 0;
        while ready < vectors.parts.len() {
            let slot = self.slot((self.rx + ready) % self.slots);
            if status(slot).load(std::sync::atomic::Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                break;
            }
            let header = slot.cast::<libc::tpacket2_hdr>();
            // SAFETY: the status says that the slot is ours, with a valid header.
            let (length, mac) = unsafe { ((*header).tp_snaplen as usize, usize::from((*header).tp_mac)) };
            // SAFETY: the kernel placed `length` bytes at `mac` inside the slot.
            let start = unsafe { slot.add(mac) };
            vectors.parts[ready] = libc::iovec { iov_base: start.cast(), iov_len: length };
            ready += 1;
        }
        for (message, part) in vectors.messages.iter_mut().zip(&mut vectors.parts) {
            message.msg_hdr.msg_iov = part;
        }
        // SAFETY: each of the first `ready` messages points to one part and it into a slot that is ours; all live over the
        // call, which only reads them.
        unsafe {
            libc::sendmmsg(to.as_raw_fd(), vectors.messages.as_mut_ptr(), ready as u32, libc::MSG_DONTWAIT)
        };
        for _ in 0..ready {
            status(self.slot(self.rx)).store(libc::TP_STATUS_KERNEL, std::sync::atomic::Ordering::Release);
            self.rx = (self.rx + 1) % self.slots;
        }
        ready
    }

    /// Tells the kernel to send what stands in the transmit slots.
    pub(crate) fn kick(&self) {
        // SAFETY: an empty send; a full queue is answered with an error that costs the frames, as for any forwarder.
        unsafe {
            libc::send(self.fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT);
        }
    }

    fn slot(&self, index: usize) -> *mut u8 {
        // SAFETY: `index` is below `slots`, so the result lies in the receive half of the mapping.
        unsafe { self.map.add(index * SLOT) }
    }

    fn put(&mut self, from: *mut u8) {
        // SAFETY: `tx` is below `slots`; the transmit half follows the receive half.
        let to = unsafe { self.map.add((self.slots + self.tx) * SLOT) };
        if status(to).load(std::sync::atomic::Ordering::Acquire) != libc::TP_STATUS_AVAILABLE {
            return;
        }
        let (source, target) = (from.cast::<libc::tpacket2_hdr>(), to.cast::<libc::tpacket2_hdr>());
        // SAFETY: `from` is a slot that the kernel handed to us, with a valid header.
        let (length, mac) = unsafe { ((*source).tp_snaplen as usize, usize::from((*source).tp_mac)) };
        let length = length.min(SLOT - TX_DATA);
        // SAFETY: the kernel placed `length` bytes at `mac` inside the slot; the target slot is ours and has the room.
        unsafe { std::ptr::copy_nonoverlapping(from.add(mac), to.add(TX_DATA), length) };
        // SAFETY: the target slot is ours until its status says otherwise.
        unsafe { (*target).tp_len = length as u32 };
        status(to).store(libc::TP_STATUS_SEND_REQUEST, std::sync::atomic::Ordering::Release);
        self.tx = (self.tx + 1) % self.slots;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this size and nothing points into it any more.
        unsafe { libc::munmap(self.map.cast(), 2 * SLOT * self.slots) };
    }
}

fn status<'a>(slot: *mut u8) -> &'a std::sync::atomic::AtomicU32 {
    // SAFETY: `tp_status` is the first, aligned word of every slot and shared with the kernel.
    unsafe { std::sync::atomic::AtomicU32::from_ptr(slot.cast()) }
}

/// Message headers for sending 64 frames from where they are.
pub(crate) struct Vectors {
    parts: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Vectors {
    /// Without frames.
    pub(crate) fn new() -> Self {
        // SAFETY: all-zero is a valid `mmsghdr`.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_iovlen = 1;
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { parts: vec![part; 64], messages: vec![message; 64] }
    }
}

/// Buffers for `recvmmsg` and `sendmmsg` of up to 64 frames.
pub(crate) struct Mmsg {
    frames: Vec<[u8; 2048]>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

impl Mmsg {
    /// 64 frames of 2 KiB.
    pub(crate) fn new() -> Self {
        let mut frames = vec![[0_u8; 2048]; 64];
        let mut vectors: Vec<libc::iovec> = frames
            .iter_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
            .collect();
        let messages = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: all-zero is a valid `mmsghdr`.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        Self { frames, vectors, messages }
    }

    /// Receives what is there and sends it out of `to`; how many frames.
    pub(crate) fn forward(&mut self, from: &OwnedFd, to: &OwnedFd) -> usize {
        for (vector, frame) in self.vectors.iter_mut().zip(&self.frames) {
            vector.iov_len = frame.len();
        }
        // SAFETY: every message points to one vector and it to one frame of `self`; all live over the call.
        let got = unsafe {
            libc::recvmmsg(
                from.as_raw_fd(),
                self.messages.as_mut_ptr(),
                self.messages.len() as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let Ok(got) = usize::try_from(got) else { return 0 };
        for (vector, message) in self.vectors.iter_mut().zip(&self.messages[..got]) {
            vector.iov_len = message.msg_len as usize;
        }
        // SAFETY: as above; the call only reads the frames.
        unsafe { libc::sendmmsg(to.as_raw_fd(), self.messages.as_mut_ptr(), got as u32, libc::MSG_DONTWAIT) };
        got
    }
}
