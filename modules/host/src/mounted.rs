//! A use: one running mount of a build, whatever its kind.
//!
//! All kinds of modules are made, started, polled, stopped and destroyed alike, so that is written once, over the table of
//! functions. What only drivers or only protocols do is in `driver.rs` and `protocol.rs`.

use std::{
    ffi::c_void,
    fmt,
    sync::{Arc, atomic::Ordering},
};

use io_pkt_abi::{Bytes, CreateArgs, OptionValue, PollWork, TextBuf};

use crate::{
    Build,
    life::{CallError, Sentence, State, UseError, UseSpec, call_error, use_error},
};

/// `create` of a table.
pub(crate) type Create = unsafe extern "C" fn(*const CreateArgs, *mut *mut c_void) -> i32;
/// `start` of a table.
pub(crate) type Start = unsafe extern "C" fn(*mut c_void, *mut TextBuf) -> i32;
/// `poll` of a table.
pub(crate) type Poll = unsafe extern "C" fn(*mut c_void, *mut PollWork) -> i32;
/// `stop` of a table.
pub(crate) type Stop = unsafe extern "C" fn(*mut c_void) -> i32;
/// `destroy` of a table.
pub(crate) type Destroy = unsafe extern "C" fn(*mut c_void);

/// The functions that every kind of module has, wherever they stand in its table.
pub trait Functions: Copy {
    /// What a module with this table is.
    const KIND: crate::Kind;

    /// The build's table, when it is of this kind.
    fn of(build: &Build) -> Option<Self>;
    /// Makes a use.
    fn create(&self) -> Create;
    /// Starts it.
    fn start(&self) -> Start;
    /// Lets it work.
    fn poll(&self) -> Poll;
    /// Takes it down.
    fn stop(&self) -> Stop;
    /// Ends it.
    fn destroy(&self) -> Destroy;
}

/// A running (or failed) use. Stays on the thread that made it; dropping it stops and destroys it.
pub struct Use<T: Functions> {
    build: Arc<Build>,
    name: String,
    /// The module's own pointer.
    pub(crate) use_: *mut c_void,
    /// The table's copy: function pointers one load away.
    pub(crate) table: T,
    state: State,
    running: bool,
    /// The reason of a failure is only a function's return value: a better one may follow.
    vague: bool,
}

impl<T: Functions> Use<T> {
    /// Makes a use of a build.
    ///
    /// # Safety
    /// `spec.host` and `spec.ctx` keep the promises of [`io_pkt_abi::HostTable`] until the use is dropped.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence, or because the build is of another kind; nothing remains.
    pub unsafe fn create(build: &Arc<Build>, spec: &UseSpec<'_>) -> Result<Self, UseError> {
        let Some(table) = T::of(build) else {
            return Err(UseError {
                module: build.name().to_owned(),
                name: spec.name.to_owned(),
                step: "create",
                errno: libc::EINVAL,
                text: format!("it is a {}, not a {}", build.kind().word(), T::KIND.word()),
            });
        };
        let options: Vec<OptionValue> = spec
            .options
            .iter()
            .map(|(name, value)| OptionValue {
                name: Bytes::borrow(name.as_bytes()),
                value: Bytes::borrow(value.as_bytes()),
            })
            .collect();
        let mut sentence = Sentence::new();
        let args = CreateArgs {
            size: size_of::<CreateArgs>() as u32,
            instance: spec.instance,
            host: spec.host,
            ctx: spec.ctx,
            name: Bytes::borrow(spec.name.as_bytes()),
            root: Bytes::borrow(spec.root.as_bytes()),
            options: options.as_ptr(),
            n_options: options.len() as u64,
            state: Bytes::borrow(spec.state),
            error: sentence.room(),
            devices: Bytes::borrow(spec.devices.as_bytes()),
            net: Bytes::borrow(spec.net.as_bytes()),
        };
        let mut use_ = std::ptr::null_mut();
        // SAFETY: the function is from the build's table; the arguments are as the ABI says, and live until the call
        // returns; host and context are promised by the caller.
        let code = unsafe { table.create()(&raw const args, &raw mut use_) };
        if code != 0 || use_.is_null() {
            let code = if code == 0 { -libc::EIO } else { code };
            return Err(use_error(build, spec.name, "create", code, &sentence));
        }
        build.uses.fetch_add(1, Ordering::Relaxed);
        let (build, name) = (Arc::clone(build), spec.name.to_owned());
        Ok(Self { build, name, use_, table, state: State::Created, running: false, vague: false })
    }

