//! The password of the one who makes changes: from its file, or typed at the terminal without being
//! shown. Never from the command line or the environment.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices};
use service::Secret;
use zeroize::Zeroize as _;

use crate::error::AdminError;
use crate::settings::Settings;

/// Longest password, in bytes.
const MAX_PASSWORD: usize = 1024;

/// The password, read or asked for.
///
/// # Errors
/// [`AdminError::Config`] for the file, [`AdminError::Password`] for the terminal.
pub fn get(settings: &Settings, ask: bool) -> Result<Secret<Vec<u8>>, AdminError> {
    if let Some(file) = settings.bind_password_file.as_ref().filter(|_| !ask) {
        return service::config::read_secret(file, MAX_PASSWORD as u64).map_err(AdminError::Config);
    }
    let dn = &settings.bind_dn;
    ask_terminal(dn).map_err(|source| AdminError::Password {
        dn: dn.clone(),
        source,
    })
}

/// Asks at the controlling terminal, whatever standard input is. Signals are read as characters
/// meanwhile, so that none leaves the terminal silent.
fn ask_terminal(dn: &str) -> io::Result<Secret<Vec<u8>>> {
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let before = termios::tcgetattr(&terminal)?;
    let mut silent = before.clone();
    silent
        .local_flags
        .remove(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG);
    silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &silent)?;
    // The prompt comes when nothing typed can be shown or flushed any more.
    let typed = write!(terminal, "password of {dn}: ").and_then(|()| read_line(&mut terminal));
    let restored = termios::tcsetattr(&terminal, SetArg::TCSAFLUSH, &before);
    writeln!(terminal)?;
    restored?;
    typed
}

fn read_line(terminal: &mut File) -> io::Result<Secret<Vec<u8>>> {
    // Full size at once: growing would leave copies behind.
    let mut line = Vec::with_capacity(MAX_PASSWORD);
    let mut byte = [0];
    let end = loop {
        match terminal.read(&mut byte) {
            Ok(0) => break Err(io::ErrorKind::UnexpectedEof),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(error.kind()),
        }
        match byte[0] {
            b'\r' | b'\n' => break Ok(()),
            // Ctrl-C, Ctrl-D, Ctrl-Z, Ctrl-\: whoever types these wants out.
            0x03 | 0x04 | 0x1a | 0x1c => break Err(io::ErrorKind::Interrupted),
            0x7f | 0x08 => drop(line.pop()),
            0x15 => line.clear(),
            _ if line.len() == MAX_PASSWORD => break Err(io::ErrorKind::InvalidInput),
            typed => line.push(typed),
        }
    };
    byte.zeroize();
    let line = Secret::new(line);
    end.map(|()| line).map_err(Into::into)
}
