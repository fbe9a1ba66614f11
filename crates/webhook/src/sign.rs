//! The two signatures of a callback.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::SigningKey;

/// The values of the signature headers of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// `X-Agent-Signature`: over the raw body alone.
    pub x_agent_signature: String,
    /// `webhook-signature` of Standard Webhooks 1.0.0: over id, time and body.
    pub webhook_signature: String,
}

/// Signs a body that is sent under `id` at `unix_seconds`.
pub fn sign(key: &SigningKey, id: &str, unix_seconds: i64, body: &[u8]) -> Signatures {
    let of_body = mac(key, &[body]);
    let prefix = format!("{id}.{unix_seconds}.");
    let of_message = mac(key, &[prefix.as_bytes(), body]);
    Signatures {
        x_agent_signature: format!("sha256={}", hex(&of_body)),
        webhook_signature: format!("v1,{}", STANDARD.encode(of_message)),
    }
}

fn mac(key: &SigningKey, parts: &[&[u8]]) -> Vec<u8> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key.bytes()).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(nibble), 16));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Secret, id, time, body, and both signatures, computed with Python's `hmac` and `base64`. The
    /// first one is the example of the Standard Webhooks specification.
    const VECTORS: [(&str, &str, i64, &str, &str, &str); 4] = [
        (
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
            "sha256=e2cb4f5251572539d458bfb8a7adb533b08801e6a794467e06f771debbb0818b",
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        ),
        (
            "a plain secret",
            "0f1e",
            0,
            "",
            "sha256=c8ac69dcf8b77364af5828c5cd898abe5eb9d59581f3f58489d2db91b4a8c186",
            "v1,VM2iYmdxTT9N5i5Hm6toqwo5KWUg2Sm4In/+VvQNWiU=",
        ),
        (
            "whsec-not base64",
            "id",
            -1,
            "{\"a\":\"\u{e9}\\n\"}",
            "sha256=51e7ce0c15ad65f953aee6622776ed6c590dfa472a1150e1df0090338e26d158",
            "v1,NSGAu/83MQCB72Gc3g4XD2UgXjmNVuM9Cv/06t5VeM8=",
        ),
        (
            // Longer than a block of SHA-256, so HMAC hashes it first.
            "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
            "id",
            1_763_690_000,
            "xxx",
            "sha256=638fd29112a1711b7920a15162c34407d443262243356b9c747c839d209095e1",
            "v1,aduBVq5uDp1Fs98OM68EnJqvaIUpJlMnkVfSlJtq2I4=",
        ),
    ];

    #[test]
    fn signatures_equal_those_of_another_implementation() {
        for (secret, id, at, body, of_body, of_message) in VECTORS {
            let key = SigningKey::parse(secret).unwrap();
            let signed = sign(&key, id, at, body.as_bytes());
            assert_eq!(signed.x_agent_signature, of_body, "{secret}");
            assert_eq!(signed.webhook_signature, of_message, "{secret}");
        }
    }

    #[test]
    fn every_part_of_the_message_counts() {
        let key = SigningKey::parse("k").unwrap();
        let first = sign(&key, "a", 1, b"x");
        assert_ne!(
            first.webhook_signature,
            sign(&key, "b", 1, b"x").webhook_signature
        );
        assert_ne!(
            first.webhook_signature,
            sign(&key, "a", 2, b"x").webhook_signature
        );
        assert_ne!(
            first.webhook_signature,
            sign(&key, "a", 1, b"y").webhook_signature
        );
        assert_eq!(
            first.x_agent_signature,
            sign(&key, "b", 2, b"x").x_agent_signature
        );
        assert_ne!(
            first.x_agent_signature,
            sign(&key, "a", 1, b"y").x_agent_signature
        );
    }
}