    /// Starts it: a driver opens its device, a protocol claims its ethertypes and is to be told of the interfaces that
    /// are present right after.
    ///
    /// # Errors
    /// [`UseError`] with the module's sentence; drop the use then.
    pub fn start(&mut self) -> Result<(), UseError> {
        let mut sentence = Sentence::new();
        let code = match &self.state {
            State::Created => {
                // SAFETY: the table's function on a created use, not started before; the room lives until the call
                // returns.
                unsafe { self.table.start()(self.use_, sentence.room()) }
            }
            _ => -libc::EINVAL,
        };
        if code != 0 {
            let error = use_error(&self.build, &self.name, "start", code, &sentence);
            self.fail(error.text.clone());
            return Err(error);
        }
        self.running = true;
        // A module may have called `fail` from inside `start`.
        if self.state == State::Created {
            self.state = State::Started;
        }
        Ok(())
    }

    /// Lets it work. Nothing happens to a use that is not started.
    ///
    /// # Errors
    /// [`CallError`]; the use is marked failed.
    #[inline]
    pub fn poll(&mut self, work: &mut PollWork) -> Result<(), CallError> {
        if !self.is_running() {
            return Ok(());
        }
        // SAFETY: a started use; `work` and its events live until the call returns.
        let code = unsafe { self.table.poll()(self.use_, work) };
        self.hot("poll", code)
    }

    /// Takes the use down: a device is closed, helpers end, chunks come back. Doing it twice does nothing.
    ///
    /// # Errors
    /// [`CallError`] when the module could not restore something; it is down nevertheless.
    pub fn stop(&mut self) -> Result<(), CallError> {
        if !std::mem::take(&mut self.running) {
            return Ok(());
        }
        // SAFETY: a started use that was not stopped before.
        let code = unsafe { self.table.stop()(self.use_) };
        if !matches!(self.state, State::Failed { .. }) {
            self.state = State::Stopped;
        }
        if code == 0 { Ok(()) } else { Err(call_error("stop", code)) }
    }

    /// Marks the use failed, with the reason that the module gave to `HostTable::fail`. The first reason is the cause and
    /// stays, except that a sentence replaces the bare errno of a call that failed before.
    pub fn fail(&mut self, reason: impl Into<String>) {
        if std::mem::take(&mut self.vague) {
            self.state = State::Failed { reason: reason.into() };
        } else {
            self.state.fail(reason);
        }
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Its name (`en0`, `qnet`).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its build.
    #[must_use]
    pub fn build(&self) -> &Arc<Build> {
        &self.build
    }

    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.state, State::Started)
    }

    /// Turns a function's return value into a result, and the use into a failed one.
    #[inline]
    pub(crate) fn hot(&mut self, call: &'static str, code: i32) -> Result<(), CallError> {
        if code == 0 { Ok(()) } else { Err(self.on_error(call, code)) }
    }

    #[cold]
    fn on_error(&mut self, call: &'static str, code: i32) -> CallError {
        let error = call_error(call, code);
        self.vague |= self.state.fail(error.to_string());
        error
    }
}

impl<T: Functions> Drop for Use<T> {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(module = self.build.name(), name = %self.name, %error, "while taking the use down");
        }
        // SAFETY: a created use, destroyed once: this is its end.
        unsafe { self.table.destroy()(self.use_) };
        self.build.uses.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: Functions> fmt::Debug for Use<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} of {} ({})", T::KIND.word(), self.name, self.build.name(), self.state)
    }
}
