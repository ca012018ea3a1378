//! `sackd-shim-config ping`: the network half of `sackd-shim check`. The token comes in on
//! standard input; one line for each controller goes out.

use std::io::Read;
use std::time::Instant;

use service::{Exit, Failure};
use slurm_wire::ProtocolVersion;
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};

use crate::address::Controller;
use crate::error::ConfigError;
use crate::exchange::exchange;

/// Longest token that is read.
const LIMIT: u64 = 64 * 1024;

/// Pings each controller.
///
/// # Errors
/// [`Failure`] if the token cannot be read or a controller did not answer well.
pub fn run(servers: &[String]) -> Result<(), Failure> {
    let mut token = String::new();
    std::io::stdin().take(LIMIT).read_to_string(&mut token)?;
    let mut failed = false;
    for server in servers {
        let began = Instant::now();
        match Controller::parse(server).and_then(|controller| ping(&controller, &token)) {
            Ok(version) => {
                let ms = began.elapsed().as_millis();
                println!("ok controller '{server}' answers, protocol {version} ({ms} ms)");
            }
            Err(error) => {
                failed = true;
                println!(
                    "problem controller '{server}': {}",
                    service::exit::chain(&error)
                );
            }
        }
    }
    if failed {
        Err(Failure::new(Exit::Failure, "a controller did not answer"))
    } else {
        Ok(())
    }
}

fn ping(controller: &Controller, token: &str) -> Result<ProtocolVersion, ConfigError> {
    for version in ProtocolVersion::NEWEST_FIRST {
        let request = Message {
            version,
            flags: 0,
            message_type: MessageType::PING,
            credential: Some(Credential::Slurm(token.trim().to_owned())),
            body: vec![],
        };
        let reply = match exchange(controller, &request) {
            Err(ConfigError::Version { .. }) => continue,
            other => other?,
        };
        let code =
            ReturnCode::decode(&reply.body).map_err(ConfigError::wire(controller.name.clone()))?;
        match code {
            ReturnCode::SUCCESS => return Ok(version),
            ReturnCode::AUTHENTICATION | ReturnCode::VERSION => {}
            code => {
                return Err(ConfigError::Code {
                    server: controller.name.clone(),
                    code,
                });
            }
        }
    }
    Err(ConfigError::Refused(controller.name.clone()))
}
