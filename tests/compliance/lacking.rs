//! What we lack, by case, with the reason.

/// Case and reason.
pub const LACKING: &[(&str, &str)] = &[
    (
        "crypto::host_keys_are_announced",
        "the library sends no global request of ours (docs/gateway.md)",
    ),
    (
        "streams::a_reader_that_leaves_ends_the_command",
        "the client says so with eow@openssh.com, to OpenSSH's server alone (docs/gateway.md)",
    ),
];
