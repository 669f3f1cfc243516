//! The headers: each alone and all together, in every language and with every feature macro that programs use; what needs
//! a driver on Linux does not compile and says why; every declared function is exported and nothing else is.

mod support;

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

use support::{compiler, headers, include, library, printed, succeed};

const LANGUAGES: [(&str, &str, &str); 6] = [
    ("cc", "c", "-std=c99"),
    ("cc", "c", "-std=c11"),
    ("cc", "c", "-std=gnu17"),
    ("c++", "c++", "-std=c++17"),
    ("clang", "c", "-std=c11"),
    ("clang++", "c++", "-std=c++17"),
];

const FEATURES: [&str; 5] = [
    "",
    "#define _GNU_SOURCE",
    "#define _POSIX_C_SOURCE 199309L",
    "#define _POSIX_C_SOURCE 200809L",
    "#define _XOPEN_SOURCE 700",
];

/// Headers of QNX's names and of the overlay, without those that refuse to be included.
fn all() -> Vec<String> {
    let own =
        headers(&include()).into_iter().filter(|name| !name.starts_with("overlay/") && name != "hw/inout.h");
    let overlay = headers(&include().join("overlay")).into_iter().filter(|name| !name.starts_with("bits/"));
    own.chain(overlay).collect()
}

fn compile(compiler: &str, language: &str, standard: &str, text: &str) -> Output {
    let mut command = Command::new(compiler);
    command.args([standard, "-x", language, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only"]);
    command.arg("-I").arg(include().join("overlay")).arg("-I").arg(include()).arg("-");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect(compiler);
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("the compiler reads");
    child.wait_with_output().expect("the compiler ends")
}

fn passes(language: (&str, &str, &str), text: &str) {
    let Some(found) = compiler(language.0) else { return };
    let output = compile(found, language.1, language.2, text);
    assert!(output.status.success(), "{language:?}:\n{text}\n{}", printed(&output));
}

#[test]
fn each_header_stands_alone() {
    for header in all() {
        for language in LANGUAGES {
            passes(language, &format!("#include <{header}>\nint main(void) {{ return 0; }}\n"));
        }
    }
}

#[test]
fn all_headers_go_together_in_either_order_and_with_every_feature_macro() {
    let mut names = all();
    for _ in 0..2 {
        let includes: String = names.iter().map(|name| format!("#include <{name}>\n")).collect();
        for language in LANGUAGES {
            for feature in FEATURES.iter().filter(|feature| language.1 == "c" || !feature.contains("GNU")) {
                passes(language, &format!("{feature}\n{includes}int main(void) {{ return 0; }}\n"));
            }
        }
        names.reverse();
    }
}

#[test]
fn every_macro_and_structure_can_be_used() {
    let text = r#"
#include <sys/neutrino.h>
#include <sys/dispatch.h>
#include <sys/netmgr.h>
#include <sys/syspage.h>
#include <devctl.h>
#include <string.h>
static const char text[] = "const";
int use(void);
int use(void)
{
    struct sigevent event;
    struct _pulse pulse;
    struct _msg_info info;
    struct _io_connect open;
    iov_t iov[2];
    unsigned mask[RMSK_SIZE(64)] = {0};
    int n = 7;
    memset(&pulse, 0, sizeof pulse); memset(&info, 0, sizeof info); memset(&open, 0, sizeof open);
    SIGEV_NONE_INIT(&event); SIGEV_UNBLOCK_INIT(&event); SIGEV_INTR_INIT(&event);
    SIGEV_SIGNAL_INIT(&event, 1); SIGEV_SIGNAL_CODE_INIT(&event, 1, n, 3); SIGEV_SIGNAL_THREAD_INIT(&event, 1, &n, 3);
    SIGEV_SIGNAL_VALUE_INIT(&event, 1, &n);
    SIGEV_PULSE_INIT(&event, 3, SIGEV_PULSE_PRIO_INHERIT, _PULSE_CODE_MINAVAIL + 1, n);
    SIGEV_PULSE_INIT(&event, 3, 10, _PULSE_CODE_MAXAVAIL, &n);
    SIGEV_MAKE_UPDATEABLE(&event); SIGEV_MAKE_CRITICAL(&event); SIGEV_CLEAR_CRITICAL(&event);
    event.sigev_notify = SIGEV_PULSE; event.sigev_coid = 1; event.sigev_code = 2; event.sigev_priority = 10;
    event.sigev_value.sival_int = 3;
    SETIOV(&iov[0], &n, sizeof n); SETIOV_CONST(&iov[1], text, sizeof text);
    RMSK_SET(33, mask); RMSK_CLR(33, mask);
    return (int)GETIOVLEN(&iov[1]) + (ND_NODE_CMP(0x10001, 1) != 0) + SIGEV_GET_TYPE(&event) + RMSK_ISSET(1, mask)
        + (int)SYSPAGE_ENTRY(qtime)->cycles_per_sec + _syspage_ptr->num_cpu + pulse.code + (int)info.msglen + open.path_len
        + (int)__DIOTF(_DCMD_MISC, 1, n) + (int)_NTO_SIDE_CHANNEL + _NTO_TIMEOUT_SEND + (int)sizeof(_Uint16t) + EOK;
}
"#;
    for language in LANGUAGES {
        // A program writes strict C with QNX's headers; _POSIX_C_SOURCE is what makes the C library show union sigval.
        passes(language, &format!("#define _POSIX_C_SOURCE 200809L\n{text}"));
    }
}

#[test]
fn what_needs_a_driver_is_refused_with_the_way_that_linux_has() {
    for (text, sentence) in [
        ("#include <hw/inout.h>", "sys/io.h"),
        ("#include <sys/neutrino.h>\nint f(void) { return ThreadCtl(_NTO_TCTL_IO, 0); }", "ioperm"),
        ("#include <sys/neutrino.h>\nint f(void) { return InterruptAttachEvent(1, 0, 0); }", "/dev/uioN"),
        ("#include <sys/neutrino.h>\nint f(void) { return InterruptWait(0, 0); }", "/dev/uioN"),
        ("#include <sys/mman.h>\nvoid *f(void) { return mmap_device_memory(0, 1, 0, 0, 0); }", "/dev/uioN"),
        ("#include <sys/neutrino.h>\nint f(void) { return _NTO_TIMEOUT_JOIN; }", "pthread_timedjoin_np"),
    ] {
        for (name, language, standard) in LANGUAGES {
            let Some(found) = compiler(name) else { continue };
            let output = compile(found, language, standard, &format!("{text}\n"));
            assert!(!output.status.success(), "{name} {standard} takes {text}");
            assert!(printed(&output).contains(sentence), "{name} {standard}: {text}\n{}", printed(&output));
        }
    }
}

/// Names that the headers declare and the C library has.
const OF_THE_C_LIBRARY: [&str; 2] = ["pthread_setname_np", "pthread_getname_np"];

/// A function that a header declares.
struct Declared {
    name: String,
    symbol: String,
    refused: bool,
}

/// The functions that the headers declare for programs.
fn declared() -> Vec<Declared> {
    let mut functions = Vec::new();
    for header in headers(&include()) {
        let text = fs::read_to_string(include().join(&header)).expect("a header");
        let text: String = text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
        for declaration in text.split("extern ").skip(1) {
            let declaration = declaration.split(';').next().unwrap_or_default();
            let Some((before, _)) = declaration.split_once('(') else { continue };
            let name = before.rsplit([' ', '*']).next().unwrap_or_default().to_owned();
            let symbol = match declaration.split_once("QNET_NAMED(") {
                Some((_, rest)) => rest.split(')').next().unwrap_or_default().to_owned(),
                None => name.clone(),
            };
            // Stand-ins of refused constants, and `extern "C"`, are no calls.
            let helper =
                name.starts_with("qnet_timeout_of") || name.starts_with("qnet_no_") || name.starts_with('"');
            let refused = declaration.contains("QNET_REFUSED") || declaration.contains("QNET_NO_INTERRUPTS");
            if !helper {
                functions.push(Declared { name, symbol, refused });
            }
        }
    }
    functions
}

#[test]
fn the_library_exports_what_the_headers_declare_and_nothing_else() {
    let library = library().join("libqnet.so");
    let nm = succeed(Command::new("nm").args(["-D", "--defined-only", "--format=just-symbols"]).arg(library));
    let exported: BTreeSet<String> =
        nm.lines().map(|line| line.split('@').next().unwrap_or_default().to_owned()).collect();
    let declared: BTreeSet<String> = declared()
        .into_iter()
        .filter(|function| !function.refused && !OF_THE_C_LIBRARY.contains(&function.name.as_str()))
        .map(|function| function.symbol)
        .collect();
    let missing: Vec<_> = declared.difference(&exported).collect();
    let extra: Vec<_> = exported.difference(&declared).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not exported: {missing:?}; not declared: {extra:?}");
}

#[test]
fn the_library_starts_nothing_when_it_is_loaded() {
    let sections = succeed(Command::new("readelf").args(["-W", "-S"]).arg(library().join("libqnet.so")));
    assert!(sections.contains(".init_array"), "the C runtime's own entry");
    let size = sections.lines().find(|line| line.contains(" .init_array ")).expect("a section");
    // Two pointers: what every shared object has (frame_dummy), and Rust's note of the program's arguments.
    let bytes = size.split_whitespace().skip_while(|word| *word != "INIT_ARRAY").nth(3).expect("its size");
    assert!(usize::from_str_radix(bytes, 16).expect("a number") <= 16, "{size}");
}

/// Words in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Calls that the project promised, and that the table does not name.
fn missing_of_the_issue(table: &str) -> Vec<&'static str> {
    const PROMISED: &str = "ChannelCreate ChannelDestroy ConnectAttach ConnectDetach ConnectFlags ConnectServerInfo \
        ConnectClientInfo MsgSend MsgSendv MsgSendsv MsgSendvs MsgSendnc MsgSendvnc MsgSendsvnc MsgSendvsnc MsgReceive MsgReceivev \
        MsgReceivePulse MsgReceivePulsev MsgReply MsgReplyv MsgError MsgRead MsgReadv MsgWrite MsgWritev MsgSendPulse \
        MsgSendPulsePtr MsgDeliverEvent MsgRegisterEvent MsgUnregisterEvent MsgVerifyEvent MsgInfo MsgCurrent MsgKeyData \
        TimerTimeout timer_timeout TimerCreate TimerSettime SchedGet SchedSet ClockTime ClockPeriod ClockCycles ThreadCtl \
        timer_create pthread_create delay gettid getprio setprio netmgr_strtond netmgr_ndtostr netmgr_remote_nd netmgr_path \
        name_attach name_open name_close name_detach devctl";
    let named: BTreeSet<&str> =
        table.lines().filter(|line| line.starts_with("| `")).flat_map(quoted).collect();
    PROMISED.split_whitespace().filter(|call| !named.contains(call)).collect()
}

#[test]
fn what_differs_between_nodes_has_a_test_that_exists() {
    let root = include().join("../../../..").canonicalize().expect("the workspace");
    let text = fs::read_to_string(root.join("docs/messages.md")).expect("docs/messages.md");
    let section =
        text.split("\n## ").find(|section| section.starts_with("Between nodes")).expect("a section");
    let tests: String = ["messages/main.rs", "c_programs.rs", "services.rs"]
        .map(|file| fs::read_to_string(root.join("tests/tests").join(file)).expect("the tests"))
        .concat();
    let bullets: Vec<&str> = section.split("\n- ").skip(1).collect();
    assert!(bullets.len() >= 7, "rows are missing");
    for bullet in bullets {
        // A test is named in parentheses.
        let named: Vec<&str> = quoted(bullet).filter(|word| word.contains("_") && word.len() > 30).collect();
        assert!(!named.is_empty(), "no test: {bullet}");
        for test in named {
            assert!(tests.contains(&format!("\"{test}\"")), "no test {test}: {bullet}");
        }
    }
}

#[test]
fn limits_and_bad_input_have_tests_that_exist() {
    let root = include().join("../../../..").canonicalize().expect("the workspace");
    let text = fs::read_to_string(root.join("docs/messages.md")).expect("docs/messages.md");
    let section =
        text.split("\n## ").find(|part| part.starts_with("Limits and bad input")).expect("a section");
    let mut tests = fs::read_to_string(root.join("lsm-qnet/sim/tests/hostile.rs")).expect("the tests");
    for folder in ["client/tests/calls", "ipc/src/peer", "ipc/src/socket", "src/engine", "src/engine/tests"] {
        for file in fs::read_dir(root.join("lsm-qnet").join(folder)).expect(folder).filter_map(Result::ok) {
            tests += &fs::read_to_string(file.path()).unwrap_or_default();
        }
    }
    tests += &fs::read_to_string(root.join("tests/tests/messages/main.rs")).expect("the tests");
    let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 15, "rows are missing");
    for row in rows {
        let column = row.trim_matches('|').split('|').nth(2).expect(row);
        assert!(quoted(column).count() > 0, "no test: {row}");
        for test in quoted(column) {
            let found = tests.contains(&format!("fn {test}()")) || tests.contains(&format!("\"{test}\""));
            assert!(found, "no test {test}: {row}");
        }
    }
}

