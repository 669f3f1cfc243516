//! Node resolvers: one trait in safe Rust and the table that it becomes, and the other side, on which a protocol opens one.
//!
//! ```text
//!  lsm-qnet                 io-pkt                     nr-NAME.so
//!  Host::open_resolver ──► loads, hands out the table ◄── export_resolver!("nr-NAME", Mine)
//!  OpenResolver ────────── create, resolve, destroy ───► impl Resolver
//! ```
//!
//! A resolver may take its time: whoever opens one calls it on a thread of its own. It is no use of the daemon, so it has
//! no host; what it may do is write to the log.

use std::{
    ffi::c_void,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use io_pkt_abi::{
    ABI_MAJOR, ABI_MINOR, Bytes, Header, ResolverAddress, ResolverAnswer, ResolverArgs, ResolverQuery,
    ResolverTable, TextBuf,
    resolver::{FAMILY_IPV4, FAMILY_IPV6, FAMILY_MAC},
};

use crate::{Error, Host, host::Remote, raw};

/// Addresses of one answer; more are cut off.
const MOST: usize = 16;
/// Room for a sentence, in bytes.
const SENTENCE: usize = 1024;

/// An address of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeAddress {
    /// Of Ethernet.
    Mac([u8; 6]),
    /// Of the Internet protocol.
    Ip(IpAddr),
}

/// A resolver: knows where nodes are. Panics are caught; after one the resolver answers `EIO` for ever.
pub trait Resolver: Sized + Send + 'static {
    /// Starts it with the parameter of `resolve=NAME:PARAMETER`. `domain` is the node's own, which names without one are
    /// of.
    ///
    /// # Errors
    /// Whatever keeps it from working; the operator reads the sentence, and nothing is mounted.
    fn create(parameter: &str, domain: &str, log: Log) -> Result<Self, Error>;

    /// The addresses of node `name` in `domain`; none when it is not known. May take a few seconds.
    ///
    /// # Errors
    /// Looking failed; the next resolver of the list is asked.
    fn resolve(&mut self, name: &str, domain: &str) -> Result<Vec<NodeAddress>, Error>;
}

/// Writes to the log of the daemon, on any thread.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    log: extern "C" fn(*mut c_void, u32, Bytes),
    ctx: *mut c_void,
}

// SAFETY: the ABI allows `log` on any thread until `destroy` returns, which ends the resolver that holds this.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    /// Something that an operator should look at.
    pub fn warn(&self, text: &str) {
        (self.log)(self.ctx, 2, Bytes::borrow(text.as_bytes()));
    }

    /// Something that an operator may want to know.
    pub fn info(&self, text: &str) {
        (self.log)(self.ctx, 3, Bytes::borrow(text.as_bytes()));
    }
}

// ---- the module's side ----

struct Use<R> {
    resolver: R,
    panicked: bool,
}

/// The table of a resolver; [`crate::export_resolver!`] makes it a static.
#[must_use]
pub const fn resolver_table<R: Resolver>() -> ResolverTable {
    ResolverTable {
        header: Header { size: size_of::<ResolverTable>() as u32, major: ABI_MAJOR, minor: ABI_MINOR },
        capabilities: 0,
        create: create::<R>,
        resolve: resolve::<R>,
        destroy: destroy::<R>,
    }
}

/// Runs an entry; a panic becomes `EIO`. Its message went to the panic hook.
fn fenced<T>(body: impl FnOnce() -> Result<T, Error>) -> (Result<T, Error>, bool) {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => (result, false),
        Err(payload) => {
            // A payload may panic when dropped.
            std::mem::forget(payload);
            (Err(Error::new(libc::EIO, "the resolver panicked")), true)
        }
    }
}

