//! Priorities: QNX's in front, Linux's behind.
//!
//! A thread has a priority from 1 to 255, 10 unless it asks for another. It goes with every message and orders a channel's
//! queue. Linux is asked for the same: above 10 that is a realtime priority (99 at most), up to 10 it is none. Where Linux refuses that, one sentence on standard error tells so, and the messages keep their order.
//!
//! DEVIATION: SCHED_OTHER means "as usual" to Linux, round-robin to QNX. Here it is Linux's up to 10 and round-robin above.

use std::ptr;
use std::sync::Once;

use libc::{c_int, pid_t, pthread_attr_t, pthread_t, sched_param};

use crate::call::{Outcome, calls, fenced, ordinary};
use crate::clocks::check;
use crate::{memory, registry};

/// Priority of a thread that asks for nothing.
pub(crate) const USUAL: c_int = 10;
/// Highest priority of a message.
pub(crate) const HIGHEST: c_int = 255;
/// Highest realtime priority of Linux.
const HIGHEST_OF_LINUX: c_int = 99;
/// `SCHED_NOCHANGE` of the overlay.
const NO_CHANGE: c_int = -1;

unsafe extern "C" {
    #[link_name = "pthread_setschedparam"]
    fn real_pthread_setschedparam(thread: pthread_t, policy: c_int, parameters: *const sched_param) -> c_int;
    #[link_name = "pthread_getschedparam"]
    fn real_pthread_getschedparam(
        thread: pthread_t,
        policy: *mut c_int,
        parameters: *mut sched_param,
    ) -> c_int;
    #[link_name = "pthread_attr_setschedparam"]
    fn real_pthread_attr_setschedparam(
        attributes: *mut pthread_attr_t,
        parameters: *const sched_param,
    ) -> c_int;
    fn pthread_attr_getschedparam(attributes: *const pthread_attr_t, parameters: *mut sched_param) -> c_int;
    #[link_name = "pthread_attr_setschedpolicy"]
    fn real_pthread_attr_setschedpolicy(attributes: *mut pthread_attr_t, policy: c_int) -> c_int;
    fn pthread_attr_getschedpolicy(attributes: *const pthread_attr_t, policy: *mut c_int) -> c_int;
}

fn is_realtime(policy: c_int) -> bool {
    policy == libc::SCHED_FIFO || policy == libc::SCHED_RR
}

/// Policy and priority of a thread of any process (0: this one), as QNX would show them.
pub(crate) fn of_kernel(tid: pid_t) -> Outcome<(c_int, c_int)> {
    let mut parameters = sched_param { sched_priority: 0 };
    // SAFETY: has no conditions.
    let policy = unsafe { libc::sched_getscheduler(tid) };
    check(policy)?;
    // SAFETY: the structure is ours.
    check(unsafe { libc::sched_getparam(tid, &raw mut parameters) })?;
    Ok((policy, shown(policy, parameters.sched_priority)))
}

fn shown(policy: c_int, priority: c_int) -> c_int {
    if is_realtime(policy) { priority } else { USUAL }
}

/// What Linux is asked for. A priority up to the usual is no realtime one, whatever the policy: the threads that ask for
/// nothing run under SCHED_OTHER, and would come after it.
pub(crate) fn linux(policy: c_int, priority: c_int) -> Outcome<(c_int, sched_param)> {
    if !(0..=HIGHEST).contains(&priority) || is_realtime(policy) && priority == 0 {
        return Err(libc::EINVAL);
    }
    let qnx = is_realtime(policy) || policy == libc::SCHED_OTHER;
    Ok(match (qnx, priority > USUAL) {
        (true, true) => {
            let policy = if is_realtime(policy) { policy } else { libc::SCHED_RR };
            (policy, sched_param { sched_priority: priority.min(HIGHEST_OF_LINUX) })
        }
        (true, false) => (libc::SCHED_OTHER, sched_param { sched_priority: 0 }),
        (false, _) => (policy, sched_param { sched_priority: 0 }),
    })
}

/// Says once that the kernel refused.
pub(crate) fn warn(priority: c_int) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        eprintln!(
            "libqnet: no right to realtime priority {priority}: messages are ordered by it, processor time is not \
             (CAP_SYS_NICE or a limit on RTPRIO gives the right)"
        );
    });
}

/// A refusal for want of the right is none; the program goes on at its usual priority.
fn forgive(result: c_int, priority: c_int) -> Outcome<()> {
    match result {
        0 => Ok(()),
        libc::EPERM => {
            warn(priority);
            Ok(())
        }
        errno => Err(errno),
    }
}

