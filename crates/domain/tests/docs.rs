//! What the documentation says of the domain is what the domain is.

use agent_domain::{PermissionMode, Phase, Reason, Status};

const API: &str = include_str!("../../../docs/API.md");

#[test]
fn every_reason_status_and_phase_is_documented() {
    let codes = Reason::ALL.iter().map(|reason| reason.code());
    let names = Status::ALL.iter().map(|status| status.as_str());
    let phases = Phase::ALL.iter().map(|phase| phase.as_str());
    for code in codes.chain(names).chain(phases) {
        assert!(
            API.contains(&format!("`{code}`")),
            "docs/API.md does not name {code}"
        );
    }
}

#[test]
fn every_permission_mode_reads_back_as_the_cli_spells_it() {
    for mode in PermissionMode::ALL {
        assert_eq!(mode.as_str().parse(), Ok(mode));
    }
    assert!("bypass".parse::<PermissionMode>().is_err());
}