unsafe extern "C" fn create<R: Resolver>(args: *const ResolverArgs, use_: *mut *mut c_void) -> i32 {
    // SAFETY: null or valid by the ABI.
    let Some(args) = (unsafe { args.as_ref() }) else { return -libc::EINVAL };
    if (args.size as usize) < size_of::<ResolverArgs>() || use_.is_null() {
        return -libc::EINVAL;
    }
    // SAFETY: texts of the caller, valid during this call.
    let (parameter, domain) = unsafe { (raw::text(args.parameter), raw::text(args.domain)) };
    let log = Log { log: args.log, ctx: args.ctx };
    match fenced(|| R::create(parameter, domain, log)).0 {
        Ok(resolver) => {
            let made = Box::into_raw(Box::new(Use { resolver, panicked: false }));
            // SAFETY: not null, and valid for writing by the ABI.
            unsafe { use_.write(made.cast()) };
            0
        }
        Err(error) => {
            // SAFETY: null or a valid room by the ABI.
            unsafe { raw::write_text(args.error, error.text()) };
            -error.errno()
        }
    }
}

unsafe extern "C" fn resolve<R: Resolver>(
    use_: *mut c_void,
    query: *const ResolverQuery,
    answer: *mut ResolverAnswer,
) -> i32 {
    // SAFETY: made by `create` of the same `R`, and one call at a time by the ABI; the others are null or valid.
    let (use_, query, answer) = unsafe { (use_.cast::<Use<R>>().as_mut(), query.as_ref(), answer.as_mut()) };
    let (Some(use_), Some(query), Some(answer)) = (use_, query, answer) else { return -libc::EINVAL };
    if use_.panicked {
        return -libc::EIO;
    }
    // SAFETY: texts of the caller, valid during this call.
    let (name, domain) = unsafe { (raw::text(query.name), raw::text(query.domain)) };
    let (found, panicked) = fenced(|| use_.resolver.resolve(name, domain));
    use_.panicked = panicked;
    answer.len = 0;
    match found {
        Ok(addresses) => {
            let room = if answer.addresses.is_null() { 0 } else { answer.cap as usize };
            for (at, address) in addresses.iter().take(room).enumerate() {
                // SAFETY: `at` is below `cap`, for which the caller's room is valid.
                unsafe { answer.addresses.add(at).write(as_abi(*address)) };
                answer.len += 1;
            }
            0
        }
        Err(error) => -error.errno(),
    }
}

unsafe extern "C" fn destroy<R: Resolver>(use_: *mut c_void) {
    if !use_.is_null() {
        // SAFETY: made by `Box::into_raw` in `create`, and given back once.
        let made = unsafe { Box::from_raw(use_.cast::<Use<R>>()) };
        let _dropped = fenced(move || {
            drop(made);
            Ok(())
        });
    }
}

fn as_abi(address: NodeAddress) -> ResolverAddress {
    let mut bytes = [0; 16];
    let family = match address {
        NodeAddress::Mac(mac) => {
            bytes[..6].copy_from_slice(&mac);
            FAMILY_MAC
        }
        NodeAddress::Ip(IpAddr::V4(ip)) => {
            bytes[..4].copy_from_slice(&ip.octets());
            FAMILY_IPV4
        }
        NodeAddress::Ip(IpAddr::V6(ip)) => {
            bytes = ip.octets();
            FAMILY_IPV6
        }
    };
    ResolverAddress { family, reserved: 0, bytes }
}

fn from_abi(address: &ResolverAddress) -> Option<NodeAddress> {
    let [a, b, c, d, e, f, ..] = address.bytes;
    match address.family {
        FAMILY_MAC => Some(NodeAddress::Mac([a, b, c, d, e, f])),
        FAMILY_IPV4 => Some(NodeAddress::Ip(Ipv4Addr::new(a, b, c, d).into())),
        FAMILY_IPV6 => Some(NodeAddress::Ip(Ipv6Addr::from(address.bytes).into())),
        _ => None,
    }
}

// ---- the opener's side ----

