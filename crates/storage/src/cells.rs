//! How values of every kind are bound to a statement.

use std::fmt::Display;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use agent_domain::Timestamp;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use crate::StoreError;

/// One value to be bound.
pub(crate) type Cell<'a> = ToSqlOutput<'a>;

/// Times are stored to the microsecond.
pub(crate) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(crate) fn duration(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn option<'a, T>(value: Option<T>, cell: impl FnOnce(T) -> Cell<'a>) -> Cell<'a> {
    value.map_or(Cell::Owned(Value::Null), cell)
}

pub(crate) const fn int<'a>(number: i64) -> Cell<'a> {
    Cell::Owned(Value::Integer(number))
}

pub(crate) const fn text(text: &str) -> Cell<'_> {
    Cell::Borrowed(ValueRef::Text(text.as_bytes()))
}

/// An id.
pub(crate) fn owned<'a>(id: &impl Display) -> Cell<'a> {
    Cell::Owned(Value::Text(id.to_string()))
}

pub(crate) fn path(path: &Path) -> Cell<'_> {
    path.to_str().map_or_else(
        || Cell::Borrowed(ValueRef::Blob(path.as_os_str().as_bytes())),
        text,
    )
}

/// SQLite's numbers are signed.
pub(crate) fn whole<'a>(number: u64) -> Result<Cell<'a>, StoreError> {
    i64::try_from(number)
        .map(int)
        .map_err(|_| StoreError::Internal(format!("{number} is too large to be stored")))
}

pub(crate) fn whole_option<'a>(number: Option<u64>) -> Result<Cell<'a>, StoreError> {
    number.map_or(Ok(Cell::Owned(Value::Null)), whole)
}
