//! Threads: the overlay's pthread_create, ThreadCtl for names and CPU masks.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use libc::{c_char, c_int, cpu_set_t, pthread_attr_t, pthread_t};

use crate::call::{Outcome, calls};
use crate::clocks::{check, null};
use crate::{cancel, memory, priority, registry};

type Start = extern "C-unwind" fn(*mut c_void) -> *mut c_void;

unsafe extern "C" {
    #[link_name = "pthread_create"]
    fn real_pthread_create(
        thread: *mut pthread_t,
        attributes: *const pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
    fn pthread_attr_getinheritsched(attributes: *const pthread_attr_t, inherit: *mut c_int) -> c_int;
    fn pthread_attr_setinheritsched(attributes: *mut pthread_attr_t, inherit: c_int) -> c_int;
}

const INHERIT: c_int = 0;
const EXPLICIT: c_int = 1;

/// What a new thread begins with.
struct Beginning {
    start: Start,
    argument: *mut c_void,
    /// Policy and priority, as QNX counts it.
    schedule: (c_int, c_int),
}

/// The overlay's pthread_create(): `thread` may be NULL, and a realtime priority without the right to it is no error.
///
/// # Safety
/// As for the C library's, except that `thread` may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Option<Start>,
    argument: *mut c_void,
) -> c_int {
    let Some(start) = start else { return libc::EFAULT };
    let _off = cancel::Off::begin();
    let explicit = {
        let mut inherit = INHERIT;
        // SAFETY: attributes that are not NULL were initialised, by the caller's promise.
        !attributes.is_null()
            && unsafe { pthread_attr_getinheritsched(attributes, &raw mut inherit) } == 0
            && inherit == EXPLICIT
    };
    let schedule = if explicit {
        // SAFETY: initialised, see above.
        unsafe { (priority::policy_of(attributes), priority::priority_of(attributes)) }
    } else {
        registry::this(registry::Thread::schedule).unwrap_or((libc::SCHED_OTHER, priority::USUAL))
    };
    let beginning = Box::into_raw(Box::new(Beginning { start, argument, schedule })).cast();
    let mut unwanted: pthread_t = 0;
    let place = if thread.is_null() { &raw mut unwanted } else { thread };
    let asked = if explicit { priority::linux(schedule.0, schedule.1).ok() } else { None };
    let result = match asked {
        // SAFETY: the attributes were initialised; the caller's promises; the argument belongs to the new thread.
        Some(asked) => unsafe { make_scheduled(place, attributes.read(), asked, schedule.1, beginning) },
        // SAFETY: the caller's promises; the argument belongs to the new thread from here on.
        None => unsafe { real_pthread_create(place, attributes, begin, beginning) },
    };
    if result != 0 {
        // SAFETY: no thread was made, so nobody else has it.
        drop(unsafe { Box::from_raw(beginning.cast::<Beginning>()) });
    }
    result
}

/// Makes a thread with a priority of its own, or with its maker's where Linux refuses that.
///
/// `attributes` is a copy that shares what glibc keeps behind a pointer; it is only read, and never destroyed.
///
/// # Safety
/// As for the C library's pthread_create.
unsafe fn make_scheduled(
    place: *mut pthread_t,
    mut attributes: pthread_attr_t,
    (policy, parameters): (c_int, libc::sched_param),
    priority: c_int,
    beginning: *mut c_void,
) -> c_int {
    // SAFETY: a copy is as good as the original.
    unsafe { priority::put_linux(&raw mut attributes, policy, &parameters) };
    // SAFETY: the caller's promises.
    let result = unsafe { real_pthread_create(place, &raw const attributes, begin, beginning) };
    if result != libc::EPERM {
        return result;
    }
    priority::warn(priority);
    // SAFETY: as above.
    unsafe { pthread_attr_setinheritsched(&raw mut attributes, INHERIT) };
    // SAFETY: as above; the first attempt made no thread, so what it begins with is still there.
    unsafe { real_pthread_create(place, &raw const attributes, begin, beginning) }
}

/// First function of a thread. pthread_exit() and cancellation unwind through it: it holds nothing with a destructor.
extern "C-unwind" fn begin(beginning: *mut c_void) -> *mut c_void {
    let (start, argument) = introduce(beginning);
    start(argument)
}