/// A resolver that was opened. May be moved to another thread; dropping it ends it.
pub struct OpenResolver {
    table: ResolverTable,
    use_: *mut c_void,
    /// What `log` gets as its context. Declared last: it outlives `destroy`.
    _sink: Arc<Sink>,
}

// SAFETY: the ABI asks for one call at a time, not for one thread; `&mut self` is one call at a time.
unsafe impl Send for OpenResolver {}

/// Where a resolver's lines go: the opener's log as long as it lives.
struct Sink {
    name: String,
    host: Arc<Mutex<Option<Remote>>>,
}

impl std::fmt::Debug for OpenResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OpenResolver({:p})", self.use_)
    }
}

extern "C" fn log_line(ctx: *mut c_void, level: u32, text: Bytes) {
    // SAFETY: the context is the `Sink` that the `OpenResolver` keeps until after `destroy`.
    let Some(sink) = (unsafe { ctx.cast_const().cast::<Sink>().as_ref() }) else { return };
    // SAFETY: the resolver's text is valid during this call.
    let text = String::from_utf8_lossy(unsafe { raw::slice(text) }).into_owned();
    if let Some(remote) = &*sink.host.lock().unwrap_or_else(PoisonError::into_inner) {
        remote.log(level, &sink.name, &format!("{}: {text}", sink.name));
    }
}

impl Host {
    /// Protocol: finds `nr-NAME.so`, loads it and starts it with `parameter`; `domain` is the node's own.
    ///
    /// # Errors
    /// `ENOSYS` with a host that has no resolvers, `ENOENT` when there is no such module, or what the module says.
    pub fn open_resolver(&self, name: &str, parameter: &str, domain: &str) -> Result<OpenResolver, Error> {
        let table = self.resolver_table(name)?;
        let sink = Arc::new(Sink { name: format!("nr-{name}"), host: Arc::clone(self.shared()) });
        let mut sentence = vec![0; SENTENCE];
        let mut room = TextBuf { ptr: sentence.as_mut_ptr(), cap: SENTENCE as u64, len: 0 };
        let args = ResolverArgs {
            size: size_of::<ResolverArgs>() as u32,
            reserved: 0,
            parameter: Bytes::borrow(parameter.as_bytes()),
            domain: Bytes::borrow(domain.as_bytes()),
            log: log_line,
            ctx: Arc::as_ptr(&sink).cast_mut().cast(),
            error: &raw mut room,
        };
        let mut use_ = std::ptr::null_mut();
        // SAFETY: a table that the host has checked; arguments and texts live until the call returns, the sink longer.
        let code = unsafe { (table.create)(&raw const args, &raw mut use_) };
        if code != 0 {
            sentence.truncate(usize::try_from(room.len).unwrap_or(0).min(SENTENCE));
            let text = String::from_utf8_lossy(&sentence).into_owned();
            let text = if text.is_empty() { format!("nr-{name}: create failed") } else { text };
            return Err(Error::new(-code, text));
        }
        Ok(OpenResolver { table, use_, _sink: sink })
    }
}

impl OpenResolver {
    /// The addresses of node `name` in `domain`; none when it is not known. May take several seconds.
    ///
    /// # Errors
    /// What the resolver says.
    pub fn resolve(&mut self, name: &str, domain: &str) -> Result<Vec<NodeAddress>, Error> {
        let query = ResolverQuery {
            size: size_of::<ResolverQuery>() as u32,
            reserved: 0,
            name: Bytes::borrow(name.as_bytes()),
            domain: Bytes::borrow(domain.as_bytes()),
        };
        let mut room = [ResolverAddress::default(); MOST];
        let mut answer = ResolverAnswer {
            size: size_of::<ResolverAnswer>() as u32,
            cap: MOST as u32,
            addresses: room.as_mut_ptr(),
            len: 0,
            reserved: 0,
        };
        // SAFETY: made by `create` of the same table; query and room live until the call returns.
        let code = unsafe { (self.table.resolve)(self.use_, &raw const query, &raw mut answer) };
        if code != 0 {
            return Err(Error::from_code(format_args!("{name}: resolving failed"), code.into()));
        }
        let len = (answer.len as usize).min(MOST);
        Ok(room[..len].iter().filter_map(from_abi).collect())
    }
}