/// Changes a thread of this process (0: this thread) or, with the right to it, of another one.
fn set_tid(tid: pid_t, policy: c_int, priority: c_int) -> Outcome<()> {
    let policy = if policy == NO_CHANGE { schedule_of(tid)?.0 } else { policy };
    let (linux_policy, parameters) = linux(policy, priority)?;
    // SAFETY: the structure is ours.
    let result = unsafe { libc::sched_setscheduler(tid, linux_policy, &raw const parameters) };
    let errno = if result == -1 { nix::errno::Errno::last_raw() } else { 0 };
    // Another user's process is no question of priorities.
    if errno == libc::EPERM && !is_ours(tid) {
        return Err(libc::EPERM);
    }
    forgive(errno, priority)?;
    let note =
        |thread: &registry::Thread| thread.set_schedule(policy, if priority == 0 { USUAL } else { priority });
    if tid == 0 {
        registry::this(note)
    } else {
        registry::of_tid(tid, note)
    };
    registry::announce();
    Ok(())
}

fn is_ours(tid: pid_t) -> bool {
    tid == 0 || std::path::Path::new(&format!("/proc/self/task/{tid}")).exists()
}

/// Policy and priority, the program's wishes first.
fn schedule_of(tid: pid_t) -> Outcome<(c_int, c_int)> {
    let known = if tid == 0 {
        registry::this(registry::Thread::schedule)
    } else {
        registry::of_tid(tid, registry::Thread::schedule)
    };
    known.map_or_else(|| of_kernel(tid), Ok)
}

/// The kernel's number of a thread that QNX names by process and thread; 0 stands for the caller.
///
/// A process stands for its first thread, whose number is the same.
fn thread_number(pid: pid_t, tid: c_int) -> Outcome<pid_t> {
    // SAFETY: has no conditions.
    let own = pid == 0 || pid == unsafe { libc::getpid() };
    match (own, tid) {
        _ if pid < 0 || tid < 0 => Err(libc::ESRCH),
        (true, 0) => Ok(0),
        (true, number) => registry::of_number(number, |thread| thread.tid).ok_or(libc::ESRCH),
        // QNX's numbers of another process's threads are known to that process alone; its first one is 1.
        (false, 0 | 1) => Ok(pid),
        (false, _) => Err(libc::ESRCH),
    }
}

calls! {
    /// Tells the policy (result) and the priority of a thread; pid 0 is this process, tid 0 this thread.
    SchedGet, SchedGet_r (pid: pid_t, tid: c_int, parameters: *mut sched_param) -> c_int = {
        let (policy, sched_priority) = schedule_of(thread_number(pid, tid)?)?;
        // SAFETY: the caller's promise; NULL is allowed.
        unsafe { memory::put(parameters, || Ok(sched_param { sched_priority })) }?;
        Ok(policy)
    };

    /// Changes policy and priority of a thread; pid 0 is this process, tid 0 this thread.
    SchedSet, SchedSet_r (pid: pid_t, tid: c_int, policy: c_int, parameters: *const sched_param) -> c_int = {
        // SAFETY: the caller's promise.
        let wanted = unsafe { memory::get(parameters) }.ok_or(libc::EFAULT)?;
        set_tid(thread_number(pid, tid)?, policy, wanted.sched_priority)?;
        Ok(0)
    };

    /// Lets others of the same priority run.
    SchedYield, SchedYield_r () -> c_int = {
        // SAFETY: has no conditions.
        check(unsafe { libc::sched_yield() })?;
        Ok(0)
    };
}

/// Priority of a process, 0 for the calling thread.
#[unsafe(no_mangle)]
pub extern "C" fn getprio(pid: pid_t) -> c_int {
    ordinary(fenced(|| Ok(schedule_of(thread_number(pid, 0)?)?.1)))
}

/// Changes the priority of a process, or with 0 of the calling thread; returns what it was.
#[unsafe(no_mangle)]
pub extern "C" fn setprio(pid: pid_t, priority: c_int) -> c_int {
    ordinary(fenced(|| {
        let tid = thread_number(pid, 0)?;
        let (_, before) = schedule_of(tid)?;
        if !(1..=HIGHEST).contains(&priority) {
            return Err(libc::EINVAL);
        }
        set_tid(tid, NO_CHANGE, priority)?;
        Ok(before)
    }))
}

