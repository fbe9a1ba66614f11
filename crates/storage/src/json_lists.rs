//! Short lists that belong to one job and are stored in its row, as JSON.

use std::borrow::Cow;

use agent_domain::{DeniedCall, LostRun};
use rusqlite::types::Value;
use serde::Serialize;

use crate::StoreError;
use crate::rows::{Cell, Columns, micros, time};

/// How one lost run is stored: attempt, microseconds, what was seen.
type LostRunForm<'a> = (u32, i64, Cow<'a, str>);

pub(crate) fn lost_runs(columns: &mut Columns<'_, '_>) -> Result<Vec<LostRun>, StoreError> {
    let Some(text) = columns.take::<Option<String>>()? else {
        return Ok(Vec::new());
    };
    let runs: Vec<LostRunForm<'_>> =
        serde_json::from_str(&text).map_err(|error| columns.corrupt(&error))?;
    let run =
        |(attempt, at, seen): LostRunForm<'_>| time(at).map(|at| LostRun::new(attempt, at, &seen));
    let runs: Result<_, String> = runs.into_iter().map(run).collect();
    runs.map_err(|error| columns.corrupt(&error))
}

pub(crate) fn lost_runs_cell<'a>(runs: &[LostRun]) -> Result<Cell<'a>, StoreError> {
    let form = |run: &LostRun| (run.attempt, micros(run.at), run.seen.clone());
    list_cell(&runs.iter().map(form).collect::<Vec<_>>())
}

/// How one denied call is stored: id, tool, input.
type DeniedForm<'a> = (Cow<'a, str>, Cow<'a, str>, Option<Cow<'a, str>>);

pub(crate) fn denied(columns: &mut Columns<'_, '_>) -> Result<Vec<DeniedCall>, StoreError> {
    let Some(text) = columns.take::<Option<String>>()? else {
        return Ok(Vec::new());
    };
    let calls: Vec<DeniedForm<'_>> =
        serde_json::from_str(&text).map_err(|error| columns.corrupt(&error))?;
    let call = |(id, tool, input): DeniedForm<'_>| DeniedCall {
        id: id.into_owned(),
        tool: tool.into_owned(),
        input: input.map(Cow::into_owned),
    };
    Ok(calls.into_iter().map(call).collect())
}

pub(crate) fn denied_cell<'a>(calls: &[DeniedCall]) -> Result<Cell<'a>, StoreError> {
    let form = |call: &DeniedCall| (call.id.clone(), call.tool.clone(), call.input.clone());
    list_cell(&calls.iter().map(form).collect::<Vec<_>>())
}

/// A list as JSON; an empty one is nothing.
fn list_cell<'a>(list: &[impl Serialize]) -> Result<Cell<'a>, StoreError> {
    if list.is_empty() {
        return Ok(Cell::Owned(Value::Null));
    }
    serde_json::to_string(list)
        .map(|text| Cell::Owned(Value::Text(text)))
        .map_err(|error| StoreError::Internal(error.to_string()))
}
