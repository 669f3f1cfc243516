//! Channels and connections.

use client::calls;
use libc::{c_int, c_uint, pid_t};

use crate::call::{calls, errno};

calls! {
    /// Makes a channel; `flags` are `_NTO_CHF_*`.
    ChannelCreate, ChannelCreate_r (flags: c_uint) -> c_int = calls::channel_create(flags).map_err(errno);

    /// Ends a channel.
    ChannelDestroy, ChannelDestroy_r (chid: c_int) -> c_int = calls::channel_destroy(chid).map(|()| 0).map_err(errno);

    /// Attaches to a channel; `index` is the lowest number wanted or `_NTO_SIDE_CHANNEL`.
    ConnectAttach, ConnectAttach_r (nd: u32, pid: pid_t, chid: c_int, index: c_uint, flags: c_int) -> c_int = {
        calls::connect_attach(nd, pid, chid, index, flags.cast_unsigned()).map_err(errno)
    };

    /// Detaches a connection; a server detaches a client's number after its DISCONNECT pulse, too.
    ConnectDetach, ConnectDetach_r (coid: c_int) -> c_int = calls::connect_detach(coid).map(|()| 0).map_err(errno);
}