/// The overlay's sched_setscheduler().
///
/// # Safety
/// `parameters` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_sched_setscheduler(
    pid: pid_t,
    policy: c_int,
    parameters: *const sched_param,
) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { memory::get(parameters) }.ok_or(libc::EINVAL)?;
        let tid = thread_number(pid, 0)?;
        let (before, _) = schedule_of(tid)?;
        set_tid(tid, policy, wanted.sched_priority)?;
        // POSIX returns the former policy, Linux's C library 0; programs test for -1.
        Ok(before)
    }))
}

/// The overlay's sched_setparam().
///
/// # Safety
/// `parameters` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_sched_setparam(pid: pid_t, parameters: *const sched_param) -> c_int {
    ordinary(fenced(|| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { memory::get(parameters) }.ok_or(libc::EINVAL)?;
        set_tid(thread_number(pid, 0)?, NO_CHANGE, wanted.sched_priority)?;
        Ok(0)
    }))
}

/// The overlay's sched_getparam().
///
/// # Safety
/// `parameters` is NULL or a place for one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_sched_getparam(pid: pid_t, parameters: *mut sched_param) -> c_int {
    ordinary(fenced(|| {
        let (_, sched_priority) = schedule_of(thread_number(pid, 0)?)?;
        // SAFETY: the caller's promise; NULL is allowed.
        unsafe { memory::put(parameters, || Ok(sched_param { sched_priority })) }?;
        Ok(0)
    }))
}

/// The overlay's sched_get_priority_min().
#[unsafe(no_mangle)]
pub extern "C" fn qnet_sched_get_priority_min(policy: c_int) -> c_int {
    ordinary(if matches!(policy, 0..=2) { Ok(1) } else { Err(libc::EINVAL) })
}

/// The overlay's sched_get_priority_max().
#[unsafe(no_mangle)]
pub extern "C" fn qnet_sched_get_priority_max(policy: c_int) -> c_int {
    ordinary(if matches!(policy, 0..=2) { Ok(HIGHEST) } else { Err(libc::EINVAL) })
}

/// The result of a pthread call: the errno itself.
fn number(outcome: Outcome<()>) -> c_int {
    outcome.err().unwrap_or(0)
}

/// The overlay's pthread_setschedparam().
///
/// # Safety
/// `thread` was not joined; `parameters` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_setschedparam(
    thread: pthread_t,
    policy: c_int,
    parameters: *const sched_param,
) -> c_int {
    number(fenced(|| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { memory::get(parameters) }.ok_or(libc::EINVAL)?.sched_priority;
        // SAFETY: the caller's promise.
        unsafe { set_thread(thread, policy, wanted) }
    }))
}

/// The overlay's pthread_setschedprio().
///
/// # Safety
/// `thread` was not joined.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_setschedprio(thread: pthread_t, priority: c_int) -> c_int {
    // SAFETY: the caller's promise.
    number(fenced(|| unsafe { set_thread(thread, NO_CHANGE, priority) }))
}

unsafe fn set_thread(thread: pthread_t, policy: c_int, priority: c_int) -> Outcome<()> {
    // SAFETY: the caller's promise.
    let (present, _) = unsafe { schedule_of_thread(thread) }?;
    let policy = if policy == NO_CHANGE { present } else { policy };
    let (linux_policy, parameters) = linux(policy, priority)?;
    // SAFETY: the caller's promise; the structure is ours.
    let result = unsafe { real_pthread_setschedparam(thread, linux_policy, &raw const parameters) };
    forgive(result, priority)?;
    // A thread that was not made through the overlay and calls nothing of ours keeps the kernel's priority alone.
    registry::of(thread, |entry| entry.set_schedule(policy, if priority == 0 { USUAL } else { priority }));
    registry::announce();
    Ok(())
}

unsafe fn schedule_of_thread(thread: pthread_t) -> Outcome<(c_int, c_int)> {
    // SAFETY: has no conditions.
    if thread == unsafe { libc::pthread_self() } {
        return schedule_of(0);
    }
    if let Some(schedule) = registry::of(thread, registry::Thread::schedule) {
        return Ok(schedule);
    }
    let (mut policy, mut parameters) = (0, sched_param { sched_priority: 0 });
    // SAFETY: the caller's promise; both are ours.
    match unsafe { real_pthread_getschedparam(thread, &raw mut policy, &raw mut parameters) } {
        0 => Ok((policy, shown(policy, parameters.sched_priority))),
        errno => Err(errno),
    }
}

