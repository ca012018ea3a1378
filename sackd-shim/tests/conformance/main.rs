//! What clients and slurmctld rely on, case by case: against the real sackd of both versions first, then
//! ours. The list is that of the protocol's fact sheet, section 7.1 (1.2, 1.4: those sections); what another suite holds is named, not
//! run again. Root, and images with `sackd` in them; what is missing is skipped by name.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod choices;
mod client;
mod configless;
#[allow(dead_code, reason = "the other room's tests use the rest")]
#[path = "../../config/tests/scripted/controller.rs"]
mod controller;
mod crowds;
mod elsewhere;
mod identities;
mod keys;
mod requests;
mod server;
mod tokens;
mod verdicts;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};

use server::{Kind, Peers};

/// Set in the process that runs the cases.
const INSIDE: &str = "CONFORMANCE_INSIDE";

/// For which servers a case holds.
#[derive(Clone, Copy)]
enum For {
    /// For all.
    All,
    /// Not for the real one: why.
    Ours(&'static str),
    /// Not for sackd 24.11: why.
    Not2411(&'static str),
}

/// A behaviour: its place in the list, its name, and what must hold.
struct Case {
    number: &'static str,
    name: &'static str,
    holds: For,
    run: fn(&Peers, Kind),
}

const fn case(number: &'static str, name: &'static str, holds: For, run: fn(&Peers, Kind)) -> Case {
    Case {
        number,
        name,
        holds,
        run,
    }
}

const DIES: For = For::Ours("the real one dies of it with -D");
const STARVES: For = For::Ours("150 idle connections stop the real one");

const CASES: &[Case] = &[
    case(
        "1",
        "captured_requests_are_answered_alike",
        For::All,
        requests::captured,
    ),
    case(
        "1.2",
        "which_configuration_counts",
        For::All,
        choices::sources,
    ),
    case("1.4", "which_key_counts", For::All, choices::keys),
    case("1.4", "floating_times", For::All, choices::floating_times),
    case("2", "byte_by_byte", For::All, requests::byte_by_byte),
    case("2", "every_split", For::All, requests::every_split),
    case(
        "2",
        "every_truncation",
        For::All,
        requests::every_truncation,
    ),
    case(
        "2",
        "half_close_after_the_request",
        For::All,
        requests::half_close,
    ),
    case("2", "trailing_bytes", For::All, requests::trailing),
    case(
        "2",
        "a_second_request_is_not_answered",
        For::All,
        requests::second,
    ),
    case("2", "any_protocol_version", For::All, requests::versions),
    case("3", "a_length_of_nothing", For::All, requests::no_length),
    case(
        "3",
        "a_length_beyond_the_end_and_close",
        For::All,
        requests::long_and_closed,
    ),
    case(
        "3",
        "a_length_beyond_the_end_and_silence",
        For::All,
        requests::long_and_silent,
    ),
    case("3", "unknown_opcodes", For::All, requests::opcodes),
    case(
        "3",
        "a_payload_beyond_the_end",
        For::All,
        requests::payload_beyond,
    ),
    case("4", "good_and_replayed", For::All, verdicts::good),
    case("4", "bad_signatures", For::All, verdicts::signatures),
    case("4", "expired_and_at_the_edge", For::All, verdicts::expiry),
    case("4", "for_another_reader", For::All, verdicts::readers),
    case("4", "other_contexts", For::All, verdicts::contexts),
    case(
        "4",
        "claims_that_are_missing_or_wrong",
        For::All,
        verdicts::claims,
    ),
    case("4", "headers", For::All, verdicts::headers),
    case(
        "4",
        "payloads_that_are_not_base64",
        For::Not2411("it takes them"),
        verdicts::payloads,
    ),
    case("4", "wrong_and_expired_kids", For::All, verdicts::kids),
    case(
        "5",
        "client_ids_of_accounts",
        For::All,
        identities::accounts,
    ),
    case(
        "5",
        "no_client_ids_unless_asked_for",
        For::All,
        identities::not_asked_for,
    ),
    case("7", "fetch_and_register", For::All, configless::fetch),
    case(
        "7",
        "slurm_users_push_is_taken",
        For::All,
        configless::taken,
    ),
    case(
        "7",
        "pushes_that_are_refused",
        For::All,
        configless::refused,
    ),
    case(
        "7",
        "a_push_without_a_hash",
        For::All,
        configless::without_a_hash,
    ),
    case(
        "7",
        "a_name_that_leads_elsewhere_pushed",
        For::All,
        configless::names_pushed,
    ),
    case(
        "7",
        "a_name_that_leads_elsewhere_fetched",
        For::All,
        configless::names_fetched,
    ),
    case("7", "stale_files", For::All, configless::stale),
    case("7", "a_controller_down_then_up", For::All, configless::late),
    case("7", "a_standby_reply", For::All, configless::standby),
    case("7", "a_busy_controller", For::All, configless::busy),
    case(
        "7",
        "registered_again_after_a_broken_push",
        For::All,
        configless::registered_again,
    ),
    case("8", "two_hundred_idle_connections", STARVES, crowds::idle),
    case(
        "8",
        "a_megabyte",
        For::Not2411("it crashes"),
        crowds::megabyte,
    ),
    case("8", "a_flood_of_one_user", For::All, crowds::flood),
    case("9", "a_new_key", For::All, keys::new_key),
    case("9", "bad_files_leave_the_keys", DIES, keys::bad_files),
    case(
        "9",
        "an_expired_default_does_not_sign",
        For::Ours("the real one signs with it"),
        keys::expired_default,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, socket] = arguments.as_slice()
        && word == crowds::FLOOD
    {
        crowds::ask_for_ever(socket.as_ref());
    }
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    elsewhere::check();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: conformance: it needs root to be several users\n");
        println!("test result: ok. 0 passed; 0 failed;");
        return ExitCode::SUCCESS;
    }
    if std::env::var_os(INSIDE).is_none() {
        // In a mount namespace: what is mounted for a case goes with it.
        let mut inside = Command::new("unshare");
        inside.args(["--mount", "--propagation", "private"]);
        inside.arg(std::env::current_exe().unwrap()).args(arguments);
        let status = inside.env(INSIDE, "1").status().unwrap();
        return ExitCode::from(u8::from(!status.success()));
    }
    let peers = Peers::find();
    let (mut passed, mut failed) = (0, 0);
    for case in CASES {
        for kind in [Kind::Theirs("24.11"), Kind::Theirs("26.05"), Kind::Ours] {
            let name = format!("{}::{} ({kind})", case.number, case.name);
            let wanted = filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
            if !wanted || !peers.has(kind) || !case.holds.fits(kind) {
                continue;
            }
            if case.number == "7" && kind == Kind::Ours && !configless::can_run() {
                println!("skipped: {name}: 'sackd-shim-config' is not built");
                continue;
            }
            let ended = catch_unwind(AssertUnwindSafe(|| (case.run)(&peers, kind)));
            // A case that failed may have been somebody else.
            client::be_root();
            let word = if ended.is_ok() { "ok" } else { "FAILED" };
            println!("test {name} ... {word}");
            if ended.is_ok() {
                passed += 1
            } else {
                failed += 1
            }
        }
    }
    println!(
        "\ntest result: {} {passed} passed; {failed} failed;",
        if failed == 0 { "ok." } else { "FAILED." }
    );
    ExitCode::from(u8::from(failed > 0))
}

impl For {
    fn fits(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::Ours(_why) => kind == Kind::Ours,
            Self::Not2411(_why) => kind != Kind::Theirs("24.11"),
        }
    }
}
