//! What turns a crate into a module: the ELF note, the `abi_stable` root and the static tables.

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Header,
    handshake::{HANDSHAKE_MAGIC, Handshake, HandshakeRef},
};

pub use abi_stable::{
    library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult},
    std_types::RStr,
};
pub use io_pkt_abi::{
    DriverTable, ProtocolTable, ResolverTable,
    handshake::{KIND_DRIVER, KIND_PROTOCOL, KIND_RESOLVER},
    note::ModuleNote,
};

/// A table in static memory.
#[repr(transparent)]
#[derive(Debug)]
pub struct Static<T>(T);

// SAFETY: the tables hold function pointers and pointers to `'static` option lists; nobody writes to them.
unsafe impl<T> Sync for Static<T> {}

impl Static<DriverTable> {
    /// For [`crate::export_driver!`].
    #[must_use]
    pub const fn driver(table: DriverTable) -> Self {
        Self(table)
    }
}

impl Static<ProtocolTable> {
    /// For [`crate::export_protocol!`].
    #[must_use]
    pub const fn protocol(table: ProtocolTable) -> Self {
        Self(table)
    }
}

impl Static<ResolverTable> {
    /// For [`crate::export_resolver!`].
    #[must_use]
    pub const fn resolver(table: ResolverTable) -> Self {
        Self(table)
    }
}

impl<T> Static<T> {
    /// Where the table lies, as the host reads it.
    #[must_use]
    pub const fn header(&'static self) -> *const Header {
        (&raw const self.0).cast()
    }

    /// The table.
    #[must_use]
    pub const fn table(&'static self) -> &'static T {
        &self.0
    }
}

/// The handshake of a module.
#[must_use]
pub fn handshake(
    name: &'static str,
    build: &'static str,
    get_table: extern "C" fn(u32) -> *const Header,
) -> HandshakeRef {
    use abi_stable::prefix_type::PrefixTypeTrait;
    Handshake {
        magic: HANDSHAKE_MAGIC,
        abi_major: ABI_MAJOR,
        abi_minor: ABI_MINOR,
        name: RStr::from_str(name),
        build: RStr::from_str(build),
        get_table,
    }
    .leak_into_prefix()
}

/// Makes the crate a driver module: `export_driver!("devn-tap", Tap)`, with a [`crate::Driver`]. Once per crate, at its
/// root; the crate is a `cdylib`. A program can link one such crate at most (the exported name is fixed).
#[macro_export]
macro_rules! export_driver {
    ($name:literal, $driver:ty) => {
        $crate::__export_module!($name, {
            static TABLE: $crate::export::Static<$crate::export::DriverTable> =
                $crate::export::Static::driver($crate::driver_table::<$driver>());
            $crate::export::KIND_DRIVER
        });
    };
}

/// Makes the crate a protocol module: `export_protocol!("lsm-bridge", Bridge)`, with a [`crate::Protocol`]. As
/// [`crate::export_driver!`] otherwise.
#[macro_export]
macro_rules! export_protocol {
    ($name:literal, $protocol:ty) => {
        $crate::__export_module!($name, {
            static TABLE: $crate::export::Static<$crate::export::ProtocolTable> =
                $crate::export::Static::protocol($crate::protocol_table::<$protocol>());
            $crate::export::KIND_PROTOCOL
        });
    };
}

/// Makes the crate a node resolver: `export_resolver!("nr-static", Static)`, with a [`crate::Resolver`]. As
/// [`crate::export_driver!`] otherwise.
#[macro_export]
macro_rules! export_resolver {
    ($name:literal, $resolver:ty) => {
        $crate::__export_module!($name, {
            static TABLE: $crate::export::Static<$crate::export::ResolverTable> =
                $crate::export::Static::resolver($crate::resolver_table::<$resolver>());
            $crate::export::KIND_RESOLVER
        });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_module {
    ($name:literal, { $table:item $kind:expr }) => {
        #[expect(unsafe_code, reason = "the note and the root module are found by their section and symbol")]
        const _: () = {
            $table

            #[used]
            #[unsafe(link_section = ".note.io-pkt")]
            static NOTE: $crate::export::ModuleNote = $crate::export::ModuleNote::new($name);

            extern "C" fn table(kind: u32) -> *const $crate::abi::Header {
                if kind == $kind { TABLE.header() } else { ::std::ptr::null() }
            }

            fn root() -> $crate::abi::HandshakeRef {
                $crate::export::handshake($name, env!("CARGO_PKG_VERSION"), table)
            }

            extern "C" fn construct() -> $crate::export::RootModuleResult {
                $crate::export::__call_root_module_loader(root)
            }

            // The name that abi_stable looks for; a test of the SDK compares it with abi_stable's own constant.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            // SAFETY: `construct` returns a `HandshakeRef`, the type named here.
            static ROOT: $crate::export::LibHeader = unsafe {
                $crate::export::LibHeader::from_constructor::<$crate::abi::HandshakeRef>(
                    construct,
                    $crate::export::CheckTypeLayout::Yes,
                )
            };
        };
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_exported_name_is_the_one_abi_stable_looks_for() {
        assert_eq!(abi_stable::library::ROOT_MODULE_LOADER_NAME, "_1as_0lib_1header_0root_bmodule_bloader");
    }
}
