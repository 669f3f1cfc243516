//! Builds: module files that are mapped into this process, and the loader that maps them.
//!
//! One file is mapped once, whatever its path and however often it is used; a file with other contents is another build.
//! A build stays mapped until the process ends, because Rust code cannot be unmapped safely.

use std::{
    collections::HashMap,
    ffi::c_void,
    fs::File,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use io_pkt_abi::{
    DriverTable, ProtocolTable, ResolverTable,
    handshake::{KIND_DRIVER, KIND_PROTOCOL, KIND_RESOLVER},
    table::{CAP_PARALLEL, CAP_SINGLE, CAP_UNMOUNTABLE},
};

use crate::{
    elf::ElfFacts,
    error::{LoadError, Refusal},
    handshake::{self, Offer},
    image::{Image, LoadMode},
    options::{self, Accepted, Given, OptionError, OptionInfo},
    reader::{Identity, ReadModule, Reader},
    tables,
};

/// Most builds in one process unless [`Loader::set_max_builds`] says otherwise; a build takes about a megabyte.
pub const MAX_BUILDS: usize = 128;

/// What a module is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Carries frames between a device and the switchboard.
    Driver,
    /// Takes frames of the ethertypes that it claims.
    Protocol,
    /// Knows where nodes are.
    Resolver,
}

impl Kind {
    /// The word for messages.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Protocol => "protocol",
            Self::Resolver => "resolver",
        }
    }
}

/// A mapped module file. Shared by its uses.
#[derive(Debug)]
pub struct Build {
    path: PathBuf,
    facts: ElfFacts,
    text: String,
    language: &'static str,
    range: Range<usize>,
    mode: LoadMode,
    table: Table,
    options: Vec<OptionInfo>,
    pub(crate) uses: AtomicUsize,
    _image: Image,
}

// SAFETY: the raw pointers inside are the module's static tables and texts and the linker's handle; all are read-only and
// live as long as the process. The functions behind them are called only through `DriverUse` and `ProtocolUse`, which
// stay on their thread.
unsafe impl Send for Build {}
// SAFETY: as above; the only thing that changes is atomic.
unsafe impl Sync for Build {}

#[derive(Clone, Copy)]
pub(crate) enum Table {
    Driver(DriverTable),
    Protocol(ProtocolTable, &'static str),
    Resolver(ResolverTable),
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().word())
    }
}

impl Table {
    fn kind(&self) -> Kind {
        match self {
            Self::Driver(_) => Kind::Driver,
            Self::Protocol(..) => Kind::Protocol,
            Self::Resolver(_) => Kind::Resolver,
        }
    }

    fn capabilities(&self) -> u64 {
        match self {
            Self::Driver(table) => table.capabilities | CAP_UNMOUNTABLE,
            Self::Protocol(table, _) => table.capabilities,
            Self::Resolver(_) => 0,
        }
    }
}

impl Build {
    /// Module name (`devn-packet`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// The file it was first loaded from, as named then.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The module's own text about its build (package version).
    #[must_use]
    pub fn build_text(&self) -> &str {
        &self.text
    }

    /// The linker's build id in hexadecimal digits; empty when the file has none.
    #[must_use]
    pub fn build_id(&self) -> &str {
        &self.facts.build_id
    }

    /// ABI version that it was built for.
    #[must_use]
    pub fn abi(&self) -> (u16, u16) {
        (io_pkt_abi::ABI_MAJOR, self.facts.abi_minor)
    }