#[test]
fn calls_can_be_found_in_the_documentation_of_the_rust_crate() {
    let root = include().join("../../../..").canonicalize().expect("the workspace");
    let table = fs::read_to_string(root.join("docs/messages.md")).expect("docs/messages.md");
    let mut aliases = String::new();
    for folder in ["lsm-qnet/client/src", "lsm-qnet/client/src/calls", "lsm-qnet/client/src/names"] {
        for file in fs::read_dir(root.join(folder)).expect("the crate").filter_map(Result::ok) {
            aliases += &fs::read_to_string(file.path()).unwrap_or_default();
        }
    }
    // What Rust has of its own: threads, clocks, message queues, and no memory to give back.
    let own = [
        "ClientInfoExtFree",
        "ClockTime",
        "ClockPeriod",
        "ClockCycles",
        "qnet_syspage",
        "delay",
        "nsec2timespec",
        "timespec2nsec",
        "mq_notify",
    ];
    for section in ["Channels and connections", "Messages", "Pulses and events", "Time"] {
        let rows =
            table.split("\n## ").find(|part| part.starts_with(&format!("{section}\n"))).expect(section);
        for row in rows.lines().filter(|line| line.starts_with("| `")) {
            for call in quoted(row.split('|').nth(1).unwrap_or_default()).filter(|call| !own.contains(call)) {
                let found = [format!("\"{call}\""), format!("pub fn {call}(")]
                    .iter()
                    .any(|text| aliases.contains(text));
                assert!(found, "{call} is no doc(alias) of the crate");
            }
        }
    }
}

