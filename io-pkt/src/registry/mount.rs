//! Mounting: from a name and options to a running use, or to nothing at all.
//!
//! Each step takes something that is given back when a later one fails: the build stays mapped, everything else
//! (name, lock, port, holder, the module's own state) goes. Errors are one sentence that names the subject and the
//! cause.

use std::sync::Arc;

use ctl::Mounted;
use io_pkt_abi::info::{EVENT_ARRIVED, EVENT_GONE};
use io_pkt_host::{Accepted, Build, Kind, LoadError, OptionError, UseError, options};
use nix::errno::Errno;
use thiserror::Error;

use super::{Finder, Found, ModuleFile, Registry, explain};
use crate::{
    border::{self, Role, UseContext},
    names::{DeviceName, LockError, PidLock, devices::DeviceError, use_lock},
    threads::{Owned, PinnedDriver},
    uses::{Body, Use, UseId},
};

/// Why nothing was mounted.
#[derive(Debug, Error)]
pub enum MountError {
    /// The module cannot be had.
    #[error("{0}")]
    Load(LoadError),
    /// There is no such module; says what to do instead.
    #[error("{0}")]
    NoModule(String),
    /// An option is wrong.
    #[error("{0}")]
    Option(#[from] OptionError),
    /// There is no name for it.
    #[error("{module}: {cause}")]
    Name {
        /// Module name.
        module: String,
        /// Cause.
        cause: DeviceError,
    },
    /// One is enough for a node, and there is one.
    #[error("{module}: {name} runs already in {}; there is one {name} on a node", explain::holder(.pid))]
    Single {
        /// Module name.
        module: String,
        /// Name of the use.
        name: String,
        /// Process that has it.
        pid: String,
    },
    /// The lock for it cannot be made.
    #[error("{module}: {cause}")]
    Lock {
        /// Module name.
        module: String,
        /// Cause.
        cause: LockError,
    },
    /// The module refused.
    #[error("{0}")]
    Use(#[from] UseError),
    /// The driver started without telling of an interface, or there is no room for another protocol.
    #[error("{module}: {what}")]
    Broken {
        /// Module name.
        module: String,
        /// What is wrong.
        what: String,
    },
}

impl MountError {
    /// The errno that fits best.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Load(error) => Errno::from_raw(error.errno()),
            Self::NoModule(_) => Errno::ENOENT,
            Self::Option(_) => Errno::EINVAL,
            Self::Name { cause: DeviceError::Taken { .. }, .. } | Self::Single { .. } => Errno::EBUSY,
            Self::Name { .. } | Self::Lock { .. } => Errno::EIO,
            Self::Use(error) => Errno::from_raw(error.errno),
            Self::Broken { .. } => Errno::EPROTO,
        }
    }
}

/// Everything a use needs beside its module. Given back when the module refuses.
struct Prepared {
    name: String,
    device: Option<DeviceName>,
    lock: Option<PidLock>,
}

impl Registry {
    /// Mounts a module as a driver or protocol; with no `kind`, as whatever it is.
    ///
    /// # Errors
    /// [`MountError`], one sentence; nothing remains mounted.
    pub fn mount(
        &mut self,
        kind: Option<Kind>,
        file: ModuleFile,
        option_text: &str,
    ) -> Result<Mounted, MountError> {
        let found = self.finder().find(kind, file)?;
        self.mount_found(found, option_text)
    }

    /// Maps a module, and mounts nothing.
    pub(super) fn load(&mut self, kind: Kind, file: ModuleFile) -> Result<Arc<Build>, MountError> {
        let Found { kinds, module } = self.finder().find(Some(kind), file)?;
        self.loader.load_read(&kinds, module).map_err(MountError::Load)
    }

    /// What finds and reads modules for [`Registry::mount_found`], on any thread.
    #[must_use]
    pub fn finder(&self) -> Finder {
        Finder::new(self.loader.reader(), self.core.search.clone())
    }

