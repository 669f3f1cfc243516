//! `tracing` inside a module: events go to the host's log.
//!
//! Each `.so` has its own `tracing`, so the daemon's subscriber never hears of a module's events. This one formats them
//! (`fields` of enclosing spans in front) and hands them to the host of the use whose entry is running on this thread;
//! on other threads, to any living use of the module. Levels that the host does not keep cost one atomic load.

use std::{
    cell::Cell,
    fmt::Write as _,
    ptr,
    sync::{
        Arc, Mutex, Once, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
    subscriber::Interest,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
};

use crate::{Host, host::Remote};

/// The most detailed level that the host keeps, as on the border: 0 none … 5 trace.
static KEPT: AtomicU32 = AtomicU32::new(3);
/// The living uses of this module, for threads that are in no entry.
static USES: Mutex<Vec<Weak<Mutex<Option<Remote>>>>> = Mutex::new(Vec::new());

thread_local! {
    static CURRENT: Cell<*const Remote> = const { Cell::new(ptr::null()) };
}

/// Installs the subscriber (once) and makes `host` known to it.
pub(crate) fn attach(host: &Host) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only when the module is linked into a program with a subscriber of its own (a test): that one wins.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Forward));
    });
    let mut uses = USES.lock().unwrap_or_else(PoisonError::into_inner);
    uses.retain(|known| known.strong_count() > 0);
    uses.push(Arc::downgrade(host.shared()));
    drop(uses);
    refresh(host);
}

/// Asks the host which levels it keeps; cheap enough for every `poll`.
#[inline]
pub(crate) fn refresh(host: &Host) {
    let level = host.remote().log_level();
    if KEPT.load(Ordering::Relaxed) != level {
        KEPT.store(level, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Writes an error line through any living use. False when there is none.
pub(crate) fn error_to_any_use(target: &str, text: &str) -> bool {
    to_any_use(1, target, text)
}

/// Whether this thread is inside an entry of the module.
pub(crate) fn is_inside_entry() -> bool {
    !CURRENT.get().is_null()
}

/// While it lives, this thread is inside an entry and its log lines go to that host.
pub(crate) struct Current(*const Remote);

impl Current {
    /// The caller keeps `remote` alive as long as the returned guard; `fence::run` does.
    #[inline]
    pub(crate) fn enter(remote: &Remote) -> Self {
        Self(CURRENT.replace(remote))
    }
}

impl Drop for Current {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

fn kept() -> LevelFilter {
    match KEPT.load(Ordering::Relaxed) {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        2 => LevelFilter::WARN,
        3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

struct Forward;

/// The formatted fields of a span, kept with it.
struct SpanText(String);

impl<S: Subscriber + for<'s> LookupSpan<'s>> Layer<S> for Forward {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= kept() { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= kept()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(kept())
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut text = String::from(attributes.metadata().name());
            attributes.record(&mut Fields(&mut text));
            span.extensions_mut().insert(SpanText(text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = String::new();
        if let Some(scope) = context.event_scope(event) {
            for span in scope.from_root() {
                if let Some(SpanText(span)) = span.extensions().get() {
                    let _ = write!(text, "{span}: ");
                }
            }
        }
        event.record(&mut Fields(&mut text));
        let (level, target) = (number(*event.metadata().level()), event.metadata().target());
        let current = CURRENT.get();
        // SAFETY: null, or the host of the entry that is running on this thread, which `fence::run` keeps alive.
        match unsafe { current.as_ref() } {
            Some(remote) => remote.log(level, target, &text),
            None => {
                to_any_use(level, target, &text);
            }
        }
    }
}

fn to_any_use(level: u32, target: &str, text: &str) -> bool {
    let uses: Vec<_> =
        USES.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
    uses.iter().any(|shared| {
        let remote = shared.lock().unwrap_or_else(PoisonError::into_inner);
        remote.as_ref().map(|remote| remote.log(level, target, text)).is_some()
    })
}

/// Appends fields: the message bare, the others as `name=value`.
struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn gap(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with(' ') {
            self.0.push(' ');
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.gap();
        let _ = match field.name() {
            "message" => write!(self.0, "{value}"),
            name => write!(self.0, "{name}={value:?}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.gap();
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, "{name}={value:?}"),
        };
    }
}