impl Drop for OpenResolver {
    fn drop(&mut self) {
        // SAFETY: made by `create` of the same table, and ended once.
        unsafe { (self.table.destroy)(self.use_) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fickle;

    impl Resolver for Fickle {
        fn create(parameter: &str, _domain: &str, _log: Log) -> Result<Self, Error> {
            match parameter {
                "good" => Ok(Self),
                other => Err(Error::new(libc::EINVAL, format!("{other}: not what I want"))),
            }
        }

        fn resolve(&mut self, name: &str, domain: &str) -> Result<Vec<NodeAddress>, Error> {
            match name {
                "many" => Ok(vec![NodeAddress::Mac([2, 0, 0, 0, 0, 1]); 100]),
                "all" => Ok(vec![
                    NodeAddress::Mac([2, 0, 0, 0, 0, 1]),
                    NodeAddress::Ip(Ipv4Addr::new(10, 0, 0, 1).into()),
                    NodeAddress::Ip(Ipv6Addr::LOCALHOST.into()),
                ]),
                "broken" => Err(Error::new(libc::EHOSTDOWN, "no")),
                "panic" => panic!("as asked"),
                _ if domain == "lab" => Ok(vec![NodeAddress::Mac([2, 0, 0, 0, 0, 2])]),
                _ => Ok(Vec::new()),
            }
        }
    }

    extern "C" fn silent(_: *mut c_void, _: u32, _: Bytes) {}

    fn open(parameter: &str) -> Result<OpenResolver, String> {
        let table = resolver_table::<Fickle>();
        let mut sentence = [0; 100];
        let mut room = TextBuf { ptr: sentence.as_mut_ptr(), cap: 100, len: 0 };
        let args = ResolverArgs {
            size: size_of::<ResolverArgs>() as u32,
            reserved: 0,
            parameter: Bytes::borrow(parameter.as_bytes()),
            domain: Bytes::EMPTY,
            log: silent,
            ctx: std::ptr::null_mut(),
            error: &raw mut room,
        };
        let mut use_ = std::ptr::null_mut();
        // SAFETY: everything lives on this stack.
        let code = unsafe { (table.create)(&raw const args, &raw mut use_) };
        let sink = Arc::new(Sink { name: String::new(), host: Arc::new(Mutex::new(None)) });
        match code {
            0 => Ok(OpenResolver { table, use_, _sink: sink }),
            _ => Err(String::from_utf8_lossy(&sentence[..room.len as usize]).into_owned()),
        }
    }

    #[test]
    fn addresses_of_every_family_cross_the_border() {
        let mut resolver = open("good").unwrap();
        let all = resolver.resolve("all", "").unwrap();
        assert_eq!(all, Fickle.resolve("all", "").unwrap());
        assert_eq!(resolver.resolve("many", "").unwrap().len(), MOST);
        assert_eq!(resolver.resolve("joseph", "lab").unwrap().len(), 1);
        assert!(resolver.resolve("joseph", "").unwrap().is_empty());
    }

    #[test]
    fn errors_and_panics_stay_on_their_side() {
        assert_eq!(open("bad").unwrap_err(), "bad: not what I want");
        let mut resolver = open("good").unwrap();
        assert_eq!(resolver.resolve("broken", "").unwrap_err().errno(), libc::EHOSTDOWN);
        assert!(resolver.resolve("all", "").is_ok());
        assert_eq!(resolver.resolve("panic", "").unwrap_err().errno(), libc::EIO);
        assert_eq!(resolver.resolve("all", "").unwrap_err().errno(), libc::EIO, "it is not called again");
    }
}