    /// Mounts a module that was read.
    ///
    /// # Errors
    /// As [`Registry::mount`].
    pub fn mount_found(&mut self, found: Found, option_text: &str) -> Result<Mounted, MountError> {
        let Found { kinds, module } = found;
        let build = self.loader.load_read(&kinds, module).map_err(MountError::Load)?;
        let accepted = build.accept(&options::parse(option_text))?;
        let prepared = self.prepare(&build, &accepted)?;
        let context = self.context(&build, &prepared.name, accepted.verbose.unwrap_or(0))?;
        let (name, id) = (prepared.name.clone(), context.id());
        let body = match self.create(&build, &prepared.name, &accepted, &context) {
            Ok(body) => body,
            Err(error) => {
                self.release(&context);
                return Err(error.into());
            }
        };
        let Prepared { device, lock, .. } = prepared;
        let path = device.as_ref().map(|device| device.path().to_owned());
        let options = option_text.to_owned();
        self.uses.push(Use { body, context, device, lock, options, events: Vec::new(), more: false });
        self.share_out();
        if let Err(error) = self.start(id) {
            if let Some(at) = self.place(id) {
                self.dismantle(at);
            }
            return Err(error);
        }
        tracing::info!(subject = name, "mounted {}{}", build.name(), explain::with_options(option_text));
        self.bury();
        match self.failed.iter().rev().find(|use_| use_.name == name).filter(|_| self.place(id).is_none()) {
            // It failed while it was told of the interfaces.
            Some(use_) => {
                let what = use_.reason.clone().unwrap_or_default();
                Err(MountError::Broken { module: build.name().to_owned(), what })
            }
            None => Ok(Mounted { name, module: build.name().to_owned(), path }),
        }
    }

    /// Takes the use's name: a device file, a lock for what there may be one of, or both.
    fn prepare(&mut self, build: &Build, accepted: &Accepted) -> Result<Prepared, MountError> {
        let module = || build.name().to_owned();
        let devices = &self.identity.devices;
        let prefix = accepted.uptype.as_deref().unwrap_or_else(|| build.prefix());
        if build.is_single() {
            let name = prefix.to_owned();
            let lock = PidLock::take(&use_lock(&self.identity.root, &name)).map_err(|cause| match cause {
                LockError::Held { pid, .. } => {
                    MountError::Single { module: module(), name: name.clone(), pid }
                }
                cause => MountError::Lock { module: module(), cause },
            })?;
            return Ok(Prepared { name, device: None, lock: Some(lock) });
        }
        if !build.is_unmountable() {
            let taken = |name: &String| self.uses.iter().any(|use_| use_.name() == name);
            let name = (0..).map(|n| format!("{prefix}{n}")).find(|name| !taken(name)).unwrap_or_default();
            return Ok(Prepared { name, device: None, lock: None });
        }
        let device = devices
            .take(prefix, accepted.lan)
            .map_err(|cause| MountError::Name { module: module(), cause })?;
        Ok(Prepared { name: device.name().to_owned(), device: Some(device), lock: None })
    }

    /// Makes the use's place in pool and switchboard.
    pub(super) fn context(
        &mut self,
        build: &Build,
        name: &str,
        verbose: u64,
    ) -> Result<std::rc::Rc<UseContext>, MountError> {
        let role = match build.kind() {
            Kind::Driver => Role::Driver(self.core.board.borrow_mut().add_port()),
            Kind::Protocol => {
                let slot = self.core.board.borrow_mut().add_receiver();
                let what = || "there are too many protocols already".to_owned();
                let slot =
                    slot.ok_or_else(|| MountError::Broken { module: build.name().to_owned(), what: what() })?;
                Role::Protocol(slot)
            }
            Kind::Resolver => {
                let what = "it is a resolver: Qnet loads it, with resolve= and its name".to_owned();
                return Err(MountError::Broken { module: build.name().to_owned(), what });
            }
        };
        let holder = self.core.pool.borrow_mut().register();
        let id = UseId(self.next_id);
        self.next_id += 1;
        Ok(std::rc::Rc::new(UseContext::new(&self.core, id, name, role, holder, verbose)))
    }