/// The overlay's pthread_getschedparam().
///
/// # Safety
/// `thread` was not joined; the pointers are NULL or places for their values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_getschedparam(
    thread: pthread_t,
    policy: *mut c_int,
    parameters: *mut sched_param,
) -> c_int {
    number(fenced(|| {
        // SAFETY: the caller's promise.
        let (present, sched_priority) = unsafe { schedule_of_thread(thread) }?;
        // SAFETY: the caller's promise; NULL is allowed.
        unsafe { memory::put(policy, || Ok(present)) }?;
        // SAFETY: the caller's promise; NULL is allowed.
        unsafe { memory::put(parameters, || Ok(sched_param { sched_priority })) }
    }))
}

/// The overlay's pthread_attr_setschedparam(): a priority above the usual makes SCHED_OTHER round-robin, as on QNX.
///
/// DEVIATION: attributes hold a priority up to 99.
///
/// # Safety
/// `attributes` was initialised; `parameters` is NULL or points to one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_attr_setschedparam(
    attributes: *mut pthread_attr_t,
    parameters: *const sched_param,
) -> c_int {
    number(fenced(|| {
        // SAFETY: the caller's promise.
        let wanted = unsafe { memory::get(parameters) }.ok_or(libc::EINVAL)?.sched_priority;
        // SAFETY: the caller's promise.
        let policy = unsafe { policy_of(attributes) };
        linux(policy, wanted)?;
        // The C library checks a priority against the policy: as a realtime one it can be kept until the thread is made.
        let policy = if wanted > 0 && policy == libc::SCHED_OTHER { libc::SCHED_RR } else { policy };
        let parameters = sched_param { sched_priority: wanted.min(HIGHEST_OF_LINUX) };
        // SAFETY: the caller's promise.
        unsafe { real_pthread_attr_setschedpolicy(attributes, policy) };
        // SAFETY: the caller's promise; the structure is ours.
        let result = unsafe { real_pthread_attr_setschedparam(attributes, &raw const parameters) };
        if result == 0 { Ok(()) } else { Err(result) }
    }))
}

/// The overlay's pthread_attr_setschedpolicy(): QNX programs set policy and priority in either order.
///
/// # Safety
/// `attributes` was initialised.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qnet_pthread_attr_setschedpolicy(
    attributes: *mut pthread_attr_t,
    policy: c_int,
) -> c_int {
    number(fenced(|| {
        // SAFETY: the caller's promise.
        let priority = unsafe { priority_of(attributes) };
        // A realtime policy needs a priority, SCHED_OTHER takes none: what is there already decides.
        let policy = if policy == libc::SCHED_OTHER && priority > 0 { libc::SCHED_RR } else { policy };
        // SAFETY: the caller's promise.
        let result = unsafe { real_pthread_attr_setschedpolicy(attributes, policy) };
        if result == 0 && is_realtime(policy) && priority == 0 {
            let usual = sched_param { sched_priority: USUAL };
            // SAFETY: the caller's promise; the structure is ours.
            unsafe { real_pthread_attr_setschedparam(attributes, &raw const usual) };
        }
        if result == 0 { Ok(()) } else { Err(result) }
    }))
}

/// Puts into attributes what Linux shall be asked for, or that it is the creator's.
///
/// # Safety
/// `attributes` was initialised.
pub(crate) unsafe fn put_linux(attributes: *mut pthread_attr_t, policy: c_int, parameters: &sched_param) {
    // SAFETY: the caller's promise.
    unsafe { real_pthread_attr_setschedpolicy(attributes, policy) };
    // SAFETY: the caller's promise; the structure is ours.
    unsafe { real_pthread_attr_setschedparam(attributes, ptr::from_ref(parameters)) };
}

/// Policy in attributes.
///
/// # Safety
/// `attributes` was initialised.
pub(crate) unsafe fn policy_of(attributes: *const pthread_attr_t) -> c_int {
    let mut policy = libc::SCHED_OTHER;
    // SAFETY: the caller's promise; the place is ours.
    unsafe { pthread_attr_getschedpolicy(attributes, &raw mut policy) };
    policy
}

/// Priority in attributes, 0 without one.
///
/// # Safety
/// `attributes` was initialised.
pub(crate) unsafe fn priority_of(attributes: *const pthread_attr_t) -> c_int {
    let mut parameters = sched_param { sched_priority: 0 };
    // SAFETY: the caller's promise; the place is ours.
    unsafe { pthread_attr_getschedparam(attributes, &raw mut parameters) };
    parameters.sched_priority
}
