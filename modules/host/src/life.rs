//! Uses: one running mount of a build. Life cycle as data, and what drivers and protocols have in common.

use std::{
    ffi::c_void,
    fmt, io,
    sync::{Arc, atomic::Ordering},
};

use io_pkt_abi::{Bytes, CreateArgs, HostTable, OptionValue, TextBuf};

use crate::Build;

/// Bytes of room for an error sentence.
const ERROR_ROOM: usize = 1024;

/// Where a use is in its life.
///
/// ```text
/// Created ──► Started ──► Stopped ──► (dropped)
///    └────────────┴──► Failed (reason) ──► (stopped when it was started) ──► (dropped)
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, not started.
    Created,
    /// Running.
    Started,
    /// Taken down in order.
    Stopped,
    /// Beyond repair; only `stop` and the end are left.
    Failed {
        /// Why, for the operator.
        reason: String,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("created"),
            Self::Started => f.write_str("started"),
            Self::Stopped => f.write_str("stopped"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}

/// What a new use is told.
#[derive(Clone, Copy, Debug)]
pub struct UseSpec<'a> {
    /// Its name (`en0`, `bridge0`, `qnet`).
    pub name: &'a str,
    /// Number of the io-pkt instance.
    pub instance: u32,
    /// The host's functions; valid until the use is dropped.
    pub host: *const HostTable,
    /// Their first argument; valid until the use is dropped.
    pub ctx: *mut c_void,
    /// The node's root directory.
    pub root: &'a str,
    /// Directory of this machine's device names.
    pub devices: &'a str,
    /// The network directory.
    pub net: &'a str,
    /// Options as [`Build::accept`] passed them.
    pub options: &'a [(String, String)],
    /// State of a former use, empty on a fresh start.
    pub state: &'a [u8],
}

/// A use that could not be made or started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{module}: cannot {step} {name}: {text}")]
pub struct UseError {
    /// Module name.
    pub module: String,
    /// Name of the use.
    pub name: String,
    /// `create` or `start`.
    pub step: &'static str,
    /// Linux errno value.
    pub errno: i32,
    /// The module's sentence, or the system's for the errno value.
    pub text: String,
}

/// A call that did not succeed. The use is marked failed, except where the call's documentation says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} failed: {text}")]
pub struct CallError {
    /// Which function.
    pub call: &'static str,
    /// Linux errno value.
    pub errno: i32,
    /// The system's sentence for it.
    pub text: String,
}

/// The use behind the module's pointer, whatever its kind.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) build: Arc<Build>,
    pub(crate) name: String,
    pub(crate) use_: *mut c_void,
    pub(crate) state: State,
    running: bool,
    /// The reason of a failure is only a function's return value: a better one may follow.
    vague: bool,
}

type Create = unsafe extern "C" fn(*const CreateArgs, *mut *mut c_void) -> i32;
type Start = unsafe extern "C" fn(*mut c_void, *mut TextBuf) -> i32;
type Stop = unsafe extern "C" fn(*mut c_void) -> i32;
type Destroy = unsafe extern "C" fn(*mut c_void);

impl Core {
    /// # Safety
    /// `create` is from the build's table; `spec.host` and `spec.ctx` are as [`UseSpec`] says.
    pub(crate) unsafe fn create(
        build: &Arc<Build>,
        spec: &UseSpec<'_>,
        create: Create,
    ) -> Result<Self, UseError> {
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
        // SAFETY: the arguments are as the ABI says, and live until the call returns.
        let code = unsafe { create(&raw const args, &raw mut use_) };
        if code != 0 || use_.is_null() {
            let code = if code == 0 { -libc::EIO } else { code };
            return Err(use_error(build, spec.name, "create", code, &sentence));
        }
        build.uses.fetch_add(1, Ordering::Relaxed);
        let (build, name) = (Arc::clone(build), spec.name.to_owned());
        Ok(Self { build, name, use_, state: State::Created, running: false, vague: false })
    }

    /// # Safety
    /// `start` is from the build's table.
    pub(crate) unsafe fn start(&mut self, start: Start) -> Result<(), UseError> {
        let mut sentence = Sentence::new();
        let code = match &self.state {
            State::Created => {
                // SAFETY: a created use, not started before; the room lives until the call returns.
                unsafe { start(self.use_, sentence.room()) }
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

    /// # Safety
    /// `stop` is from the build's table.
    pub(crate) unsafe fn stop(&mut self, stop: Stop) -> Result<(), CallError> {
        if !std::mem::take(&mut self.running) {
            return Ok(());
        }
        // SAFETY: a started use that was not stopped before.
        let code = unsafe { stop(self.use_) };
        if !matches!(self.state, State::Failed { .. }) {
            self.state = State::Stopped;
        }
        if code == 0 { Ok(()) } else { Err(call_error("stop", code)) }
    }

    /// # Safety
    /// The functions are from the build's table; the use is not touched afterwards.
    pub(crate) unsafe fn end(&mut self, stop: Stop, destroy: Destroy) {
        // SAFETY: by the caller's promise.
        if let Err(error) = unsafe { self.stop(stop) } {
            tracing::warn!(module = self.build.name(), name = %self.name, %error, "while taking the use down");
        }
        // SAFETY: a created use, destroyed once, by the caller's promise.
        unsafe { destroy(self.use_) };
        self.use_ = std::ptr::null_mut();
        self.build.uses.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn fail(&mut self, reason: String) {
        // The first reason is the cause; what follows are consequences.
        if self.vague || !matches!(self.state, State::Failed { .. }) {
            self.state = State::Failed { reason };
            self.vague = false;
        }
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
    pub(crate) fn on_error(&mut self, call: &'static str, code: i32) -> CallError {
        let error = call_error(call, code);
        if !matches!(self.state, State::Failed { .. }) {
            self.fail(error.to_string());
            self.vague = true;
        }
        error
    }
}

/// Room for a module's error sentence.
struct Sentence {
    bytes: Box<[u8; ERROR_ROOM]>,
    buf: TextBuf,
}

impl Sentence {
    fn new() -> Self {
        let mut bytes = Box::new([0; ERROR_ROOM]);
        let buf = TextBuf { ptr: bytes.as_mut_ptr(), cap: ERROR_ROOM as u64, len: 0 };
        Self { bytes, buf }
    }

    fn room(&mut self) -> *mut TextBuf {
        &raw mut self.buf
    }

    /// What was written, in one line.
    fn text(&self) -> String {
        let len = (self.buf.len as usize).min(ERROR_ROOM);
        String::from_utf8_lossy(&self.bytes[..len]).replace(['\n', '\r'], " ").trim().to_owned()
    }
}

fn errno_of(code: i32) -> i32 {
    if (-4095..0).contains(&code) { -code } else { libc::EIO }
}

fn system_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error ").next().unwrap_or_default().to_owned()
}

fn use_error(build: &Build, name: &str, step: &'static str, code: i32, sentence: &Sentence) -> UseError {
    let (errno, text) = (errno_of(code), sentence.text());
    UseError {
        module: build.name().to_owned(),
        name: name.to_owned(),
        step,
        errno,
        text: if text.is_empty() { system_text(errno) } else { text },
    }
}

pub(crate) fn call_error(call: &'static str, code: i32) -> CallError {
    let errno = errno_of(code);
    CallError { call, errno, text: system_text(errno) }
}
