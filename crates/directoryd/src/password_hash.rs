//! Passwords that stand in a file as hashes: which kinds are taken, and whether what was typed fits.
//!
//! `$y$` is yescrypt, `$6$` and `$5$` are SHA-crypt (crypt(5)), `$argon2id$` is RFC 9106 in PHC form; LDIF has them behind
//! `{CRYPT}` and `{ARGON2}`, and `{SSHA}` besides. What would take longer than a login may is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{Argon2, Params, PasswordHash, PasswordVerifier};
use base64::{Engine, engine::general_purpose::STANDARD};
use directory_client::Password;
use serde::Deserialize;
use service::Secret;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use yescrypt::Yescrypt;
use zeroize::Zeroizing;

/// Most rounds of SHA-crypt; 5000 is the default.
const MOST_ROUNDS: u32 = 1_000_000;
/// Most memory for Argon2 and yescrypt, in KiB, and most passes.
const MOST_MEMORY: u32 = 256 << 10;
const MOST_PASSES: u32 = 32;
/// Checked in place of a user's hash where there is none; nobody knows the password.
const NOBODY: &str = "$6$nobody$Hihgr.qeIRQ/STxevBJ9J8L00lCwbEwpHBUjuIGdM2MKGfL98V759QPqebXeOsJCkpCR/ug6DFjL3.TrdH1lm0";
/// The alphabet of crypt(5).
const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// One hash, of a kind that can be checked here.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Hash {
    kind: Kind,
    text: Secret<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sha512,
    Sha256,
    Argon2,
    Yescrypt,
    SaltedSha1,
}

impl TryFrom<String> for Hash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(text)
    }
}

impl Hash {
    /// Takes a hash as a file has it.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn parse(text: String) -> Result<Self, &'static str> {
        let scheme = |name: &str| {
            let front = text.get(..name.len())?;
            front
                .eq_ignore_ascii_case(name)
                .then(|| &text[name.len()..])
        };
        let plain = scheme("{crypt}").or(scheme("{argon2}")).unwrap_or(&text);
        let kind = if plain.starts_with("$6$") {
            Kind::Sha512
        } else if plain.starts_with("$5$") {
            Kind::Sha256
        } else if plain.starts_with("$argon2id$") {
            Kind::Argon2
        } else if plain.starts_with("$y$") {
            Kind::Yescrypt
        } else if scheme("{ssha}").is_some() {
            Kind::SaltedSha1
        } else {
            return Err("expected a password hash that begins with $y$, $6$, $5$ or $argon2id$");
        };
        let good = match kind {
            Kind::Sha512 => Crypt::parse(plain).is_some_and(|crypt| crypt.hash.len() == 86),
            Kind::Sha256 => Crypt::parse(plain).is_some_and(|crypt| crypt.hash.len() == 43),
            Kind::Argon2 => argon2_is_bearable(plain),
            Kind::Yescrypt => yescrypt_is_bearable(plain),
            Kind::SaltedSha1 => salted_sha1(&text).is_some(),
        };
        if !good {
            return Err("a password hash that is damaged, or that would take too long to check");
        }
        let text = match kind {
            Kind::SaltedSha1 => text,
            _ => plain.to_owned(),
        };
        let text = Secret::new(text);
        Ok(Self { kind, text })
    }

    /// Whether this is the password.
    pub fn is_of(&self, password: &Password) -> bool {
        let (text, typed) = (self.text.expose(), password.expose().as_bytes());
        match self.kind {
            Kind::Sha512 => Crypt::parse(text)
                .is_some_and(|crypt| same(crypt.sha512(typed).as_bytes(), crypt.hash.as_bytes())),
            Kind::Sha256 => Crypt::parse(text)
                .is_some_and(|crypt| same(crypt.sha256(typed).as_bytes(), crypt.hash.as_bytes())),
            Kind::Argon2 => {
                PasswordVerifier::<str>::verify_password(&Argon2::default(), typed, text).is_ok()
            }
            Kind::Yescrypt => yescrypt::PasswordHashRef::new(text).is_ok_and(|hash| {
                yescrypt::PasswordVerifier::verify_password(&Yescrypt::default(), typed, hash)
                    .is_ok()
            }),
            Kind::SaltedSha1 => salted_sha1(text).is_some_and(|bytes| {
                let (sum, salt) = bytes.split_at(20);
                let ours = Sha1::new()
                    .chain_update(typed)
                    .chain_update(salt)
                    .finalize();
                same(&ours, sum)
            }),
        }
    }
}

/// The users' hashes, as the file was last read.
#[derive(Debug, Default)]
pub struct Hashes {
    by_user: Mutex<HashMap<String, Arc<Hash>>>,
    /// One is checked at a time: they are made to cost.
    turn: Mutex<()>,
}

