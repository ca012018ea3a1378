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
use crate::srv::Resolver;

/// Longest text of tokens that is read.
const LIMIT: u64 = 64 * 1024;

/// A token and for how many seconds it is good from now on.
type Timed = (i64, String);

/// Pings each controller with the first token, and compares its clock with ours by the others: a
/// token is refused from the second on at which it expires over there.
///
/// # Errors
/// [`Failure`] if the tokens cannot be read or a controller did not answer well.
pub fn run(servers: &[String]) -> Result<(), Failure> {
    let mut text = String::new();
    std::io::stdin().take(LIMIT).read_to_string(&mut text)?;
    let timed = |line: &str| -> Option<Timed> {
        let (seconds, token) = line.split_once(' ')?;
        Some((seconds.parse().ok()?, token.trim().to_owned()))
    };
    let mut tokens: Vec<Timed> = text.lines().filter_map(timed).collect();
    if tokens.is_empty() {
        return Err(Failure::new(Exit::Usage, "standard input has no token"));
    }
    let (_, good) = tokens.remove(0);
    let began = Instant::now();
    let mut controllers = Vec::new();
    for server in servers {
        controllers.push(Controller::parse(server)?);
    }
    if controllers.is_empty() {
        match Resolver::of_system().controllers() {
            Ok(found) => controllers = found,
            Err(error) => println!(
                "problem {} | name them by conf-server, or add SRV records",
                service::exit::chain(&error)
            ),
        }
    }
    let mut failed = controllers.is_empty();
    for controller in &controllers {
        let name = &controller.name;
        let asked = Instant::now();
        match ping(controller, &good, &ProtocolVersion::NEWEST_FIRST) {
            Ok(version) => {
                let ms = asked.elapsed().as_millis();
                println!("ok controller '{name}' takes our token, protocol {version} ({ms} ms)");
                println!("{}", clock(controller, &tokens, version, began));
            }
            Err(ConfigError::Refused(_)) => {
                failed = true;
                // Too late over there for a token of a minute, or another key.
                let offset = range(controller, &tokens, &ProtocolVersion::NEWEST_FIRST);
                match offset {
                    Some((Some(least), Some(_))) if least >= 60 => println!(
                        "problem controller '{name}' refuses our token: its clock is more than \
                         {least} s ahead of ours | set both clocks by one NTP server"
                    ),
                    _ => println!(
                        "problem controller '{name}' refuses our token in every protocol version \
                         | compare slurm.key here and there, by sha256sum"
                    ),
                }
            }
            Err(ConfigError::Code { code, .. }) if code.is_standby() => {
                println!("ok controller '{name}' is a standby");
            }
            Err(error) => {
                failed = true;
                println!(
                    "problem controller '{name}': {} | is slurmctld up, the port open, the name right?",
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

/// One line about the controller's clock.
fn clock(
    controller: &Controller,
    tokens: &[Timed],
    version: ProtocolVersion,
    began: Instant,
) -> String {
    let name = &controller.name;
    let found = range(controller, tokens, &[version]);
    // The tokens were made before we started: what has passed since is no offset.
    let slack = i64::try_from(began.elapsed().as_secs()).unwrap_or(i64::MAX) + 2;
    match found {
        Some((Some(least), Some(most))) if least >= -slack && most <= slack => {
            format!("ok the clock of controller '{name}' agrees with ours")
        }
        Some((Some(least), Some(most))) => {
            format!("clock the clock of controller '{name}' is {least} to {most} s ahead of ours")
        }
        Some((None, Some(most))) => {
            format!(
                "clock the clock of controller '{name}' is more than {} s behind ours",
                -most
            )
        }
        Some((Some(least), None)) => {
            format!("clock the clock of controller '{name}' is more than {least} s ahead of ours")
        }
        _ => format!("problem the clock of controller '{name}' cannot be compared | ask again"),
    }
}

/// Between which two of the tokens' times the controller's clock is: the last that is refused and
/// the first that is taken.
fn range(
    controller: &Controller,
    tokens: &[Timed],
    versions: &[ProtocolVersion],
) -> Option<(Option<i64>, Option<i64>)> {
    let (mut refused, mut taken) = (None, None);
    let (mut low, mut high) = (0, tokens.len());
    // The middle first: as a rule the clocks agree, and each refusal is a line in slurmctld's log.
    while low < high {
        let middle = low + (high - low) / 2;
        let (seconds, token) = tokens.get(middle)?;
        match ping(controller, token, versions) {
            Ok(_) => {
                taken = Some(*seconds);
                high = middle;
            }
            Err(ConfigError::Refused(_)) => {
                refused = Some(*seconds);
                low = middle + 1;
            }
            Err(_) => return None,
        }
    }
    Some((refused, taken))
}

fn ping(
    controller: &Controller,
    token: &str,
    versions: &[ProtocolVersion],
) -> Result<ProtocolVersion, ConfigError> {
    for version in versions.iter().copied() {
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
