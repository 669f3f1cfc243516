//! What each option does: a table that names them all, and a test for each row.
//!
//! That an option is read is not enough here; each case sees it at work in frames, in time, in identities or in the log,
//! and sees the default do something else.

mod access;
mod frames;
mod rig;
mod texts;
mod times;
mod twins;

/// Every option, and what shows its effect.
const CASES: &[(&str, fn())] = &[
    ("host", texts::host),
    ("domain", texts::domain),
    ("mount", texts::mount),
    ("resolve", frames::resolve),
    ("bind", frames::bind),
    ("auto_add", times::auto_add),
    ("do_crc", frames::do_crc),
    ("enforce_crc", frames::enforce_crc),
    ("mapany", access::mapany),
    ("maproot", access::maproot),
    ("allow", access::allow),
    ("mtu_en", frames::mtu_en),
    ("periodic_ticks", times::periodic_ticks),
    ("tx_ticks", times::tx_ticks),
    ("tx_retries", times::tx_retries),
    ("res_ticks", times::res_ticks),
    ("res_retries", times::res_retries),
    ("conn_est_timeout", times::conn_est_timeout),
    ("conn_est_retries", times::conn_est_retries),
    ("conn_up_idle", times::conn_up_idle),
    ("conn_up_retries", times::conn_up_retries),
    ("no_ack", frames::no_ack),
    ("slow_mode", times::slow_mode),
    ("probe_no_l4_time", times::probe_no_l4_time),
    ("max_num_l4s", frames::max_num_l4s),
    ("max_tx_bufs", frames::max_tx_bufs),
    ("vtag", frames::vtag),
    ("export", texts::export),
    ("symlinks", texts::symlinks),
    ("cache", texts::cache),
    ("qos_verbose", texts::qos_verbose),
    ("verbose", texts::verbose),
    ("no_slog", texts::no_slog),
    ("qos_per_pri", texts::qos_per_pri),
    ("qos_tx_pri", texts::qos_tx_pri),
    ("ret_drvr_rx_buf", texts::ret_drvr_rx_buf),
];

#[test]
fn the_table_names_every_option() {
    let mut known: Vec<&str> = crate::options::OPTIONS.iter().map(io_pkt_sdk::Opt::name).collect();
    let mut tested: Vec<&str> = CASES.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    tested.sort_unstable();
    assert_eq!(known, tested);
}

#[test]
fn every_option_has_its_effect() {
    let failed: Vec<&str> = CASES
        .iter()
        .filter(|(name, case)| {
            let outcome = std::thread::Builder::new().name((*name).to_owned()).spawn(case);
            outcome.unwrap().join().is_err()
        })
        .map(|(name, _)| *name)
        .collect();
    assert_eq!(failed, [""; 0], "what went wrong stands above, under the name of the option");
}
