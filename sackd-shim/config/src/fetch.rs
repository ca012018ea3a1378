//! Asking the controllers for the configuration: in order, newest protocol version first, until
//! one gives it.

use std::collections::VecDeque;
use std::time::Duration;

use slurm_wire::ProtocolVersion;
use slurm_wire::configuration::{ConfigRequest, Configuration, Wanted};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};

use crate::address::Controller;
use crate::error::ConfigError;
use crate::exchange::exchange;
use crate::sack::Signer;
use crate::srv::Resolver;

/// How often one controller may ask for patience before the next one is tried.
const BACK_OFFS: u32 = 5;

/// Longest wait that one controller may ask for.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);

/// Where the controllers' names come from.
#[derive(Debug, Clone)]
pub enum Controllers {
    /// They were given.
    Named(Vec<Controller>),
    /// DNS is asked, each time anew.
    Discovered,
}

/// Who is asked, and how the last one was asked with success.
#[derive(Debug)]
pub struct Fetcher {
    source: Controllers,
    controllers: Vec<Controller>,
    answered: Option<String>,
    signer: Signer,
    request: ConfigRequest,
    version: Option<ProtocolVersion>,
    /// Where the search for the version starts, among the newest first.
    first: usize,
}

impl Fetcher {
    /// Asks these controllers, with tokens of this signer; `port` is where pushes shall go, 0
    /// for SlurmdPort.
    pub fn new(source: Controllers, signer: Signer, register: bool, port: u16) -> Self {
        let wanted = if register {
            Wanted::ClientAndRegister
        } else {
            Wanted::Client
        };
        let request = ConfigRequest { wanted, port };
        Self {
            source,
            controllers: Vec::new(),
            answered: None,
            signer,
            request,
            version: None,
            first: 0,
        }
    }

    /// The version that the controller spoke, once one has answered.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.version
    }

    /// The controller that gave the last configuration.
    pub fn answered(&self) -> Option<&str> {
        self.answered.as_deref()
    }

    /// Asks until one controller gives the configuration. Each that does not is logged.
    ///
    /// # Errors
    /// [`ConfigError::NoServer`]; the error of a lone controller as it is; those of the resolver.
    pub fn fetch(&mut self) -> Result<Configuration, ConfigError> {
        self.controllers = match &self.source {
            Controllers::Named(list) => list.clone(),
            Controllers::Discovered => Resolver::of_system().controllers()?,
        };
        let mut last = ConfigError::NoServer;
        for at in 0..self.controllers.len() {
            match self.ask_in_any_version(at) {
                Ok(configuration) => return Ok(configuration),
                Err(error) if self.controllers.len() == 1 => last = error,
                Err(error) => {
                    tracing::warn!(
                        event = "fetch.next",
                        controller = self.controllers[at].name,
                        error = service::exit::chain(&error)
                    );
                }
            }
        }
        Err(last)
    }

    /// The version that worked last time is tried first; a controller may have been upgraded or
    /// replaced by an older one since. One that names its own version is asked in that one next.
    fn ask_in_any_version(&mut self, at: usize) -> Result<Configuration, ConfigError> {
        let controller = self.controllers[at].clone();
        let mut versions = self.versions();
        while let Some(version) = versions.pop_front() {
            match self.ask(&controller, version) {
                Ok(configuration) => {
                    if self.version.replace(version) != Some(version) {
                        tracing::info!(
                            event = "fetch.version",
                            controller = controller.name,
                            %version
                        );
                    }
                    self.answered = Some(controller.name);
                    return Ok(configuration);
                }
                Err(ConfigError::Version { speaks, .. }) => {
                    let named = versions.iter().position(|other| Some(*other) == speaks);
                    if let Some(version) = named.and_then(|at| versions.remove(at)) {
                        versions.push_front(version);
                    }
                }
                Err(error) => {
                    self.skip_after(&error, version);
                    return Err(error);
                }
            }
        }
        Err(ConfigError::Refused(controller.name))
    }

    fn versions(&self) -> VecDeque<ProtocolVersion> {
        let mut all = ProtocolVersion::NEWEST_FIRST;
        all.rotate_left(self.first);
        let others = all
            .into_iter()
            .filter(|version| Some(*version) != self.version);
        self.version.into_iter().chain(others).collect()
    }

    /// A controller 24.11 that refuses a version looks up the name of who asked before it says
    /// so, and with a slow DNS that outlasts our patience. Next time the search starts with what
    /// every controller from 24.11 to 26.05 speaks, and after that with the next version.
    fn skip_after(&mut self, error: &ConfigError, version: ProtocolVersion) {
        let all = ProtocolVersion::NEWEST_FIRST;
        let place = |wanted| all.iter().position(|other| *other == wanted);
        if let ConfigError::System { source, .. } = error
            && source.kind() == std::io::ErrorKind::TimedOut
            && let (Some(at), Some(common)) = (place(version), place(ProtocolVersion::V24_11))
        {
            self.first = if at == 0 {
                common
            } else {
                (at + 1) % all.len()
            };
        }
    }

    fn ask(
        &self,
        controller: &Controller,
        version: ProtocolVersion,
    ) -> Result<Configuration, ConfigError> {
        let body = self.request.encode(version);
        for count in 1..=BACK_OFFS {
            let message_type = MessageType::REQUEST_CONFIG;
            let token = self.signer.token(version, message_type, &body)?;
            let request = Message {
                version,
                flags: 0,
                message_type,
                credential: Some(Credential::Slurm(token)),
                body: body.clone(),
            };
            let reply = exchange(controller, &request)?;
            let server = || controller.name.clone();
            match reply.message_type {
                MessageType::RESPONSE_CONFIG => {
                    return Configuration::decode(&reply.body).map_err(ConfigError::wire(server()));
                }
                MessageType::RETURN_CODE => {
                    let code =
                        ReturnCode::decode(&reply.body).map_err(ConfigError::wire(server()))?;
                    // Controllers up to 24.11 say "authentication" of versions they do not speak,
                    // in the version that they do.
                    if code == ReturnCode::AUTHENTICATION || code == ReturnCode::VERSION {
                        let speaks = Some(reply.version);
                        return Err(ConfigError::Version {
                            server: server(),
                            speaks,
                        });
                    }
                    if code != ReturnCode::BACK_OFF {
                        return Err(ConfigError::Code {
                            server: server(),
                            code,
                        });
                    }
                    // As Slurm's own clients: a second more each time.
                    let wait = Duration::from_secs(u64::from(count));
                    std::thread::sleep(wait.min(LONGEST_BACK_OFF));
                }
                MessageType(other) => {
                    let source = slurm_wire::WireError::Value {
                        field: "message type",
                        value: u64::from(other),
                    };
                    return Err(ConfigError::Wire {
                        peer: server(),
                        source,
                    });
                }
            }
        }
        Err(ConfigError::Code {
            server: controller.name.clone(),
            code: ReturnCode::BACK_OFF,
        })
    }
}