/// Enters the new thread in the registry; gives what the program wants to run.
fn introduce(beginning: *mut c_void) -> (Start, *mut c_void) {
    let _off = cancel::Off::begin();
    // SAFETY: made by `qnet_pthread_create` for this thread alone.
    let beginning = unsafe { Box::from_raw(beginning.cast::<Beginning>()) };
    let (policy, priority) = beginning.schedule;
    registry::this(|this| this.set_schedule(policy, if priority == 0 { priority::USUAL } else { priority }));
    registry::announce();
    client::calls::watch_thread();
    (beginning.start, beginning.argument)
}

/// The overlay's gettid(): QNX's number of this thread, from 1, as messages carry it.
#[unsafe(no_mangle)]
pub extern "C" fn qnet_gettid() -> c_int {
    client::calls::thread_id()
}

const RUNMASK: c_int = 4;
const RUNMASK_GET_AND_SET: c_int = 6;
const RUNMASK_GET_AND_SET_INHERIT: c_int = 10;
const NAME: c_int = 11;

calls! {
    /// Names this thread and chooses its CPUs. Other commands of QNX: `ENOTSUP`, unknown ones `EINVAL`.
    ThreadCtl, ThreadCtl_r (command: c_int, data: *mut c_void) -> c_int = {
        match command {
            // The mask itself is the pointer.
            RUNMASK => set_cpus(&[data.addr() as u32]).map(|()| 0),
            // SAFETY: the caller's promise for this command.
            RUNMASK_GET_AND_SET => unsafe { exchange_cpus(data.cast()) },
            // SAFETY: the caller's promise for this command.
            RUNMASK_GET_AND_SET_INHERIT => unsafe { exchange_many_cpus(data.cast()) },
            // SAFETY: the caller's promise for this command.
            NAME => unsafe { name(data.cast()) },
            0..=64 => Err(libc::ENOTSUP),
            _ => Err(libc::EINVAL),
        }
    };
}

/// Words of a CPU mask, least significant first.
fn cpus() -> Outcome<Vec<u32>> {
    let mut set = MaybeUninit::<cpu_set_t>::zeroed();
    // SAFETY: the set is ours.
    check(unsafe { libc::sched_getaffinity(0, size_of::<cpu_set_t>(), set.as_mut_ptr()) })?;
    // SAFETY: zeros are a valid set, and the kernel filled it.
    let set = unsafe { set.assume_init() };
    let is_set = |cpu| {
        // SAFETY: the index is below the size of a set.
        unsafe { libc::CPU_ISSET(cpu, &set) }
    };
    let word = |word: usize| (0..32).fold(0, |bits, bit| bits | u32::from(is_set(word * 32 + bit)) << bit);
    Ok((0..size_of::<cpu_set_t>() / 4).map(word).collect())
}

