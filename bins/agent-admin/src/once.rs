//! Calls that are sent again when their answer does not arrive, and done once all the same.

use std::time::Duration;

use agent_client::{Client, ClientError};

use crate::failure::Failure;

/// Waits before repeats of a call whose answer did not arrive: together a quarter of a minute,
/// enough for a server that is being restarted.
const WAITS: [Duration; 4] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];

/// Makes `call` under `key`, or one of its own, until its answer arrives.
pub(crate) fn call<T>(
    client: &Client,
    key: Option<String>,
    call: impl Fn(&Client) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let key = match key {
        Some(key) => key,
        None => fresh_key()?,
    };
    let client = client.once(&key)?;
    let (mut waits, mut lost) = (WAITS.iter(), false);
    loop {
        let error = match call(&client) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        lost |= error.may_have_arrived();
        let again = lost && is_passing(&error);
        match waits.next() {
            Some(wait) if again => std::thread::sleep(*wait),
            _ if again => return Err(Failure::Unanswered { error, key }),
            _ => return Err(error.into()),
        }
    }
}

fn is_passing(error: &ClientError) -> bool {
    error.is_transient() || error.code() == Some("idempotency_in_flight")
}

fn fresh_key() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure::Input {
        name: "the system's random numbers".into(),
        error: std::io::Error::other(error.to_string()),
    })?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}
