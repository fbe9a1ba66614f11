//! Every statement prepares, and none that runs often reads more rows than it returns.

use rusqlite::{Connection, StatementStatus};

use crate::UsageKey;
use crate::{
    claim, clients, continued, credentials, dependencies, holding, jobs, lanes, ledger, lists,
    once, open, outbox, purse, retention, seals, tally, usage,
};

/// Run for every request or every claim, so their cost must not grow with history.
const HOT: &[&str] = &[
    clients::BY_ID,
    clients::IS_THERE,
    clients::BY_REPO,
    clients::BY_OS_CLIENT_ID,
    clients::COUNTS,
    jobs::INSERT,
    jobs::INSERT_PROMPT,
    jobs::INSERT_OPTIONS,
    jobs::INSERT_HISTORY,
    jobs::STORED,
    jobs::UPDATE,
    jobs::COUNT_SEAL,
    jobs::BRANCH_HOLDER,
    continued::INSERT,
    continued::OF_SESSION,
    continued::UNFINISHED,
    jobs::BY_ID,
    ledger::INSERT,
    ledger::IS_BOOKED,
    ledger::OF_SESSION,
    ledger::RATES,
    ledger::ADD_TO_DAY,
    ledger::ADD_TO_SPENT,
    jobs::ADD_COST,
    holding::HELD,
    holding::IN_BRIEF,
    jobs::HISTORY,
    claim::DUE,
    dependencies::STATUS,
    dependencies::INSERT,
    dependencies::ENDED,
    dependencies::NEWS,
    dependencies::ALL_OF,
    dependencies::SETTLE,
    lists::WAITING_FOR_JOBS,
    claim::MISDATED,
    claim::PROMOTE,
    claim::NEXT_NOT_BEFORE,
    lanes::HEAD,
    lanes::LANE,
    lanes::TAG,
    lanes::SET,
    lanes::SET_TAG,
    lanes::NEXT_OPEN,
    lanes::WAITING,
    lanes::BEFORE,
    lanes::ANY_RUNNING,
    lanes::IN_LINE,
    lanes::NEXT_IN_LINE,
    lanes::COUNT_AHEAD,
    claim::RELEASE_UNPAID_OF,
    credentials::IN_USE,
    credentials::ONE,
    credentials::TOLD,
    purse::SPENT,
    purse::RESERVED,
    purse::RESERVED_BY_CLIENT,
    lists::SEQ_OF,
    lists::SUMMARY,
    lists::RUNNING,
    lists::READY_COUNT,
    lists::PARKED,
    outbox::INSERT,
    outbox::NEXT_ENDPOINT,
    outbox::FIRST_OF,
    outbox::TO_SEND,
    outbox::INSERT_TRY,
    outbox::AFTER_TRY,
    outbox::AGAIN,
    outbox::OF_JOB,
    outbox::TRIES,
    retention::ENDED,
    retention::IS_THERE,
    holding::QUEUED_WITH_OWN_KEYS,
    once::REMEMBER,
    once::FIND,
    once::FORGET,
    seals::INSERT,
    seals::OF_JOB,
    seals::ENDED,
    seals::UNSEALED,
    seals::SEALED,
    tally::ADD,
    tally::BEGIN,
];

/// These go over the clients, of which there are few, and once at the start over what is parked.
const OTHERS: &[&str] = &[
    claim::RELEASE_UNPAID,
    credentials::ALL,
    claim::RELEASE_UNPOWERED,
    credentials::INSERT,
    credentials::STOP,
    credentials::RESUME,
    credentials::LOGGED_OUT,
    credentials::LOGGED_IN,
    credentials::FINGERPRINT,
    credentials::KNOWN,
    credentials::FORGET,
    clients::ALL,
    clients::INSERT,
    clients::UPDATE,
    clients::DELETE,
];

fn database() -> (Connection, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let opened = open::open(&dir.path().join("agent.db")).unwrap();
    (opened.writer, dir)
}

/// The steps SQLite would take, in its own words.
fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
    // Values that are not bound are null, which changes no plan.
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get(3).unwrap());
    }
    steps
}

fn assert_cheap(conn: &Connection, sql: &str) {
    for step in plan(conn, sql) {
        // What a subquery reads is a step of its own.
        let harmless = step == "SCAN CONSTANT ROW" || step.starts_with("SCAN (subquery");
        let scans_a_table = step.starts_with("SCAN") && !harmless;
        assert!(!scans_a_table, "{step}\n{sql}");
        assert!(!step.contains("TEMP B-TREE"), "{step}\n{sql}");
    }
}

#[test]
fn every_statement_prepares() {
    let (conn, _dir) = database();
    for sql in HOT.iter().chain(OTHERS) {
        conn.prepare(sql).unwrap();
    }
}

#[test]
fn no_hot_statement_scans_a_table_or_sorts() {
    let (conn, _dir) = database();
    for sql in HOT {
        assert_cheap(&conn, sql);
    }
}

#[test]
fn a_page_of_any_combination_of_filters_comes_out_of_an_index_in_order() {
    let (conn, _dir) = database();
    for statuses in 0..=5 {
        assert_cheap(&conn, &lists::page_sql(statuses, false));
    }
    for statuses in 1..=5 {
        assert_cheap(&conn, &lists::page_sql(statuses, true));
    }
}

#[test]
fn what_was_spent_is_found_by_its_days_and_no_others_are_read() {
    let (conn, _dir) = database();
    let two = [UsageKey::Client, UsageKey::Model];
    for by in [&[][..], &[UsageKey::Day], &two, &UsageKey::ALL] {
        for of_client in [false, true] {
            let steps = plan(&conn, &usage::sql_of(by, of_client));
            assert!(steps[0].starts_with("SEARCH u USING"), "{steps:?}");
            assert!(steps[0].contains("day>? AND day<?"), "{steps:?}");
        }
    }
}

#[test]
fn the_check_itself_notices_a_scan_and_a_sort() {
    let (conn, _dir) = database();
    let scan = plan(&conn, "SELECT 1 FROM jobs WHERE title = 'x'");
    assert!(
        scan.iter().any(|step| step.starts_with("SCAN jobs")),
        "{scan:?}"
    );
    let sort = plan(
        &conn,
        "SELECT 1 FROM jobs WHERE status = 'x' ORDER BY title",
    );
    assert!(
        sort.iter().any(|step| step.contains("TEMP B-TREE")),
        "{sort:?}"
    );
}

#[test]
fn binding_another_value_does_not_prepare_a_statement_anew() {
    let (conn, _dir) = database();
    let mut statement = conn.prepare(lists::SUMMARY).unwrap();
    for seq in 1..=3 {
        assert!(!statement.exists([seq]).unwrap());
    }
    assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
}
