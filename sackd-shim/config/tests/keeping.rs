//! Keeping the configuration: orders, missed pushes, a second copy, back-off, and what is told of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod scripted;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use scripted::{Answer, Config, controller, free_port, good_push, listener, push, wait_for};
use slurm_wire::return_code::ReturnCode;

const PATIENCE: Duration = Duration::from_secs(30);

fn numbered(n: usize) -> Answer {
    let text = format!("ClusterName=lab\n#{n}\n");
    Answer::files(&[("slurm.conf", Some(&text))])
}

#[test]
fn an_order_fetches_and_a_missed_push_is_noticed() {
    let (listener, address) = listener();
    let mut n = 0;
    let requests = controller(listener, move |_| {
        n += 1;
        numbered(n)
    });
    let port = free_port().to_string();
    let mut config = Config::start(&["--port", &port], &[address]);
    requests.recv_timeout(PATIENCE).unwrap();
    wait_for("the report", || config.report()["last_fetch"].is_i64());
    let report = config.report();
    assert_eq!(
        (&report["registered"], &report["pushes_missed"]),
        (&true.into(), &0.into())
    );
    assert_eq!(report["port"].to_string(), port);
    assert_eq!(report["controller"], address.to_string());
    config.order();
    requests.recv_timeout(PATIENCE).unwrap();
    wait_for("the second", || {
        config
            .file("slurm.conf")
            .is_some_and(|text| text.contains("#2"))
    });
    wait_for("the note", || config.report()["pushes_missed"] == 1);
    assert!(config.log().contains("push.missed"));
}

/// A storm of orders (SIGHUP) does not become one of requests to the controller.
#[test]
fn many_orders_are_one_fetch() {
    const ORDERS: usize = 200;
    let (listener, address) = listener();
    let (go, gate) = std::sync::mpsc::channel();
    let mut n = 0;
    let requests = controller(listener, move |_| {
        n += 1;
        if n == 1 {
            gate.recv().unwrap();
        }
        numbered(n)
    });
    let mut config = Config::start(&["--disable-reconfig"], &[address]);
    // While the first is on its way.
    config.waits_for_log("sandbox");
    for _ in 0..ORDERS {
        config.order();
    }
    go.send(()).unwrap();
    let asked = |config: &Config| config.log().matches("fetch.asked").count();
    wait_for("a fetch that was asked for", || {
        asked(&config) > 0 || {
            config
                .file("slurm.conf")
                .is_some_and(|text| text.contains("#2"))
        }
    });
    config.order();
    wait_for("the last order's", || {
        let all = config.report()["changes"].as_u64();
        all.is_some_and(|all| all >= 2)
    });
    assert!(requests.try_iter().count() < ORDERS / 4);
}

#[test]
fn a_damaged_push_is_made_up_for() {
    let (listener, address) = listener();
    let mut n = 0;
    let requests = controller(listener, move |_| {
        n += 1;
        numbered(n)
    });
    let port = free_port();
    let config = Config::start(&["--port", &port.to_string()], &[address]);
    requests.recv_timeout(PATIENCE).unwrap();
    config.waits_for_log("push.listening");
    let (message, _) = good_push(&[("slurm.conf", Some("ClusterName=lab\n"))]);
    let frame = message.encode();
    let mut cut = TcpStream::connect(("127.0.0.1", port)).unwrap();
    cut.write_all(&frame[..frame.len() / 2]).unwrap();
    drop(cut);
    // Far before the five minutes of the next refresh.
    requests.recv_timeout(PATIENCE).unwrap();
    wait_for("the count", || config.report()["pushes_refused"] == 1);
}

/// Whatever the kernel makes of the signal of a parent's death.
#[test]
fn the_end_of_the_orders_is_the_end() {
    let (listener, address) = listener();
    let requests = controller(listener, |_| numbered(1));
    let mut config = Config::start(&["--disable-reconfig"], &[address]);
    requests.recv_timeout(PATIENCE).unwrap();
    assert!(!config.has_ended());
    config.end_orders();
    wait_for("its end", || config.has_ended());
    assert!(!config.log().contains("config.restarting"));
}

/// What "status" and "check" tell is the reason, not that there is one.
#[test]
fn the_report_says_why_nothing_was_installed() {
    let (listener, address) = listener();
    let _requests = controller(listener, |_| {
        Answer::files(&[
            ("slurm.conf", Some("ClusterName=lab\n")),
            ("../evil.conf", Some("x")),
        ])
    });
    let config = Config::start(&["--disable-reconfig"], &[address]);
    wait_for("the reason", || {
        let report = config.report();
        let error = report["last_error"].as_str();
        error.is_some_and(|error| error.contains("../evil.conf"))
    });
}