    pub(super) fn create(
        &self,
        build: &Arc<Build>,
        name: &str,
        accepted: &Accepted,
        context: &std::rc::Rc<UseContext>,
    ) -> Result<Body, UseError> {
        let owned = Owned {
            name: name.to_owned(),
            instance: self.identity.instance,
            root: self.identity.root.dir().to_string_lossy().into_owned(),
            devices: self.identity.devices.path().to_string_lossy().into_owned(),
            net: self.identity.root.net().to_string_lossy().into_owned(),
            options: accepted.pass.clone(),
        };
        if build.kind() == Kind::Protocol {
            return border::create_protocol(build, &owned.spec(), context).map(Body::Protocol);
        }
        let on_main = self.uses.iter().filter(|use_| matches!(use_.body, Body::Driver(_))).count();
        // A driver that may share something between its uses stays here.
        match self.threads.choose(on_main).filter(|_| build.is_parallel()) {
            None => border::create_driver(build, &owned.spec(), context).map(Body::Driver),
            Some(thread) => PinnedDriver::create(thread, &self.core, build, owned, context).map(Body::Pinned),
        }
    }

    /// Starts a use and tells the others, or a protocol of the others.
    fn start(&mut self, id: UseId) -> Result<(), MountError> {
        let Some(at) = self.place(id) else { return Ok(()) };
        self.uses[at].start()?;
        // New data and failures of `start` are dealt with here; what follows is ordinary life.
        let noted = self.uses[at].context.take_noted();
        if let Some(reason) = self.uses[at].context.take_failure().filter(|_| noted) {
            return Err(MountError::Broken { module: self.uses[at].build().name().to_owned(), what: reason });
        }
        if self.uses[at].kind() == Kind::Protocol {
            self.describe_device(at, ctl::Mac::default(), "");
            self.introduce(id);
        } else if self.uses[at].context.interface().is_some() {
            self.announce(at, EVENT_ARRIVED);
        } else {
            let what = "the driver started and told of no interface".to_owned();
            return Err(MountError::Broken { module: self.uses[at].build().name().to_owned(), what });
        }
        // A first poll right away: descriptors may have been ready before they were watched.
        if let Some(at) = self.place(id) {
            self.uses[at].more = true;
        }
        Ok(())
    }

    /// Tells a new protocol of the interfaces present.
    fn introduce(&mut self, protocol: UseId) {
        for at in 0..self.uses.len() {
            if let Role::Driver(id) = self.uses[at].role()
                && let Some(data) = self.uses[at].context.interface()
            {
                let name = self.uses[at].name().to_owned();
                self.tell(protocol, EVENT_ARRIVED, id.0, &name, &data);
            }
        }
        self.send_all();
    }

    /// Tells all protocols of an interface, and writes its device file.
    pub(super) fn announce(&mut self, at: usize, kind: u32) {
        let use_ = &self.uses[at];
        let (Role::Driver(id), Some(data)) = (use_.role(), use_.context.interface()) else { return };
        let name = use_.name().to_owned();
        if kind != EVENT_GONE {
            self.describe_device(at, data.mac(), &data.system_name);
        }
        for protocol in self.protocols() {
            self.tell(protocol, kind, id.0, &name, &data);
        }
        self.send_all();
    }

    /// Writes what is behind a use into its device file, if it has one.
    fn describe_device(&self, at: usize, mac: ctl::Mac, system_name: &str) {
        let use_ = &self.uses[at];
        if let Some(device) = &use_.device
            && let Err(error) = device.describe(use_.build().name(), mac, system_name)
        {
            tracing::warn!(subject = use_.name(), "device file not written: {error}");
        }
    }

    fn tell(
        &mut self,
        protocol: UseId,
        kind: u32,
        interface: u32,
        name: &str,
        data: &crate::interface::InterfaceData,
    ) {
        let Some(at) = self.place(protocol) else { return };
        let Body::Protocol(body) = &mut self.uses[at].body else { return };
        if border::interface_event(body, kind, interface, name, data).is_err() {
            self.doom(at);
        }
        if let Some(reason) = self.uses[at].context.take_failure() {
            self.uses[at].fail(reason);
            self.doom(at);
        }
    }
}
