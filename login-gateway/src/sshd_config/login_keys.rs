//! Keys of one login, above all blocks or in one.

use gateway_wire::Settings;
use gateway_wire::crypto::CryptoPolicy;
use toml::{Table, Value};

use super::algorithms;
use super::authentication::Ways;
use super::blocks::{Block, Line};
use super::keywords;
use super::notes::{Kind, Note, Notes};
use super::service::{duration, text};

/// Keywords that some function of this file, or one of login.rs and authentication.rs, has read.
const KNOWN: &[&str] = &[
    "acceptenv",
    "allowagentforwarding",
    "allowgroups",
    "allowstreamlocalforwarding",
    "allowtcpforwarding",
    "allowusers",
    "authenticationmethods",
    "authorizedkeyscommand",
    "authorizedkeyscommanduser",
    "authorizedkeysfile",
    "authorizedprincipalscommand",
    "authorizedprincipalscommanduser",
    "authorizedprincipalsfile",
    "casignaturealgorithms",
    "channeltimeout",
    "chrootdirectory",
    "denygroups",
    "denyusers",
    "disableforwarding",
    "exposeauthinfo",
    "forcecommand",
    "gatewayports",
    "kbdinteractiveauthentication",
    "maxsessions",
    "passwordauthentication",
    "permitlisten",
    "permitopen",
    "permittty",
    "permituserenvironment",
    "permituserrc",
    "printlastlog",
    "printmotd",
    "pubkeyacceptedalgorithms",
    "pubkeyauthentication",
    "pubkeyauthoptions",
    "refuseconnection",
    "requiredrsasize",
    "revokedkeys",
    "setenv",
    "subsystem",
    "trustedusercakeys",
    "unusedconnectiontimeout",
    "x11forwarding",
];

/// The keys of `own`, or of what stands above all blocks.
pub fn of(own: Option<&Block>, global: &Block, notes: &mut Vec<Note>) -> Table {
    let block = own.unwrap_or(global);
    if own.is_none() {
        let known: Vec<&str> = KNOWN.iter().chain(keywords::SERVICE).copied().collect();
        keywords::notes(block, &known, notes);
    } else {
        keywords::notes(block, KNOWN, notes);
    }
    let mut scope = Scope {
        block,
        global,
        top: own.is_none(),
        table: Table::new(),
        notes,
    };
    scope.authentication(own);
    scope.keys();
    scope.certificates();
    scope.forwarding();
    scope.environment();
    scope.timeouts();
    scope.programs();
    scope.closed();
    scope.table
}

struct Scope<'a> {
    block: &'a Block,
    global: &'a Block,
    /// Whether sshd's defaults are to be written down.
    top: bool,
    table: Table,
    notes: &'a mut Vec<Note>,
}