#[test]
fn kernel_calls_have_a_form_with_the_error_in_the_result() {
    // What cannot fail, and what tells its error otherwise, has none on QNX either.
    const WITHOUT: [&str; 2] = ["ClockCycles", "ConnectClientInfoExt"];
    let names: BTreeSet<String> = declared().into_iter().map(|function| function.name).collect();
    let kernel = ["Channel", "Clock", "Connect", "Msg", "Sched", "Thread", "Timer"];
    let calls = names.iter().filter(|name| kernel.iter().any(|kind| name.starts_with(kind)));
    let calls = calls.filter(|name| !name.ends_with("_r") && !WITHOUT.contains(&name.as_str()));
    let without: Vec<_> = calls.filter(|name| !names.contains(&format!("{name}_r"))).collect();
    assert!(without.is_empty() && names.len() > 100, "{without:?} of {}", names.len());
}

#[test]
fn the_table_of_calls_is_that_of_the_headers() {
    let root = include().join("../../../..").canonicalize().expect("the workspace");
    let table = fs::read_to_string(root.join("docs/messages.md")).expect("docs/messages.md");
    let tests: String = ["programs.rs", "headers.rs"]
        .map(|file| fs::read_to_string(root.join("lsm-qnet/client/c/tests").join(file)).expect("the tests"))
        .concat();
    let missing = missing_of_the_issue(&table);
    assert!(missing.is_empty(), "calls that were promised are not in the table: {missing:?}");
    let mut documented = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<&str> = row.trim_matches('|').split('|').collect();
        assert_eq!(columns.len(), 4, "{row}");
        documented.extend(quoted(columns[0]).map(str::to_owned));
        for test in quoted(columns[3]) {
            assert!(tests.contains(&format!("fn {test}()")), "no test {test}: {row}");
        }
    }
    let declared: BTreeSet<String> =
        declared().into_iter().map(|function| function.name.trim_end_matches("_r").to_owned()).collect();
    let missing: Vec<_> = declared.difference(&documented).collect();
    let extra: Vec<_> = documented.difference(&declared).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "not in the table: {missing:?}; not in the headers: {extra:?}"
    );
}
