//! Terminal modes of a `pty-req`: opcodes of RFC 4254 section 8 to `termios(3)`.

use nix::sys::termios::{
    BaudRate, ControlFlags, InputFlags, LocalFlags, OutputFlags,
    SpecialCharacterIndices as Special, Termios, cfsetispeed, cfsetospeed,
};

/// Opcodes of the speeds (RFC 4254 section 8), which a pty keeps and shows without a use for them.
const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;

/// Applies the modes that exist here.
pub fn apply(settings: &mut Termios, modes: &[(u8, u32)]) {
    for (opcode, value) in modes {
        if let Some((_, index)) = CHARACTERS.iter().find(|(code, _)| code == opcode) {
            // 255 means "disabled" on the wire, and so does 0 here (_POSIX_VDISABLE).
            settings.control_chars[*index as usize] = if *value >= 255 { 0 } else { *value as u8 };
        }
        let on = *value != 0;
        if let Some((_, flag)) = INPUT.iter().find(|(code, _)| code == opcode) {
            settings.input_flags.set(*flag, on);
        }
        if let Some((_, flag)) = LOCAL.iter().find(|(code, _)| code == opcode) {
            settings.local_flags.set(*flag, on);
        }
        if let Some((_, flag)) = OUTPUT.iter().find(|(code, _)| code == opcode) {
            settings.output_flags.set(*flag, on);
        }
        if let Some((_, flag)) = CONTROL.iter().find(|(code, _)| code == opcode) {
            settings.control_flags.set(*flag, on);
        }
        if let Some((_, speed)) = SPEEDS.iter().find(|(baud, _)| baud == value) {
            // Neither call fails for a speed of the system's own list.
            let _ = match *opcode {
                INPUT_SPEED => cfsetispeed(settings, *speed),
                OUTPUT_SPEED => cfsetospeed(settings, *speed),
                _ => Ok(()),
            };
        }
    }
}

const SPEEDS: [(u32, BaudRate); 13] = [
    (300, BaudRate::B300),
    (600, BaudRate::B600),
    (1200, BaudRate::B1200),
    (2400, BaudRate::B2400),
    (4800, BaudRate::B4800),
    (9600, BaudRate::B9600),
    (19200, BaudRate::B19200),
    (38400, BaudRate::B38400),
    (57600, BaudRate::B57600),
    (115_200, BaudRate::B115200),
    (230_400, BaudRate::B230400),
    (460_800, BaudRate::B460800),
    (921_600, BaudRate::B921600),
];

const CHARACTERS: [(u8, Special); 14] = [
    (1, Special::VINTR),
    (2, Special::VQUIT),
    (3, Special::VERASE),
    (4, Special::VKILL),
    (5, Special::VEOF),
    (6, Special::VEOL),
    (7, Special::VEOL2),
    (8, Special::VSTART),
    (9, Special::VSTOP),
    (10, Special::VSUSP),
    (12, Special::VREPRINT),
    (13, Special::VWERASE),
    (14, Special::VLNEXT),
    (18, Special::VDISCARD),
];

const INPUT: [(u8, InputFlags); 12] = [
    (30, InputFlags::IGNPAR),
    (31, InputFlags::PARMRK),
    (32, InputFlags::INPCK),
    (33, InputFlags::ISTRIP),
    (34, InputFlags::INLCR),
    (35, InputFlags::IGNCR),
    (36, InputFlags::ICRNL),
    (38, InputFlags::IXON),
    (39, InputFlags::IXANY),
    (40, InputFlags::IXOFF),
    (41, InputFlags::IMAXBEL),
    (42, InputFlags::IUTF8),
];

const LOCAL: [(u8, LocalFlags); 12] = [
    (50, LocalFlags::ISIG),
    (51, LocalFlags::ICANON),
    (53, LocalFlags::ECHO),
    (54, LocalFlags::ECHOE),
    (55, LocalFlags::ECHOK),
    (56, LocalFlags::ECHONL),
    (57, LocalFlags::NOFLSH),
    (58, LocalFlags::TOSTOP),
    (59, LocalFlags::IEXTEN),
    (60, LocalFlags::ECHOCTL),
    (61, LocalFlags::ECHOKE),
    (62, LocalFlags::PENDIN),
];

const OUTPUT: [(u8, OutputFlags); 6] = [
    (70, OutputFlags::OPOST),
    (71, OutputFlags::OLCUC),
    (72, OutputFlags::ONLCR),
    (73, OutputFlags::OCRNL),
    (74, OutputFlags::ONOCR),
    (75, OutputFlags::ONLRET),
];

const CONTROL: [(u8, ControlFlags); 4] = [
    (90, ControlFlags::CS7),
    (91, ControlFlags::CS8),
    (92, ControlFlags::PARENB),
    (93, ControlFlags::PARODD),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_reach_the_terminal() {
        let (_master, slave) = sys::pty::open(sys::pty::Winsize {
            ws_row: 1,
            ws_col: 1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        })
        .unwrap();
        let modes = [
            (1, 7),
            (3, 255),
            (53, 0),
            (36, 0),
            (72, 0),
            (42, 1),
            (200, 1),
            (128, 9600),
            (129, 9600),
        ];
        sys::pty::edit_settings(&slave, |settings| apply(settings, &modes)).unwrap();
        let got = nix::sys::termios::tcgetattr(&slave).unwrap();
        assert_eq!(nix::sys::termios::cfgetospeed(&got), BaudRate::B9600);
        assert_eq!(got.control_chars[Special::VINTR as usize], 7);
        assert_eq!(got.control_chars[Special::VERASE as usize], 0);
        assert!(!got.local_flags.contains(LocalFlags::ECHO));
        assert!(got.local_flags.contains(LocalFlags::ICANON));
        assert!(!got.input_flags.contains(InputFlags::ICRNL));
        assert!(got.input_flags.contains(InputFlags::IUTF8));
        assert!(!got.output_flags.contains(OutputFlags::ONLCR));
    }
}
