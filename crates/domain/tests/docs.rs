//! What the documentation says of the domain is what the domain is.

use agent_domain::{FAILURES, PermissionMode, Phase, Reason, Status};

const API: &str = include_str!("../../../docs/API.md");
const OUTCOMES: &str = include_str!("../../../docs/OUTCOMES.md");

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

#[test]
fn the_table_of_outcomes_is_the_one_that_jobs_are_judged_by() {
    let row = |failure: &agent_domain::Failure| {
        let agent_domain::Failure {
            situation,
            told_by,
            reason,
            policy,
            ..
        } = failure;
        format!("| {situation} | {told_by} | `{reason}` | {policy} |\n")
    };
    let rows: String = FAILURES.iter().map(row).collect();
    let head = "| what happened | told by | reason | what is done |\n|---|---|---|---|\n";
    assert!(
        OUTCOMES.contains(&format!("{head}{rows}\n")),
        "docs/OUTCOMES.md should have:\n{head}{rows}"
    );
}