    /// `rust` or `C`: how the handshake went.
    #[must_use]
    pub fn language(&self) -> &'static str {
        self.language
    }

    /// Driver or protocol.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.table.kind()
    }

    /// Addresses that it occupies.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Bytes of code.
    #[must_use]
    pub fn code_size(&self) -> u64 {
        self.facts.code
    }

    /// Bytes of writable data.
    #[must_use]
    pub fn data_size(&self) -> u64 {
        self.facts.data
    }

    /// How it was mapped.
    #[must_use]
    pub fn load_mode(&self) -> LoadMode {
        self.mode
    }

    /// Number of living uses.
    #[must_use]
    pub fn uses(&self) -> usize {
        self.uses.load(Ordering::Relaxed)
    }

    /// Whether a use can be taken away at run time.
    #[must_use]
    pub fn is_unmountable(&self) -> bool {
        self.table.capabilities() & CAP_UNMOUNTABLE != 0
    }

    /// Whether different uses may run on different threads at the same time.
    #[must_use]
    pub fn is_parallel(&self) -> bool {
        self.table.capabilities() & CAP_PARALLEL != 0
    }

    /// Whether there may be only one use.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.table.capabilities() & CAP_SINGLE != 0
    }

    /// Prefix of its uses' names: what the protocol says, `en` for a driver.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match &self.table {
            Table::Driver(_) => "en",
            Table::Protocol(_, prefix) => prefix,
            Table::Resolver(_) => "nr",
        }
    }

    /// The options that the module declares, generic ones not included.
    #[must_use]
    pub fn options(&self) -> &[OptionInfo] {
        &self.options
    }

    /// Checks options as typed.
    ///
    /// # Errors
    /// [`OptionError`], ready to be shown.
    pub fn accept(&self, given: &[Given]) -> Result<Accepted, OptionError> {
        match self.kind() {
            Kind::Driver => options::accept_driver(self.name(), &self.options, given),
            // A resolver has a parameter, which it judges itself.
            Kind::Protocol | Kind::Resolver => options::accept_protocol(self.name(), &self.options, given),
        }
    }

    /// The functions of a resolver, when it is one; valid for ever.
    #[must_use]
    pub fn resolver(&self) -> Option<ResolverTable> {
        match self.table {
            Table::Resolver(table) => Some(table),
            Table::Driver(_) | Table::Protocol(..) => None,
        }
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

/// Loads module files; knows every build of the process.
#[derive(Debug)]
pub struct Loader {
    reader: Reader,
    max_builds: usize,
    loads: usize,
    builds: HashMap<Identity, Arc<Build>>,
    /// Files that were mapped and then refused. They stay mapped, so they are not mapped again.
    refused: HashMap<Identity, Refusal>,
}

impl Default for Loader {
    fn default() -> Self {
        Self::new(LoadMode::default())
    }
}

impl Loader {
    /// A loader without builds. A process has one, or else a file may be mapped twice.
    #[must_use]
    pub fn new(mode: LoadMode) -> Self {
        let (reader, builds, refused) = (Reader::new(mode), HashMap::new(), HashMap::new());
        Self { reader, max_builds: MAX_BUILDS, loads: 0, builds, refused }
    }

    /// Sets how many builds may be mapped.
    pub fn set_max_builds(&mut self, limit: usize) {
        self.max_builds = limit;
    }

    /// Every build, in the order of their names and paths.
    #[must_use]
    pub fn builds(&self) -> Vec<Arc<Build>> {
        let mut builds: Vec<_> = self.builds.values().cloned().collect();
        builds.sort_by(|a, b| (a.name(), a.path()).cmp(&(b.name(), b.path())));
        builds
    }

    /// What reads module files for this loader, on any thread.
    #[must_use]
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    /// Loads the file at `path` as a module of that kind, or finds that it is mapped already.
    ///
    /// # Errors
    /// [`LoadError`], ready to be shown. Nothing remains of a refused file, except that one which was refused after its
    /// handshake stays mapped.
    pub fn load(&mut self, kind: Kind, path: &Path) -> Result<Arc<Build>, LoadError> {
        let module = self.reader.read(path)?;
        self.load_read(&[kind], module)
    }

    /// The same for an open file, which `mount` hands over; `shown` is what the operator called it.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load_file(&mut self, kind: Kind, file: File, shown: &Path) -> Result<Arc<Build>, LoadError> {
        let module = self.reader.read_file(file, shown)?;
        self.load_read(&[kind], module)
    }

    /// The same for a file that was read, as a module of one of `kinds`, the first of which is preferred.
    ///
    /// # Errors
    /// As [`Loader::load`].
    pub fn load_read(&mut self, kinds: &[Kind], module: ReadModule) -> Result<Arc<Build>, LoadError> {
        let shown = module.path().to_owned();
        let first = kinds.first().copied().unwrap_or(Kind::Driver);
        let build = self.find_or_map(first, module).map_err(|refusal| LoadError::new(&shown, refusal))?;
        if !kinds.contains(&build.kind()) {
            let found = format!("{}, which is a {}", build.name(), build.kind().word());
            return Err(LoadError::new(&shown, Refusal::handshake(format!("a {}", first.word()), found)));
        }
        Ok(build)
    }

    fn find_or_map(&mut self, kind: Kind, module: ReadModule) -> Result<Arc<Build>, Refusal> {
        let ReadModule { source, facts, identity, copy } = module;
        if let Some(build) = self.builds.get(&identity) {
            return Ok(Arc::clone(build));
        }
        if let Some(refusal) = self.refused.get(&identity) {
            return Err(refusal.clone());
        }
        if self.builds.len() + self.refused.len() >= self.max_builds {
            return Err(Refusal::TooMany(self.builds.len() + self.refused.len()));
        }
        let name = format!("{}-{:016x}", facts.name, identity.0);
        let path = source.path.clone();
        let image = Image::map(self.reader.mode(), &name, source, copy, self.loads)?;
        self.loads += 1;
        self.reader.note_known(identity);
        match make_build(kind, path, facts, image) {
            Ok(build) => {
                let build = Arc::new(build);
                self.builds.insert(identity, Arc::clone(&build));
                Ok(build)
            }
            Err(refusal) => {
                self.refused.insert(identity, refusal.clone());
                Err(refusal)
            }
        }
    }
}

