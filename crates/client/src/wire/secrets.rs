//! A job's own keys. Read by hand: no error may repeat what was given.

use std::fmt;

use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Names of the fields, as the API has them.
const FIELDS: [&str; 3] = ["anthropicApiKey", "claudeCodeOauthToken", "gitToken"];

/// Keys of a job's own, used in place of the server's and kept in its memory only. At most one of
/// the first two.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSecrets {
    /// `ANTHROPIC_API_KEY` for the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anthropic_api_key: Option<String>,
    /// `CLAUDE_CODE_OAUTH_TOKEN` for the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claude_code_oauth_token: Option<String>,
    /// For fetching and pushing over http(s).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git_token: Option<String>,
}

impl JobSecrets {
    /// The same fields, each with its name for a value.
    #[must_use]
    pub fn names_only(&self) -> Self {
        let name =
            |given: &Option<String>, at: usize| given.as_ref().map(|_| FIELDS[at].to_owned());
        Self {
            anthropic_api_key: name(&self.anthropic_api_key, 0),
            claude_code_oauth_token: name(&self.claude_code_oauth_token, 1),
            git_token: name(&self.git_token, 2),
        }
    }
}

impl fmt::Debug for JobSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSecrets(***)")
    }
}

impl<'de> Deserialize<'de> for JobSecrets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The usual way would put a value of the wrong kind into the error.
        deserializer.deserialize_any(Object)
    }
}

/// Refuses every other kind of value by one sentence.
macro_rules! nothing_but {
    ($what:literal) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str($what)
        }
        fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
            Err(E::custom(concat!("it must be ", $what)))
        }
        fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("it must be ", $what)))
        }
        fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("it must be ", $what)))
        }
        fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
            Err(E::custom(concat!("it must be ", $what)))
        }
    };
}

struct Object;

impl<'de> Visitor<'de> for Object {
    type Value = JobSecrets;

    nothing_but!("an object");

    fn visit_str<E: Error>(self, _: &str) -> Result<JobSecrets, E> {
        Err(E::custom("it must be an object"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JobSecrets, A::Error> {
        let mut secrets = JobSecrets::default();
        let mut seen = [false; FIELDS.len()];
        while let Some(name) = map.next_key::<String>()? {
            let Some(at) = FIELDS.iter().position(|field| *field == name) else {
                map.next_value::<IgnoredAny>()?;
                // A key may stand where its name should.
                return Err(A::Error::custom(
                    "unknown field in secrets; known are anthropicApiKey, claudeCodeOauthToken and gitToken",
                ));
            };
            let value = map.next_value::<Option<Value>>()?.map(|value| value.0);
            if std::mem::replace(&mut seen[at], true) {
                return Err(A::Error::custom(format_args!(
                    "duplicate field `{}`",
                    FIELDS[at]
                )));
            }
            match at {
                0 => secrets.anthropic_api_key = value,
                1 => secrets.claude_code_oauth_token = value,
                _ => secrets.git_token = value,
            }
        }
        Ok(secrets)
    }
}

/// One key.
struct Value(String);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text).map(Self)
    }
}

struct Text;

impl Visitor<'_> for Text {
    type Value = String;

    nothing_but!("a string");

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<String, E> {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_never_shown() {
        let text =
            r#"{"anthropicApiKey":"hunter1","gitToken":"hunter2","claudeCodeOauthToken":null}"#;
        let secrets: JobSecrets = serde_json::from_str(text).unwrap();
        assert_eq!(secrets.anthropic_api_key.as_deref(), Some("hunter1"));
        assert_eq!(secrets.claude_code_oauth_token, None);
        assert_eq!(secrets.git_token.as_deref(), Some("hunter2"));
        assert!(!format!("{secrets:?}").contains("hunter"));
        let names = serde_json::to_string(&secrets.names_only()).unwrap();
        assert_eq!(
            names,
            r#"{"anthropicApiKey":"anthropicApiKey","gitToken":"gitToken"}"#
        );
    }

    #[test]
    fn no_refusal_repeats_what_was_given() {
        for bad in [
            r#""hunter2hunter2""#,
            r#"["hunter2hunter2"]"#,
            "77077077",
            "-77077077",
            "7707.7077",
            "true",
            r#"{"gitToken":77077077}"#,
            r#"{"gitToken":-77077077}"#,
            r#"{"gitToken":7707.7077}"#,
            r#"{"gitToken":["hunter2hunter2"]}"#,
            r#"{"gitToken":{"hunter2hunter2":1}}"#,
            r#"{"hunter2hunter2":"x"}"#,
            r#"{"gitToken":"hunter2hunter2","gitToken":"hunter2hunter2"}"#,
            r#"{"gitToken":"hunter2hunter2""#,
        ] {
            let error = serde_json::from_str::<JobSecrets>(bad)
                .unwrap_err()
                .to_string();
            assert!(
                !error.contains("hunter2") && !error.contains("7707"),
                "{bad}: {error}"
            );
        }
    }
}
