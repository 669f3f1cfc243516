//! Sizes and offsets of everything that crosses the border, as this build has them.
//!
//! One line a structure (`FrameDesc size 16`) and one a field (`FrameDesc.len 8`). Compared with the C header, and with the
//! frozen list of ABI 1.0.

use std::mem::offset_of;

use io_pkt_abi::{
    Bytes, CreateArgs, DriverStats, DriverTable, FrameDesc, Header, HostTable, InterfaceEvent, InterfaceInfo,
    OptionSpec, OptionValue, PollEvent, PollWork, PoolInfo, ProtocolTable, ResolverAddress, ResolverAnswer,
    ResolverArgs, ResolverQuery, ResolverTable, SpawnSpec, TextBuf, handshake::CHandshake, note::ModuleNote,
};

/// A structure that crosses the border.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Name in Rust.
    pub name: &'static str,
    /// Name in C, after `struct`.
    pub c_name: &'static str,
    /// Bytes.
    pub size: usize,
    /// Fields and their offsets; their names are the same in C.
    pub fields: Vec<(&'static str, usize)>,
}

impl Layout {
    /// The lines of this structure.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} size {}", self.name, self.size)];
        lines.extend(self.fields.iter().map(|(field, offset)| format!("{}.{field} {offset}", self.name)));
        lines
    }
}

macro_rules! layouts {
    ($($name:ident = $c_name:literal { $($field:ident),* $(,)? })*) => {
        /// Every structure, in the order of the header file.
        #[must_use]
        pub fn layouts() -> Vec<Layout> {
            vec![$(Layout {
                name: stringify!($name),
                c_name: $c_name,
                size: size_of::<$name>(),
                fields: vec![$((stringify!($field), offset_of!($name, $field))),*],
            }),*]
        }
    };
}

layouts! {
    ModuleNote = "io_pkt_module_note" { namesz, descsz, kind, owner, magic, abi_major, abi_minor, name }
    Bytes = "io_pkt_bytes" { ptr, len }
    TextBuf = "io_pkt_text_buf" { ptr, cap, len }
    FrameDesc = "io_pkt_frame_desc" { offset, len, flags, region }
    PoolInfo = "io_pkt_pool_info" { size, chunk_size, base, len, headroom, fd }
    OptionSpec = "io_pkt_option_spec" { name, help, kind, repeats, min, max, choices }
    OptionValue = "io_pkt_option_value" { name, value }
    InterfaceInfo = "io_pkt_interface_info" {
        size, flags, mac, permanent_mac, mtu, speed_mbps, reserved, system_name, description, media,
    }
    InterfaceEvent = "io_pkt_interface_event" { size, kind, interface, reserved, name, info }
    PollEvent = "io_pkt_poll_event" { token, ready, value }
    PollWork = "io_pkt_poll_work" { size, n_events, events, now, budget_frames, budget_bytes, more, done }
    SpawnSpec = "io_pkt_spawn_spec" { size, n_args, program, args, token, fds, n_fds, reserved }
    DriverStats = "io_pkt_driver_stats" {
        size, reserved, tx_packets, tx_bytes, tx_no_memory, rx_packets, rx_bytes, rx_no_memory, single_collisions,
        deferred, late_collisions, tx_aborted, tx_underruns, tx_no_carrier, rx_alignment, rx_crc, rx_dropped,
        tx_dropped,
    }
    Header = "io_pkt_header" { size, major, minor }
    CreateArgs = "io_pkt_create_args" {
        size, instance, host, ctx, name, root, options, n_options, state, error, devices, net,
    }
    HostTable = "io_pkt_host_table" {
        header, log, now, pool, alloc, free, retain, deliver, send, claim, interface, poll_add, poll_modify,
        poll_remove, set_deadline, wake, spawn, kill, fail, log_level, open_resolver,
    }
    DriverTable = "io_pkt_driver_table" {
        header, capabilities, options, n_options, create, start, poll, transmit, stats, stop, destroy,
    }
    ProtocolTable = "io_pkt_protocol_table" {
        header, capabilities, options, n_options, prefix, create, start, poll, receive, interface_event, report, stop,
        destroy,
    }
    ResolverArgs = "io_pkt_resolver_args" { size, reserved, parameter, domain, log, ctx, error }
    ResolverQuery = "io_pkt_resolver_query" { size, reserved, name, domain }
    ResolverAddress = "io_pkt_resolver_address" { family, reserved, bytes }
    ResolverAnswer = "io_pkt_resolver_answer" { size, cap, addresses, len, reserved }
    ResolverTable = "io_pkt_resolver_table" { header, capabilities, create, resolve, destroy }
    CHandshake = "io_pkt_handshake" { magic, abi_major, abi_minor, reserved, name, build, get_table }
}