/// Handshake and tables of a freshly mapped image.
fn make_build(kind: Kind, path: PathBuf, facts: ElfFacts, image: Image) -> Result<Build, Refusal> {
    let offer = handshake::shake(&image.library, &facts)?;
    let table = fetch_table(kind, &offer)?;
    let (specs, count) = match &table {
        Table::Driver(table) => (table.options, table.n_options),
        Table::Protocol(table, _) => (table.options, table.n_options),
        Table::Resolver(_) => (std::ptr::null(), 0),
    };
    // SAFETY: static data of the module, as the ABI says.
    let options = unsafe { tables::options(specs, count) }?;
    let start = base_of(offer.address).wrapping_add(facts.start as usize);
    let range = start..start.wrapping_add((facts.end - facts.start) as usize);
    Ok(Build {
        path,
        facts,
        text: offer.build,
        language: offer.language,
        range,
        mode: image.mode,
        table,
        options,
        uses: AtomicUsize::new(0),
        _image: image,
    })
}

/// The table of the wanted kind, or else that of the other kind: the caller tells the two apart in words.
fn fetch_table(kind: Kind, offer: &Offer) -> Result<Table, Refusal> {
    let (driver, protocol) = ((offer.get_table)(KIND_DRIVER), (offer.get_table)(KIND_PROTOCOL));
    let resolver = (offer.get_table)(KIND_RESOLVER);
    if driver.is_null() && protocol.is_null() && resolver.is_null() {
        return Err(Refusal::handshake("the table of a driver, a protocol or a resolver", "none"));
    }
    if !resolver.is_null() && (kind == Kind::Resolver || driver.is_null() && protocol.is_null()) {
        // SAFETY: what `get_table` returned for this kind.
        return Ok(Table::Resolver(unsafe { tables::resolver(resolver) }?));
    }
    if protocol.is_null() || (kind == Kind::Driver && !driver.is_null()) {
        // SAFETY: what `get_table` returned for this kind.
        return Ok(Table::Driver(unsafe { tables::driver(driver) }?));
    }
    // SAFETY: what `get_table` returned for this kind.
    let table = unsafe { tables::protocol(protocol) }?;
    // SAFETY: a static text of the module.
    let prefix = unsafe { handshake::text(table.prefix) }?;
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if prefix.is_empty() || prefix.len() > 16 || !prefix.bytes().all(word) {
        return Err(Refusal::handshake("a name prefix of 1 to 16 lower-case letters", format!("{prefix:?}")));
    }
    Ok(Table::Protocol(table, prefix))
}

/// Where the file that holds `address` begins in memory.
fn base_of(address: *const c_void) -> usize {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `info` is valid for writing; the function looks the address up and touches nothing else.
    let found = unsafe { libc::dladdr(address, info.as_mut_ptr()) };
    // SAFETY: zeroed above, filled in on success; any bytes are valid for it.
    let info = unsafe { info.assume_init() };
    if found == 0 { address as usize } else { info.dli_fbase as usize }
}
