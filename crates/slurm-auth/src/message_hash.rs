//! The hash that ties a token to one RPC: a type byte, then the digest of body and message type.
//! Which kinds a receiver accepts is its own choice.

use k12::{CustomRefKt128, ExtendableOutput as _, Update as _, XofReader as _};

/// Bytes of the K12 payload: type and digest.
pub const K12_LENGTH: usize = 33;

const NONE: u8 = 1;
const K12: u8 = 2;
const SHA3: u8 = 4;

/// The payload of a token for a message: 2, then KangarooTwelve (RFC 9861, KT128, 32 bytes) of
/// the packed body, customised with the message type as big-endian `u16`.
#[must_use]
pub fn k12(message_type: u16, body: &[u8]) -> [u8; K12_LENGTH] {
    let custom = message_type.to_be_bytes();
    let mut payload = [0; K12_LENGTH];
    let [kind, digest @ ..] = &mut payload;
    *kind = K12;
    digest.copy_from_slice(&digest_k12(&custom, body));
    payload
}

/// What a payload is by its type byte, for the record.
#[must_use]
pub fn kind(payload: &[u8]) -> &'static str {
    match payload.first() {
        None => "empty",
        Some(&NONE) => "none",
        Some(&K12) => "k12",
        Some(&SHA3) => "sha3",
        Some(_) => "other",
    }
}

fn digest_k12(custom: &[u8], input: &[u8]) -> [u8; 32] {
    let mut hash = CustomRefKt128::new_customized(custom);
    hash.update(input);
    let mut digest = [0; 32];
    hash.finalize_xof().read(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{bytes, file};

    #[test]
    fn vectors() {
        let all = file(include_str!("../vectors/k12.json"));
        let list = all["vectors"].as_array().unwrap();
        assert_eq!(list.len(), 6);
        for vector in list {
            let name = vector["name"].as_str().unwrap();
            let input = match vector["input_hex"].as_str() {
                Some(hex) => bytes(hex),
                None if name.contains("i mod 251") => {
                    (0..83521_u32).map(|i| (i % 251) as u8).collect()
                }
                None => panic!("{name}: no input"),
            };
            let custom = bytes(vector["custom_hex"].as_str().unwrap());
            let expected = bytes(vector["k12_32_hex"].as_str().unwrap());
            assert_eq!(digest_k12(&custom, &input)[..], expected, "{name}");
            if let [high, low] = custom[..] {
                let payload = k12(u16::from_be_bytes([high, low]), &input);
                assert_eq!(payload[..], [&[2], &expected[..]].concat(), "{name}");
            }
        }
    }

    #[test]
    fn kinds() {
        for (payload, expected) in [
            (&[][..], "empty"),
            (&[1, 3, 0xf0], "none"),
            (&[2], "k12"),
            (&[4], "sha3"),
            (&[3], "other"),
        ] {
            assert_eq!(kind(payload), expected);
        }
    }
}