impl Scope<'_> {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.table.insert(key.into(), value.into());
    }

    fn note(&mut self, kind: Kind, line: &Line, text: impl Into<String>) {
        self.notes.note(kind, line, text);
    }

    /// The line that counts here: the block's, else the one above all blocks.
    fn effective(&self, keyword: &str) -> Option<&Line> {
        self.block.get(keyword).or_else(|| self.global.get(keyword))
    }

    /// Whether a key made of these keywords is to be written.
    fn says(&self, keywords: &[&str]) -> bool {
        self.top || keywords.iter().any(|k| self.block.get(k).is_some())
    }

    /// `yes` or `no`, sshd's `default` above all blocks if nothing is said.
    fn switch(&mut self, keyword: &str, key: &str, default: bool) {
        match self.block.get(keyword).cloned() {
            None if self.top => self.put(key, default),
            None => {}
            Some(line) => match line.yes() {
                Some(yes) => self.put(key, yes),
                None => {
                    self.put(key, default && !self.top);
                    let text = format!("'{}' was not understood", line.first());
                    self.note(Kind::LeftOut, &line, text);
                }
            },
        }
    }

    fn authentication(&mut self, own: Option<&Block>) {
        let ways = Ways {
            own,
            global: self.global,
        };
        if ways.touched() {
            match ways.methods(self.notes) {
                Some(methods) => self.put("authentication-methods", methods),
                None => {
                    if let Some(line) = self.effective("authenticationmethods").cloned() {
                        self.note(Kind::Closed, &line, "no way in that exists here is left");
                    }
                    if self.top {
                        // Lists of the allowed and blocks with ways of their own still count.
                        self.put("authentication-methods", Vec::<String>::new());
                    } else {
                        self.put("allow-login", false);
                    }
                }
            }
        }
        let preset = CryptoPolicy::default();
        for (keyword, key, known) in [
            (
                "pubkeyacceptedalgorithms",
                "public-key-algorithms",
                preset.signatures(),
            ),
            (
                "casignaturealgorithms",
                "ca-signature-algorithms",
                preset.authorities(),
            ),
        ] {
            let Some(line) = self.block.get(keyword).cloned() else {
                continue;
            };
            match algorithms::signatures(&line, &known, self.notes) {
                Some(names) => self.put(key, names),
                // In a block it puts aside what stands above.
                None if !self.top => self.put(key, known),
                None => {}
            }
        }
        if let Some(line) = self.block.get("requiredrsasize").cloned() {
            match line.first().parse::<u32>() {
                Ok(bits) => self.put("required-rsa-size", i64::from(bits)),
                Err(_) => self.note(Kind::LeftOut, &line, "no number"),
            }
        }
        if let Some(line) = self.block.get("pubkeyauthoptions") {
            let options: Vec<String> = line
                .arguments
                .iter()
                .flat_map(|a| a.split(','))
                .map(str::to_owned)
                .collect();
            for option in ["touch-required", "verify-required"] {
                self.put(option, options.iter().any(|o| o == option));
            }
        }
    }

    fn keys(&mut self) {
        let file = self.block.get("authorizedkeysfile").cloned();
        match file {
            None if self.top => self.put(
                "authorized-keys-files",
                vec![
                    ".ssh/authorized_keys".to_owned(),
                    ".ssh/authorized_keys2".to_owned(),
                ],
            ),
            None => {}
            Some(line) => {
                let files = self.paths(&line);
                self.put("authorized-keys-files", files);
            }
        }
        self.command_of_keys("authorizedkeyscommand", "authorized-keys-command");
        if let Some(line) = self.block.get("revokedkeys").cloned() {
            let files = self.paths(&line);
            self.put("revoked-keys", files);
        }
    }

    /// A program that says which keys or names are good, and the account that it runs as.
    fn command_of_keys(&mut self, keyword: &str, key: &str) {
        if let Some(line) = self.block.get(keyword) {
            let none = line.first().eq_ignore_ascii_case("none");
            let words = if none {
                Vec::new()
            } else {
                line.arguments.clone()
            };
            self.put(key, words);
        }
        if let Some(line) = self.block.get(&format!("{keyword}user")) {
            let none = line.first().eq_ignore_ascii_case("none");
            let user = if none { "" } else { line.first() };
            self.put(&format!("{key}-user"), user);
        }
    }

    /// Paths with %u and %h, `none` left out.
    fn paths(&mut self, line: &Line) -> Vec<String> {
        let mut paths = Vec::new();
        for path in line
            .arguments
            .iter()
            .filter(|p| !p.eq_ignore_ascii_case("none"))
        {
            let mut rest = path.as_str();
            let mut known = true;
            while let Some(at) = rest.find('%') {
                known &= rest[at + 1..].starts_with(['u', 'h', '%']);
                rest = rest.get(at + 2..).unwrap_or("");
            }
            if known {
                paths.push(path.clone());
            } else {
                let text = format!("'{path}': only %u and %h are known here");
                self.notes.note(Kind::LeftOut, line, text);
            }
        }
        paths
    }

    fn certificates(&mut self) {
        let keywords = [
            "trustedusercakeys",
            "authorizedprincipalsfile",
            "authorizedprincipalscommand",
            "authorizedprincipalscommanduser",
        ];
        if self.top && keywords.iter().all(|k| self.block.get(k).is_none()) || !self.says(&keywords)
        {
            return;
        }
        if let Some(line) = self.block.get("trustedusercakeys").cloned() {
            let files = self.paths(&line);
            self.put("trusted-user-ca-keys", files);
        }
        if let Some(line) = self.block.get("authorizedprincipalsfile").cloned() {
            let files = self.paths(&line);
            self.put("authorized-principals-files", files);
        }
        self.command_of_keys(
            "authorizedprincipalscommand",
            "authorized-principals-command",
        );
        // With a file or a command sshd looks at the user's name no more.
        let listed = ["authorizedprincipalsfile", "authorizedprincipalscommand"];
        if listed.iter().any(|k| self.block.get(k).is_some()) {
            let none = |line: &Line| line.first().eq_ignore_ascii_case("none");
            let by_name = listed.iter().all(|k| self.effective(k).is_none_or(none));
            let names: Vec<String> = by_name.then(|| "%u".to_owned()).into_iter().collect();
            self.put("principals", names);
        }
    }

    fn forwarding(&mut self) {
        let off = self.global.get("disableforwarding").and_then(Line::yes) == Some(true);
        let own = self.block.get("disableforwarding").cloned();
        let back = !self.top && own.as_ref().and_then(Line::yes) == Some(false);
        if let (Some(line), true) = (&own, back) {
            let text = "it counts against the line above all blocks, not against another block that disables";
            self.note(Kind::Changed, line, text);
        }
        for (keyword, key) in [
            ("allowtcpforwarding", "tcp-forwarding"),
            ("allowstreamlocalforwarding", "stream-local-forwarding"),
        ] {
            if self.forwards(keyword, off, back) {
                let value = direction(self.effective(keyword));
                let closed = off && !back;
                self.put(key, if closed { "no".to_owned() } else { value });
            }
        }
        for (keyword, key, default) in [
            ("allowagentforwarding", "agent-forwarding", true),
            ("x11forwarding", "x11-forwarding", false),
        ] {
            if self.forwards(keyword, off, back) {
                let line = self.effective(keyword);
                let on = line.map_or(default, |l| l.yes() == Some(true));
                self.put(key, on && (!off || back));
            }
        }
        for (keyword, key) in [
            ("permitopen", "permit-open"),
            ("permitlisten", "permit-listen"),
        ] {
            if let Some(line) = self.block.get(keyword) {
                let word = line.first().to_ascii_lowercase();
                let list = match word.as_str() {
                    "any" => vec!["*:*".to_owned()],
                    "none" => vec!["none".to_owned()],
                    _ => line.arguments.clone(),
                };
                self.put(key, list);
            }
        }
        if let Some(line) = self.block.get("gatewayports") {
            let value = match (line.yes(), line.first()) {
                (Some(true), _) => "yes",
                (_, "clientspecified") => "client-specified",
                _ => "no",
            };
            self.put("gateway-ports", value);
        }
    }

    /// Whether this scope is to say something about one kind of forwarding. `off`: all are disabled
    /// above the blocks; `back`: this block takes that back.
    fn forwards(&self, keyword: &str, off: bool, back: bool) -> bool {
        self.top || back && off || !off && self.block.get(keyword).is_some()
    }

    fn environment(&mut self) {
        if self.says(&["acceptenv"]) {
            self.put("accept-env", self.block.words("acceptenv"));
        }
        if let Some(line) = self.block.get("setenv").cloned() {
            let mut variables = Table::new();
            for word in &line.arguments {
                match word.split_once('=') {
                    Some((name, value)) if !name.is_empty() => {
                        let entry = variables.entry(name);
                        entry.or_insert_with(|| value.into());
                    }
                    _ => self.note(Kind::LeftOut, &line, format!("'{word}' is no NAME=VALUE")),
                }
            }
            self.put("set-env", variables);
        }
        if let Some(line) = self.block.get("permituserenvironment") {
            let patterns: Vec<String> = match line.yes() {
                Some(true) => vec!["*".into()],
                Some(false) => Vec::new(),
                None => line.first().split(',').map(str::to_owned).collect(),
            };
            self.put("permit-user-environment", patterns);
        }
        self.switch("exposeauthinfo", "expose-auth-info", false);
        self.switch("permituserrc", "permit-user-rc", true);
        self.switch("permittty", "permit-tty", true);
        self.switch("printlastlog", "print-last-log", true);
        if self.block.get("printmotd").and_then(Line::yes) == Some(false) {
            self.put("motd-files", Vec::<String>::new());
        } else if self.says(&["printmotd"]) {
            self.put("motd-files", vec!["/etc/motd".to_owned()]);
        }
        if self.says(&["maxsessions"]) {
            let line = self.block.get("maxsessions");
            let number = line.map_or(Some(10), |l| l.first().parse::<u32>().ok());
            self.put("max-sessions", i64::from(number.unwrap_or(10)));
        }
    }

    fn timeouts(&mut self) {
        if let Some(line) = self.block.get("unusedconnectiontimeout").cloned() {
            let word = line.first();
            let none = word.eq_ignore_ascii_case("none");
            match if none { Some(0) } else { duration(word) } {
                Some(seconds) => self.put("unused-connection-timeout", text(seconds)),
                None => self.note(Kind::LeftOut, &line, format!("'{word}' is no time")),
            }
        }
        if let Some(line) = self.block.get("channeltimeout").cloned() {
            let mut entries = Vec::new();
            let none = line.first().eq_ignore_ascii_case("none");
            for word in line.arguments.iter().filter(|_| !none) {
                let entry = word.split_once('=').filter(|(kind, _)| !kind.is_empty());
                match entry.and_then(|(kind, time)| Some((kind, duration(time)?))) {
                    Some((kind, seconds)) => entries.push(format!("{kind}={}", text(seconds))),
                    None => {
                        self.note(Kind::LeftOut, &line, format!("'{word}' is no KIND=TIME"));
                    }
                }
            }
            self.put("channel-timeout", entries);
        }
    }

    fn programs(&mut self) {
        if self.says(&["subsystem"]) {
            let mut subsystems = Table::new();
            let lines: Vec<Line> = self
                .block
                .all("subsystem")
                .chain(self.global.all("subsystem"))
                .cloned()
                .collect();
            for line in lines {
                let Some((name, command)) = line.arguments.split_first() else {
                    continue;
                };
                if command.is_empty() {
                    self.note(Kind::LeftOut, &line, "a subsystem without a command");
                    continue;
                }
                let command = self.command(&line, &assembled(command));
                subsystems.entry(name).or_insert_with(|| command.into());
            }
            self.put("subsystems", subsystems);
        }
        if let Some(line) = self.block.get("forcecommand").cloned() {
            // sshd takes the line as it is, and leaves quotes to the shell.
            let command = line.rest.clone();
            let command = if command.eq_ignore_ascii_case("none") {
                String::new()
            } else {
                self.command(&line, &command)
            };
            self.put("force-command", command);
        }
    }

    /// `internal-sftp` as the program that it stands for.
    fn command(&mut self, line: &Line, command: &str) -> String {
        let Some(flags) = command.strip_prefix("internal-sftp") else {
            return command.to_owned();
        };
        let program = sftp_program();
        self.note(
            Kind::Changed,
            line,
            format!("internal-sftp is the program '{program}'"),
        );
        format!("{program}{flags}")
    }

    /// What would be wider without a line that has no equal.
    fn closed(&mut self) {
        if self.block.get("refuseconnection").and_then(Line::yes) == Some(true) {
            self.put("refuse-connection", true);
            // So that it stands before the blocks that let people in.
            self.put("allow-login", false);
        }
        let Some(line) = self.effective("chrootdirectory").cloned() else {
            return;
        };
        let here = self.block.get("chrootdirectory").is_some();
        let folder = line.first().to_owned();
        if folder.eq_ignore_ascii_case("none")
            || !(here || self.block.get("forcecommand").is_some())
        {
            return;
        }
        let forced = self
            .effective("forcecommand")
            .map(|l| l.arguments.join(" "));
        let flags = forced
            .as_deref()
            .and_then(|c| c.strip_prefix("internal-sftp"));
        match (flags, shell_path(&folder)) {
            (Some(flags), Some(folder)) => {
                let program = sftp_program();
                self.put("force-command", format!("{program} --root {folder}{flags}"));
                let text = "the folder is the root of all paths of sftp, without chroot(2); it needs the \
                            sftp-server of this project in that place";
                self.note(Kind::Changed, &line, text);
            }
            _ => {
                self.put("allow-login", false);
                let text = "sessions are not confined to a folder, only sftp is (sftp-server --root); \
                            these logins are refused until you decide";
                self.note(Kind::Closed, &line, text);
            }
        }
    }
}

