//! What we lack, by case, with the reason.

/// Case and reason.
pub const LACKING: &[(&str, &str)] = &[
    ("agent_and_x11::x11", X11),
    ("agent_and_x11::x11_variables_and_what_is_left", X11),
    ("agent_and_x11::x11_on_a_terminal", X11),
    ("agent_and_x11::two_displays_at_once", X11),
    (
        "crypto::host_keys_are_announced",
        "the library sends no global request of ours (docs/gateway.md)",
    ),
    (
        "streams::a_reader_that_leaves_ends_the_command",
        "the client says so with eow@openssh.com, to OpenSSH's server alone (docs/gateway.md)",
    ),
];

const X11: &str = "X11 is not forwarded yet";
