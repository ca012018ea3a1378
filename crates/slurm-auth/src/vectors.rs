//! Every exchange captured from the real sackd, slurmctld and sinfo of two releases: parsed,
//! packed again byte for byte, signed again byte for byte, verified, and refused where they refuse.

use serde_json::Value;
use slurm_wire::configuration::{ConfigRequest, Configuration, Wanted};
use slurm_wire::return_code::ReturnCode;
use slurm_wire::rpc::{Credential, Message, MessageType};
use slurm_wire::sack::{self, Request};
use slurm_wire::{ProtocolVersion, WireError};

use crate::{Claims, Context, Keyring, Verifier, message_hash, sign, verify};

pub(crate) fn file(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub(crate) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("no '{name}'"))
}

pub(crate) fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// One captured exchange and what it was captured with.
struct Vector<'a> {
    fields: &'a Value,
    name: &'a str,
    version: ProtocolVersion,
    keys: Keyring,
}

impl Vector<'_> {
    fn bytes(&self, field: &str) -> Vec<u8> {
        bytes(text(self.fields, field))
    }

    fn number(&self, field: &str) -> u32 {
        u32::try_from(self.fields[field].as_u64().unwrap()).unwrap()
    }

    /// Verifies the captured token at the moment it was made, compares its claims with the
    /// record, and signs them again: the result must be the very same token.
    fn claims(&self) -> Claims {
        let token = text(self.fields, "token");
        let expected = Claims::from_json(text(self.fields, "jwt_claims").as_bytes()).unwrap();
        let reader = Verifier {
            uid: expected.ruid,
            now: expected.iat,
        };
        let claims = verify(token, &self.keys, reader).unwrap();
        assert_eq!(claims, expected, "{}", self.name);
        assert_eq!(sign(&claims, &self.keys).unwrap(), token, "{}", self.name);
        claims
    }

    fn create(&self) {
        let request = self.bytes("request_hex");
        let parsed = Request::parse(&request).unwrap().unwrap();
        assert_eq!(parsed.encode(), request);
        let claims = self.claims();
        let Request::Create {
            version,
            ruid,
            payload,
        } = parsed
        else {
            panic!("{}", self.name)
        };
        assert_eq!(version, self.version);
        assert_eq!((claims.ver, claims.ruid), (i64::from(version.0), ruid));
        assert_eq!(claims.payload, payload);
        assert_eq!(payload, self.bytes("payload_hex"));
        assert_eq!(
            (claims.uid, claims.gid),
            (self.number("peer_uid"), self.number("peer_gid"))
        );
        assert_eq!(claims.context, Context::Sack);
        assert_eq!(
            claims.id.is_some(),
            self.fields["slurm_conf_authinfo"].is_string()
        );
        let reply = self.bytes("reply_hex");
        let token = text(self.fields, "token");
        assert_eq!(sack::token_reply(token), reply);
        assert_eq!(sack::parse_token_reply(&reply), Ok(Some(token.to_owned())));
    }

    /// The original's answer to a good token is 0; to others, all ones or (newer) no bytes.
    fn verify(&self) {
        let request = self.bytes("request_hex");
        let parsed = Request::parse(&request).unwrap().unwrap();
        assert_eq!(parsed.encode(), request);
        let Request::Verify { token, .. } = parsed else {
            panic!("{}", self.name)
        };
        let claims = crate::read_unverified(&token).unwrap();
        let reader = Verifier {
            uid: self.number("peer_uid"),
            now: claims.iat,
        };
        let good = verify(&token, &self.keys, reader).is_ok();
        let reply = self.bytes("reply_hex");
        assert_eq!(good, reply == sack::verdict_reply(true), "{}", self.name);
        assert_eq!(
            good,
            sack::parse_verdict_reply(&reply).unwrap_or(false),
            "{}",
            self.name
        );
        assert_eq!(good, self.name.ends_with("good token"), "{}", self.name);
    }

    /// An RPC with a token: header, hash, and the body behind it.
    fn rpc(&self) -> Message {
        let frame = self.bytes("request_hex");
        let message = Message::decode(&frame[4..]).unwrap();
        assert_eq!(message.encode(), frame, "{}", self.name);
        assert_eq!(message.version, self.version);
        let Some(Credential::Slurm(token)) = &message.credential else {
            panic!("{}", self.name)
        };
        let claims = match self.fields["token"].as_str() {
            Some(recorded) => {
                assert_eq!(recorded, token);
                self.claims()
            }
            None => crate::read_unverified(token).unwrap(),
        };
        let hash = message_hash::k12(message.message_type.0, &message.body);
        assert_eq!(claims.payload, hash, "{}", self.name);
        message
    }

    fn reply(&self) -> Message {
        let frame = self.bytes("reply_hex");
        let reply = Message::decode(&frame[4..]).unwrap();
        assert_eq!(reply.encode(), frame, "{}", self.name);
        assert_eq!(reply.credential, None);
        reply
    }

    fn ping(&self) {
        assert_eq!(self.rpc().message_type, MessageType::PING);
        let reply = self.reply();
        assert_eq!(reply.message_type, MessageType::RETURN_CODE);
        let code = ReturnCode::decode(&reply.body).unwrap();
        assert_eq!(
            u64::from(code.0),
            self.fields["reply_fields"]["rc"].as_u64().unwrap()
        );
    }

    fn config_request(&self) {
        let request = self.rpc();
        let decoded = ConfigRequest::decode(&request.body, request.version).unwrap();
        assert_eq!(
            decoded,
            ConfigRequest {
                wanted: Wanted::ClientAndRegister,
                port: 0
            }
        );
        assert_eq!(decoded.encode(request.version), request.body);
        let reply = self.reply();
        assert_eq!(reply.message_type, MessageType::RESPONSE_CONFIG);
        self.files(&reply.body, "reply_files");
    }

    fn push(&self) {
        let message = self.rpc();
        assert_eq!(message.message_type, MessageType::RECONFIGURE_SACKD);
        self.files(&message.body, "files");
    }

    fn files(&self, body: &[u8], list: &str) {
        let configuration = Configuration::decode(body).unwrap();
        assert_eq!(configuration.encode(), body, "{}", self.name);
        let expected = self.fields[list].as_array().unwrap();
        assert_eq!(configuration.files.len(), expected.len());
        for (file, expected) in configuration.files.iter().zip(expected) {
            assert_eq!(file.name, text(expected, "name"));
            assert_eq!(
                u64::from(file.execute),
                expected["execute"].as_u64().unwrap()
            );
            assert_eq!(
                u64::from(file.content.is_some()),
                expected["exists"].as_u64().unwrap()
            );
            let length = file.content.as_ref().map(|content| content.len() as u64);
            assert_eq!(length, expected["content_len"].as_u64());
        }
    }

    fn check(&self) {
        match self.name.split_once('/').unwrap() {
            ("create", _) | ("real client", _) => self.create_or_client(),
            ("verify", _) => self.verify(),
            ("error", _) => {
                let error = Request::parse(&self.bytes("request_hex")).unwrap_err();
                assert_eq!(
                    error,
                    WireError::Value {
                        field: "opcode",
                        value: 64003
                    }
                );
            }
            ("slurm rpc", what) if what.contains("expired token") => self.expired_ping(),
            ("slurm rpc", what) if what.starts_with("REQUEST_PING") => self.ping(),
            ("slurm rpc", what) if what.starts_with("REQUEST_CONFIG") => self.config_request(),
            ("slurm rpc", what) if what.starts_with("REQUEST_RECONFIGURE") => self.push(),
            ("slurm rpc", what) if what.starts_with("REQUEST_PARTITION_INFO") => {
                assert_eq!(self.rpc().message_type, MessageType(2009));
            }
            _ => panic!("vector '{}' has no test", self.name),
        }
    }

    /// The client's messages were recorded without the `ruid` field apart.
    fn create_or_client(&self) {
        if self.fields["ruid"].is_u64() {
            assert_eq!(
                u64::from(self.claims().ruid),
                self.fields["ruid"].as_u64().unwrap()
            );
        }
        self.create();
    }

    fn expired_ping(&self) {
        let frame = self.bytes("request_hex");
        let message = Message::decode(&frame[4..]).unwrap();
        assert_eq!(message.encode(), frame);
        let Some(Credential::Slurm(token)) = &message.credential else {
            panic!()
        };
        let exp = crate::read_unverified(token).unwrap().exp;
        let reader = Verifier {
            uid: 0,
            now: exp + 1,
        };
        assert!(matches!(
            verify(token, &self.keys, reader),
            Err(crate::TokenError::Expired(1))
        ));
        let reply = self.reply();
        assert_eq!(
            ReturnCode::decode(&reply.body),
            Ok(ReturnCode::AUTHENTICATION)
        );
    }
}

fn check_file(content: &str, version: ProtocolVersion) {
    let all = file(content);
    let list = all["vectors"].as_array().unwrap();
    assert_eq!(list.len(), 16);
    for fields in list {
        let keys = match fields["jwks"].as_str() {
            Some(set) => Keyring::from_jwks(set.as_bytes()),
            None => Keyring::from_slurm_key(&bytes(text(&all, "key_file_hex"))),
        };
        Vector {
            fields,
            name: text(fields, "name"),
            version,
            keys: keys.unwrap(),
        }
        .check();
    }
}

#[test]
fn slurm_24_11_5() {
    check_file(
        include_str!("../vectors/sack-24.11.5.json"),
        ProtocolVersion::V24_11,
    );
}

#[test]
fn slurm_26_05_5() {
    check_file(
        include_str!("../vectors/sack-26.05.5.json"),
        ProtocolVersion::V26_05,
    );
}