/// `DisableForwarding yes` of a block: it stands against whatever any block allows.
pub fn disabling(block: &Block) -> Option<Table> {
    let yes = block.get("disableforwarding").and_then(Line::yes) == Some(true);
    yes.then(|| {
        let words = ["tcp-forwarding", "stream-local-forwarding"].map(|k| (k, Value::from("no")));
        let switches = ["agent-forwarding", "x11-forwarding"].map(|k| (k, Value::from(false)));
        let all = words.into_iter().chain(switches);
        all.map(|(key, value)| (key.to_owned(), value)).collect()
    })
}

/// The value of AllowTcpForwarding and its like.
fn direction(line: Option<&Line>) -> String {
    let word = line.map_or("yes".to_owned(), |l| l.first().to_ascii_lowercase());
    match word.as_str() {
        "yes" | "all" | "true" => "yes".to_owned(),
        "local" | "remote" => word,
        _ => "no".to_owned(),
    }
}

/// Words as one line for a shell.
fn assembled(words: &[String]) -> String {
    let one = |word: &String| {
        let escaped = word.replace('\\', "\\\\").replace('"', "\\\"");
        if word.contains([' ', '\t']) {
            format!("\"{escaped}\"")
        } else if word.contains(['\\', '"', '\'']) {
            escaped.replace('\'', "\\'")
        } else {
            word.clone()
        }
    };
    words.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The program of the subsystem sftp.
fn sftp_program() -> String {
    let subsystems = Settings::default().subsystems;
    subsystems
        .get("sftp")
        .cloned()
        .unwrap_or_else(|| "sftp-server".into())
}

/// A path with sshd's tokens as a shell's word.
fn shell_path(path: &str) -> Option<String> {
    let mut word = String::from("\"");
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '%' => match chars.next() {
                Some('u') => word.push_str("$LOGNAME"),
                Some('h') => word.push_str("$HOME"),
                Some('%') => word.push('%'),
                _ => return None,
            },
            '"' | '$' | '`' | '\\' => {
                word.push('\\');
                word.push(c);
            }
            c if c.is_control() => return None,
            c => word.push(c),
        }
    }
    word.push('"');
    Some(word)
}