fn set_cpus(words: &[u32]) -> Outcome<()> {
    // SAFETY: zeros are a valid, empty set.
    let mut set = unsafe { MaybeUninit::<cpu_set_t>::zeroed().assume_init() };
    let chosen = words
        .iter()
        .enumerate()
        .flat_map(|(n, word)| (0..32).filter(move |bit| word >> bit & 1 == 1).map(move |bit| n * 32 + bit));
    for cpu in chosen.take_while(|cpu| *cpu < 8 * size_of::<cpu_set_t>()) {
        // SAFETY: the index is below the size of a set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: the set is ours.
    check(unsafe { libc::sched_setaffinity(0, size_of::<cpu_set_t>(), &raw const set) })
}

/// `_NTO_TCTL_RUNMASK_GET_AND_SET`: one word; 0 changes nothing.
///
/// # Safety
/// `mask` is NULL or a place for a word.
unsafe fn exchange_cpus(mask: *mut u32) -> Outcome<c_int> {
    // SAFETY: the caller's promise.
    let wanted = unsafe { memory::get(mask) }.ok_or(libc::EFAULT)?;
    let before = cpus()?;
    if wanted != 0 {
        set_cpus(&[wanted])?;
    }
    // SAFETY: the caller's promise.
    unsafe { memory::put(mask, || Ok(before.first().copied().unwrap_or(0))) }?;
    Ok(0)
}

/// `_NTO_TCTL_RUNMASK_GET_AND_SET_INHERIT`: the number of words n, n words of the mask, n words of that of new threads.
///
/// DEVIATION: new threads have their maker's mask on Linux, so the second mask must be the first, or 0.
///
/// # Safety
/// `data` is NULL or a structure of that shape.
unsafe fn exchange_many_cpus(data: *mut u32) -> Outcome<c_int> {
    // SAFETY: the caller's promise.
    let words = unsafe { memory::get(data) }.ok_or(libc::EFAULT)? as usize;
    if words == 0 || words > size_of::<cpu_set_t>() / 4 {
        return Err(libc::EINVAL);
    }
    // SAFETY: the caller's promise: that many words follow, twice.
    let masks = unsafe { std::slice::from_raw_parts_mut(data.add(1), 2 * words) };
    let (own, inherited) = masks.split_at_mut(words);
    let before = cpus()?;
    let is_set = |mask: &[u32]| mask.iter().any(|word| *word != 0);
    if is_set(inherited) && inherited != own {
        return Err(libc::ENOTSUP);
    }
    if is_set(own) {
        set_cpus(own)?;
    }
    own.copy_from_slice(&before[..words]);
    inherited.copy_from_slice(&before[..words]);
    Ok(0)
}

/// `struct _thread_name`.
#[repr(C)]
struct ThreadName {
    new_name_len: c_int,
    name_buf_len: c_int,
    name_buf: [c_char; 1],
}

/// Longest name of a thread on Linux, without the NUL; the rest is cut off.
const NAME_MAX: usize = 15;

/// `_NTO_TCTL_NAME`.
///
/// # Safety
/// `data` is NULL or a `struct _thread_name` with room for the longer of the two names.
unsafe fn name(data: *mut ThreadName) -> Outcome<c_int> {
    if data.is_null() {
        return Err(libc::EFAULT);
    }
    // SAFETY: the caller's promise.
    let (new, room, buffer) =
        unsafe { ((*data).new_name_len, (*data).name_buf_len, (&raw mut (*data).name_buf).cast::<u8>()) };
    let room = usize::try_from(room).map_err(|_| libc::EINVAL)?;
    let mut old = [0_u8; NAME_MAX + 1];
    // SAFETY: PR_GET_NAME writes 16 bytes.
    check(unsafe { libc::prctl(libc::PR_GET_NAME, old.as_mut_ptr()) })?;
    if let Ok(len) = usize::try_from(new) {
        let mut name = [0_u8; NAME_MAX + 1];
        let kept = len.min(NAME_MAX);
        // SAFETY: the caller's promise: the new name has `len` bytes.
        name[..kept].copy_from_slice(unsafe { std::slice::from_raw_parts(buffer, kept) });
        // SAFETY: the name is ours and ends in a NUL.
        check(unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) })?;
    }
    let shown = old.iter().position(|byte| *byte == 0).unwrap_or(NAME_MAX).min(room.saturating_sub(1));
    if room > 0 {
        // SAFETY: the caller's promise: the buffer has `room` bytes.
        let buffer = unsafe { std::slice::from_raw_parts_mut(buffer, shown + 1) };
        buffer[..shown].copy_from_slice(&old[..shown]);
        buffer[shown] = 0;
    }
    Ok(0)
}

/// Path of this program, into `buffer` of PATH_MAX bytes or into memory of the library.
///
/// # Safety
/// `buffer` is NULL or has room for PATH_MAX bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _cmdname(buffer: *mut c_char) -> *mut c_char {
    use std::os::unix::ffi::OsStrExt;
    use std::sync::OnceLock;
    static PATH: OnceLock<Option<std::ffi::CString>> = OnceLock::new();
    let read = || {
        let path = std::fs::read_link("/proc/self/exe").ok()?;
        std::ffi::CString::new(path.as_os_str().as_bytes()).ok()
    };
    let Some(path) = PATH.get_or_init(read) else {
        crate::call::set_errno(libc::ENOENT);
        return null();
    };
    if buffer.is_null() {
        return path.as_ptr().cast_mut();
    }
    let bytes = path.as_bytes_with_nul();
    let kept = bytes.len().min(libc::PATH_MAX as usize);
    // SAFETY: the caller's promise; a path of the kernel is shorter than PATH_MAX.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), buffer, kept) };
    buffer
}