impl Hashes {
    /// Takes those of a newly read file.
    pub fn replace(&self, by_user: HashMap<String, Arc<Hash>>) {
        *self.by_user.lock().unwrap_or_else(PoisonError::into_inner) = by_user;
    }

    /// Whether this is the user's password. Without a hash somebody else's is checked, to no effect but
    /// the time it takes.
    pub fn verify(&self, user: &str, password: &Password) -> bool {
        let (hash, own) = {
            let hashes = self.by_user.lock().unwrap_or_else(PoisonError::into_inner);
            match hashes.get(user) {
                Some(hash) => (Some(hash.clone()), true),
                None => (hashes.values().next().cloned(), false),
            }
        };
        let hash = hash.or_else(|| Hash::parse(NOBODY.to_owned()).ok().map(Arc::new));
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        hash.is_some_and(|hash| hash.is_of(password)) && own
    }
}

/// Time is the same wherever they differ.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

fn argon2_is_bearable(text: &str) -> bool {
    let hash = PasswordHash::new(text).ok();
    let params = hash.as_ref().and_then(|hash| Params::try_from(hash).ok());
    hash.is_some_and(|hash| hash.hash.is_some())
        && params.is_some_and(|params| {
            params.m_cost() <= MOST_MEMORY
                && params.t_cost() <= MOST_PASSES
                && params.p_cost() <= 16
        })
}

/// `$y$params$salt$hash` as crypt(5) makes it, of one lane and without extra time: two to the N blocks of r.
fn yescrypt_is_bearable(text: &str) -> bool {
    let parts: Vec<&str> = text.split('$').collect();
    let ["", "y", params, salt, hash] = parts[..] else {
        return false;
    };
    let letters = |text: &str| text.bytes().all(|byte| LETTERS.contains(&byte));
    let Ok(params) = params.parse::<yescrypt::Params>() else {
        return false;
    };
    let (n, r) = (params.n(), params.r());
    let usual = yescrypt::Params::new(yescrypt::Mode::default(), n, r, 1);
    let kib = n.saturating_mul(r.into()) / 8;
    usual == Ok(params)
        && (1..=32).contains(&r)
        && kib <= MOST_MEMORY.into()
        && letters(salt)
        && (1..=86).contains(&salt.len())
        && letters(hash)
        && hash.len() == 43
}

/// Sum and salt.
fn salted_sha1(text: &str) -> Option<Vec<u8>> {
    let bytes = STANDARD.decode(text.get(6..)?).ok()?;
    (bytes.len() > 20).then_some(bytes)
}

/// `$6$[rounds=N$]salt$hash`.
struct Crypt<'a> {
    salt: &'a [u8],
    rounds: u32,
    hash: &'a str,
}

impl<'a> Crypt<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut rest = text.get(3..)?;
        let mut rounds = 5000;
        if let Some((number, after)) = rest
            .strip_prefix("rounds=")
            .and_then(|rest| rest.split_once('$'))
        {
            rounds = number.parse::<u32>().ok()?.max(1000);
            rest = after;
        }
        let (salt, hash) = rest.split_once('$')?;
        let good = hash.bytes().all(|byte| LETTERS.contains(&byte)) && rounds <= MOST_ROUNDS;
        // Longer salts count with their first 16 bytes.
        let salt = &salt.as_bytes()[..salt.len().min(16)];
        good.then_some(Self { salt, rounds, hash })
    }

    fn sha512(&self, password: &[u8]) -> String {
        let sum = self.stretch::<Sha512>(password);
        let mut text = String::with_capacity(86);
        let (mut a, mut b, mut c) = (0, 21, 42);
        for _ in 0..21 {
            letters(&mut text, [sum[a], sum[b], sum[c]], 4);
            (a, b, c) = (b + 1, c + 1, a + 1);
        }
        letters(&mut text, [0, 0, sum[63]], 2);
        text
    }

    fn sha256(&self, password: &[u8]) -> String {
        let sum = self.stretch::<Sha256>(password);
        let mut text = String::with_capacity(43);
        let (mut a, mut b, mut c) = (0, 10, 20);
        for _ in 0..10 {
            letters(&mut text, [sum[a], sum[b], sum[c]], 4);
            (a, b, c) = (c + 1, a + 1, b + 1);
        }
        letters(&mut text, [0, sum[31], sum[30]], 3);
        text
    }

    /// The sum before it is written in letters (Drepper, "Unix crypt using SHA-256 and SHA-512").
    fn stretch<D: Digest>(&self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        let sum = |parts: &[&[u8]]| {
            let mut digest = D::new();
            parts.iter().for_each(|part| digest.update(part));
            Zeroizing::new(digest.finalize().to_vec())
        };
        let repeated = |bytes: &[u8], length: usize| {
            Zeroizing::new(
                bytes
                    .iter()
                    .copied()
                    .cycle()
                    .take(length)
                    .collect::<Vec<u8>>(),
            )
        };
        let both = sum(&[password, self.salt, password]);
        let mut first = D::new();
        first.update(password);
        first.update(self.salt);
        first.update(&*repeated(&both, password.len()));
        let mut bits = password.len();
        while bits > 0 {
            first.update(if bits & 1 == 1 { &both } else { password });
            bits >>= 1;
        }
        let mut state = Zeroizing::new(first.finalize().to_vec());
        let of_password = sum(&vec![password; password.len()]);
        let of_password = repeated(&of_password, password.len());
        let of_salt = sum(&vec![self.salt; 16 + usize::from(state[0])]);
        let of_salt = repeated(&of_salt, self.salt.len());
        for round in 0..self.rounds {
            let (odd, none): (bool, &[u8]) = (round & 1 == 1, &[]);
            state = sum(&[
                if odd { &of_password } else { &state },
                if round % 3 == 0 { none } else { &of_salt },
                if round % 7 == 0 { none } else { &of_password },
                if odd { &state } else { &of_password },
            ]);
        }
        state
    }
}

