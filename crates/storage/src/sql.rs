//! Running one prepared statement: for its rows, its only row, or the number of rows it changed.

use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::StoreError;

/// Runs a statement that changes rows, and says how many.
pub(crate) fn run(conn: &Connection, sql: &str, params: impl Params) -> Result<usize, StoreError> {
    Ok(conn.prepare_cached(sql)?.execute(params)?)
}

/// Returns the first row, if there is one.
pub(crate) fn one<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    decode: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let decoded = statement
        .query_row(params, |row| Ok(decode(row)))
        .optional()?;
    decoded.transpose()
}

/// Returns every row.
pub(crate) fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    decode: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let rows = statement.query_and_then(params, decode)?;
    rows.collect()
}

/// Runs `read` on one state of the database, however many statements it takes.
pub(crate) fn snapshot<T>(
    conn: &Connection,
    read: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Rolled back when dropped: there is nothing to keep.
    let transaction = conn.unchecked_transaction()?;
    read(&transaction)
}