#[test]
fn a_busy_controller_is_given_time() {
    let (listener, address) = listener();
    let mut n = 0;
    let requests = controller(listener, move |_| {
        n += 1;
        if n < 3 {
            Answer::code(ReturnCode::BACK_OFF)
        } else {
            numbered(n)
        }
    });
    let config = Config::start(&["--disable-reconfig"], &[address]);
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    assert_eq!(requests.try_iter().count(), 3);
    assert!(!config.log().contains("fetch.failed"));
}

#[test]
fn the_last_good_configuration_outlives_the_run_directory() {
    let (closed, address) = listener();
    let (first, first_address) = listener();
    let _requests = controller(first, |_| {
        Answer::files(&[
            ("slurm.conf", Some("ClusterName=lab\n")),
            ("old.conf", Some("x")),
        ])
    });
    let arguments = ["--disable-reconfig", "--state-dir", "@/state"];
    let config = Config::start(&arguments, &[first_address]);
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    let state = config.folder.path().join("state/conf/old.conf");
    wait_for("the copy", || state.exists());
    // After a reboot: another run directory, the same state, no controller.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("state/conf")).unwrap();
    for name in ["slurm.conf", "old.conf"] {
        let from = config.folder.path().join("state/conf").join(name);
        fs::copy(from, folder.path().join("state/conf").join(name)).unwrap();
    }
    drop((config, closed));
    let config = Config::start_in(folder, &arguments, &[address]);
    wait_for("the restored one", || {
        config.names_or_none() == ["old.conf", "slurm.conf"]
    });
    config.waits_for_log("fetch.failed");
    assert_eq!(
        config.file("slurm.conf").as_deref(),
        Some("ClusterName=lab\n")
    );
}

#[test]
fn metrics_of_the_signer_are_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let signer = UnixListener::bind(folder.path().join("status.socket")).unwrap();
    std::thread::spawn(move || {
        for stream in signer.incoming() {
            let mut stream = stream.unwrap();
            let mut head = [0; 256];
            let n = stream.read(&mut head).unwrap();
            assert!(head[..n].starts_with(b"GET /metrics "));
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx\n";
            stream.write_all(answer).unwrap();
        }
    });
    let address = format!("127.0.0.1:{}", free_port());
    let config = Config::start_in(folder, &["--no-fetch", "--metrics-listen", &address], &[]);
    config.waits_for_log("metrics.listening");
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        // One after the other, the silent ones below would take longer.
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/metrics").ends_with("\r\n\r\nx\n"));
    // Readers that say nothing keep nobody out.
    let silent: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(&address).unwrap())
        .collect();
    assert!(get("/metrics").ends_with("\r\n\r\nx\n"));
    drop(silent);
    assert!(get("/status").starts_with("HTTP/1.1 404"));
    fs::remove_file(config.folder.path().join("status.socket")).unwrap();
    assert!(get("/metrics").starts_with("HTTP/1.1 503"));
}

#[test]
fn another_user_than_ours_may_be_slurm_user() {
    let (listener, address) = listener();
    let _requests = controller(listener, |_| numbered(1));
    let port = free_port();
    let arguments = ["--port", &port.to_string(), "--slurm-user", "4711"];
    let config = Config::start(&arguments, &[address]);
    config.waits_for_log("push.listening");
    wait_for("slurm.conf", || config.file("slurm.conf").is_some());
    let (message, _) = good_push(&[("slurm.conf", Some("ClusterName=lab\n#own\n"))]);
    push(port, &message);
    config.waits_for_log("not from SlurmUser");
    let (message, claims) = good_push(&[("slurm.conf", Some("ClusterName=lab\n#theirs\n"))]);
    let claims = slurm_auth::Claims {
        uid: 4711,
        ..claims
    };
    let token = slurm_auth::sign(&claims, &scripted::keys(scripted::KEY)).unwrap();
    let credential = Some(slurm_wire::rpc::Credential::Slurm(token));
    push(
        port,
        &slurm_wire::rpc::Message {
            credential,
            ..message
        },
    );
    wait_for("their push", || {
        config
            .file("slurm.conf")
            .is_some_and(|text| text.contains("#theirs"))
    });
}
