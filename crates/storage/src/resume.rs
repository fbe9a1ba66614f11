//! The session in which a job goes on, as JSON in one column.

use std::borrow::Cow;

use agent_domain::Resume;
use rusqlite::types::Value;

use crate::StoreError;
use crate::rows::{Cell, Columns};

/// How a session to go on in is stored: its id, retries.
type ResumeForm<'a> = (Cow<'a, str>, u32);

pub(crate) fn resume(columns: &mut Columns<'_, '_>) -> Result<Option<Resume>, StoreError> {
    let Some(text) = columns.take::<Option<String>>()? else {
        return Ok(None);
    };
    let form: ResumeForm<'_> =
        serde_json::from_str(&text).map_err(|error| columns.corrupt(&error))?;
    let (session_id, retries) = form;
    let session_id = session_id.into_owned();
    Ok(Some(Resume {
        session_id,
        retries,
    }))
}

pub(crate) fn resume_cell<'a>(resume: Option<&Resume>) -> Result<Cell<'a>, StoreError> {
    let Some(resume) = resume else {
        return Ok(Cell::Owned(Value::Null));
    };
    let form: ResumeForm<'_> = (resume.session_id.as_str().into(), resume.retries);
    serde_json::to_string(&form)
        .map(|text| Cell::Owned(Value::Text(text)))
        .map_err(|error| StoreError::Internal(error.to_string()))
}