/// Three bytes in at most four letters, the lowest bits first.
fn letters(text: &mut String, [a, b, c]: [u8; 3], count: usize) {
    let mut bits = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
    for _ in 0..count {
        text.push(char::from(LETTERS[(bits & 63) as usize]));
        bits >>= 6;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(text.into()).unwrap()
    }

    #[test]
    fn no_salt_ends_the_daemon() {
        for length in 1..=86 {
            for letter in ['.', 'z', 'a'] {
                let salt = letter.to_string().repeat(length);
                let text = format!("$y$j/5${salt}$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5");
                let hash = Hash::parse(text).unwrap();
                assert!(!hash.is_of(&password("x")), "{salt}");
            }
        }
    }

    #[test]
    fn the_published_vectors() {
        let check = |hash: &str, text: &str| {
            let hash = Hash::parse(hash.to_owned()).unwrap();
            assert!(hash.is_of(&password(text)), "{text}");
            assert!(!hash.is_of(&password(&format!("{text}x"))), "{text}");
        };
        // Of the specification of SHA-crypt.
        check(
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "Hello world!",
        );
        check(
            "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            "Hello world!",
        );
        check(
            "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5",
            "Hello world!",
        );
        check(
            "$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA",
            "Hello world!",
        );
        // Of RFC 9106's reference program: argon2 somesalt -id -t 2 -m 16 -p 1.
        check(
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "password",
        );
        // Of libxcrypt 4.4.
        for hash in [
            "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$42RgPIrXdXSEEs77lDi/4IqKVqFBAVaHJkzw5uD1r57",
            "{CRYPT}$y$j75$saltsaltsalt$AveudvDy4s0icqxi3BMmlP/jffflguPNiBv7mXp1/3C",
            "$y$jDT$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
        ] {
            check(hash, "Hello world!");
        }
        check("{SSHA}1G904nLkTkGWjKNnQuB/hpWXC/hzYWx0c2FsdA==", "secret");
    }

    #[test]
    fn what_cannot_be_checked_is_refused() {
        for text in [
            "",
            "secret",
            "$1$ab$cd",
            "$y$j9T$salt$hash",
            // 512 MiB; another kind; several lanes; no time; a salt of nothing, of other letters; cut short.
            "$y$jET$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$.9T$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$j9T./$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$j9T..$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$jzzzzzzz$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$j9T$$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$j9T$sált$aaAIBW99Ff.2td9j4Nvwq/114BD8seXpQXMIV6l60e5",
            "$y$j9T$saltsaltsalt$aaAIBW99Ff.2td9j4Nvwq",
            "$y$j9T$saltsaltsalt",
            "$6$salt",
            "$6$salt$short",
            "$6$rounds=99999999$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            "$argon2id$v=19$m=9999999,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
            "{SSHA}AAAA",
            "{SSHA}é",
            "{MD5}abcd",
        ] {
            assert!(Hash::parse(text.to_owned()).is_err(), "{text}");
        }
    }

    #[test]
    fn who_has_no_hash_has_no_password() {
        assert!(Hash::parse(NOBODY.to_owned()).is_ok());
        let hashes = Hashes::default();
        assert!(!hashes.verify("bob", &password("x")));
        let hash = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";
        let hash = Arc::new(Hash::parse(hash.to_owned()).unwrap());
        hashes.replace(HashMap::from([("bob".to_owned(), hash)]));
        assert!(hashes.verify("bob", &password("Hello world!")));
        assert!(!hashes.verify("carol", &password("Hello world!")));
        assert!(!hashes.verify("bob", &password("hello world!")));
    }
}
