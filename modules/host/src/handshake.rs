//! Asks a mapped module for its tables: through `abi_stable` when it is Rust, through the C entry otherwise.
//!
//! The layout check of `abi_stable` runs with a fresh cache for each load: its process-wide cache would keep pointers
//! into every module ever seen and judge one module by another. After the check the root is initialised without a second
//! one. Whatever the module says is compared with the note that was read before its code ran.

use std::ffi::c_void;

use abi_stable::{
    StableAbi,
    abi_stability::abi_checking::{CheckingGlobals, check_layout_compatibility_with_globals},
    library::{AbiHeaderRef, ROOT_MODULE_LOADER_NAME_WITH_NUL},
};
use io_pkt_abi::{
    ABI_MAJOR, Bytes, Header,
    handshake::{C_ENTRY_SYMBOL, CHandshake, HANDSHAKE_MAGIC, HandshakeRef},
};
use libloading::os::unix::Library;

use crate::{elf::ElfFacts, error::Refusal};

/// What a module offers after the handshake.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// Free text that tells builds apart.
    pub(crate) build: String,
    /// Gives out tables.
    pub(crate) get_table: extern "C" fn(u32) -> *const Header,
    /// An address inside the mapped file.
    pub(crate) address: *const c_void,
    /// `rust` or `C`.
    pub(crate) language: &'static str,
}

/// Both handshakes in one shape.
struct Claims<'m> {
    magic: u64,
    major: u16,
    minor: u16,
    name: &'m str,
    build: &'m str,
}

type CEntry = extern "C" fn() -> *const CHandshake;

/// Runs the handshake.
pub(crate) fn shake(library: &Library, facts: &ElfFacts) -> Result<Offer, Refusal> {
    // SAFETY: the symbol's address itself is the reference; `AbiHeaderRef` has the size of a pointer. What lies there is
    // checked by `upgrade` before anything else of it is used.
    match unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME_WITH_NUL) } {
        Ok(symbol) => rust(*symbol, symbol.into_raw(), facts),
        Err(_) => {
            // SAFETY: the header file of the ABI gives this symbol this type.
            match unsafe { library.get::<CEntry>(C_ENTRY_SYMBOL) } {
                Ok(symbol) => c(*symbol, symbol.into_raw(), facts),
                Err(_) => Err(Refusal::handshake(
                    format!("a root module of abi_stable or the function {C_ENTRY_SYMBOL}"),
                    "neither",
                )),
            }
        }
    }
}

fn rust(root: AbiHeaderRef, address: *mut c_void, facts: &ElfFacts) -> Result<Offer, Refusal> {
    let bad = |found: String| Refusal::handshake("an abi_stable root module of io-pkt", found);
    let header = root.upgrade().map_err(|error| bad(first_line(&error.to_string())))?;
    let Some(layout) = header.layout() else { return Err(bad("one without a layout".to_owned())) };
    check_layout_compatibility_with_globals(HandshakeRef::LAYOUT, layout, &CheckingGlobals::new())
        .map_err(|errors| bad(format!("another layout: {}", first_line(&errors.to_string()))))?;
    // SAFETY: the layout was compared with that of `HandshakeRef` just now.
    let handshake = unsafe { header.init_root_module_with_unchecked_layout::<HandshakeRef>() }
        .map_err(|error| bad(format!("a constructor that failed: {}", first_line(&error.to_string()))))?;
    let claims = Claims {
        magic: handshake.magic(),
        major: handshake.abi_major(),
        minor: handshake.abi_minor(),
        name: handshake.name().as_str(),
        build: handshake.build().as_str(),
    };
    check(&claims, facts)?;
    let build = claims.build.to_owned();
    Ok(Offer { build, get_table: handshake.get_table(), address, language: "rust" })
}

fn c(entry: CEntry, address: *mut c_void, facts: &ElfFacts) -> Result<Offer, Refusal> {
    // SAFETY: null, or a static structure of the module, as the header file says.
    let Some(handshake) = (unsafe { entry().as_ref() }) else {
        return Err(Refusal::handshake(format!("a handshake from {C_ENTRY_SYMBOL}"), "a null pointer"));
    };
    // The magic says whether the rest of the structure can be believed.
    if handshake.magic != HANDSHAKE_MAGIC {
        return Err(wrong_magic(handshake.magic));
    }
    let claims = Claims {
        magic: handshake.magic,
        major: handshake.abi_major,
        minor: handshake.abi_minor,
        // SAFETY: static texts of the module.
        name: unsafe { text(handshake.name) }?,
        // SAFETY: as above.
        build: unsafe { text(handshake.build) }?,
    };
    check(&claims, facts)?;
    let Some(get_table) = handshake.get_table else {
        return Err(Refusal::handshake("a function get_table", "a null pointer"));
    };
    Ok(Offer { build: claims.build.to_owned(), get_table, address, language: "C" })
}

fn check(claims: &Claims<'_>, facts: &ElfFacts) -> Result<(), Refusal> {
    if claims.magic != HANDSHAKE_MAGIC {
        return Err(wrong_magic(claims.magic));
    }
    let (major, minor) = (claims.major, claims.minor);
    if (major, minor) != (ABI_MAJOR, facts.abi_minor) {
        return Err(Refusal::handshake(
            format!("ABI version {ABI_MAJOR}.{} in the handshake, as in the note", facts.abi_minor),
            format!("{major}.{minor}"),
        ));
    }
    if claims.name != facts.name {
        return Err(Refusal::handshake(
            format!("module name {:?} in the handshake, as in the note", facts.name),
            format!("{:?}", claims.name),
        ));
    }
    Ok(())
}

fn wrong_magic(found: u64) -> Refusal {
    Refusal::handshake(format!("handshake magic 0x{HANDSHAKE_MAGIC:016x}"), format!("0x{found:016x}"))
}

/// # Safety
/// `bytes` describes static bytes of the module.
pub(crate) unsafe fn text<'m>(bytes: Bytes) -> Result<&'m str, Refusal> {
    if bytes.len == 0 {
        return Ok("");
    }
    if bytes.ptr.is_null() || bytes.len > 65_536 {
        return Err(Refusal::handshake("a text of at most 65536 bytes", format!("{bytes:?}")));
    }
    // SAFETY: not null; valid by the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.ptr, bytes.len as usize) };
    std::str::from_utf8(bytes).map_err(|_| Refusal::handshake("a text in UTF-8", "other bytes"))
}

/// `abi_stable` explains layouts over pages; the operator needs a line.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given").to_owned()
}
