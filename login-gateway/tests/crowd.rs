//! Strangers on the SSH port: garbage, silence, many at once. Nothing of them stays.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;

use support::{Gateway, possible, until};

fn descriptors(gateway: &Gateway) -> usize {
    let folder = format!("/proc/{}/fd", gateway.child.id());
    std::fs::read_dir(folder).unwrap().count()
}

#[test]
fn strangers_leave_nothing_behind() {
    if !possible("strangers_leave_nothing_behind") {
        return;
    }
    let gateway = Gateway::start("warm = 2\nmax-startups = 20");
    gateway.says("true");
    let quiet = || {
        let monitors = gateway.children("login-gateway-monitor").len();
        monitors == 2 && gateway.metric("startups ") == 0 && gateway.metric("logins ") == 0
    };
    until("only the warm ones are left", quiet);
    let before = descriptors(&gateway);

    let mut login = gateway.stays();
    let sent: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff\xff\xff\xff",
        b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14 cut off",
        &[0xa5; 4096],
    ];
    for _ in 0..8 {
        let crowd: Vec<_> = sent
            .iter()
            .map(|bytes| {
                let mut stranger = gateway.connect().unwrap();
                let _ = stranger.write_all(bytes);
                stranger
            })
            .collect();
        login.lives();
        drop(crowd);
    }
    // Sixty at once are more than may be unfinished; who has an account gets in all the same soon.
    let crowd: Vec<_> = (0..60).map(|_| gateway.connect().unwrap()).collect();
    until("some were refused", || {
        gateway.metric("refused_total ") >= 30
    });
    login.lives();
    drop(crowd);
    until("there is room", || gateway.metric("startups ") == 0);
    assert_eq!(gateway.says("echo in"), "in\n");

    login.leave();
    until("only the warm ones are left", quiet);
    until("no descriptor is left", || descriptors(&gateway) == before);
    assert_eq!(gateway.children("login-gateway-accept").len(), 1);
}
