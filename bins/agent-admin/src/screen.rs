//! Output: tables for people, aligned columns for pipes, JSON for programs.

use std::io::{self, BufWriter, IsTerminal as _, Write};

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};
use serde::Serialize;

/// Where answers go, and in which form.
pub(crate) struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    json: bool,
}

/// Narrowest terminal in which a table with a column of ids is shown as one.
const TABLE_WIDTH_MIN: u16 = 72;

impl Screen {
    /// Standard output.
    pub(crate) fn stdout(json: bool) -> Self {
        let out = io::stdout();
        Self {
            terminal: out.is_terminal(),
            out: Box::new(BufWriter::new(out)),
            json,
        }
    }

    /// Whether JSON is wanted.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at it directly.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Writes what is still held back.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Writes a line, unless JSON is wanted.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        if self.json {
            Ok(())
        } else {
            writeln!(self.out, "{}", one_line(text))
        }
    }

    /// Writes a value as JSON over several lines, if JSON is wanted; returns whether it was.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> io::Result<bool> {
        if self.json {
            serde_json::to_writer_pretty(&mut self.out, value)?;
            self.out.write_all(b"\n")?;
        }
        Ok(self.json)
    }

    /// Writes a value as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    /// Writes rows under a head.
    pub(crate) fn table(&mut self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let rows = rows
            .into_iter()
            .map(|row| row.iter().map(|cell| one_line(cell)).collect());
        let rows: Vec<Vec<String>> = rows.collect();
        if self.terminal {
            let mut table = Table::new();
            table
                .load_style(presets::UTF8_HORIZONTAL_ONLY)
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_header(head)
                .add_rows(rows.clone());
            // Ids are for copying: never wrapped.
            if let Some(ids) = table.column_mut(0) {
                ids.set_constraint(ColumnConstraint::ContentWidth);
            }
            // Where little room is left beside the ids, wrapped cells are harder to read than long
            // lines.
            if table.width().is_some_and(|width| width >= TABLE_WIDTH_MIN) {
                return writeln!(self.out, "{table}");
            }
        }
        self.out.write_all(aligned(head, &rows).as_bytes())
    }

    /// Writes named values, one a line; those without a value are left out.
    pub(crate) fn record(&mut self, fields: &[(&str, Option<String>)]) -> io::Result<()> {
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
        for (name, value) in fields {
            if let Some(value) = value {
                let name = format!("{name}:");
                writeln!(self.out, "{name:<width$} {}", one_line(value))?;
            }
        }
        Ok(())
    }
}

/// Makes a text safe for one line of a terminal: control characters are shown, not obeyed.
pub(crate) fn one_line(text: &str) -> String {
    visible(text, |_| false)
}

/// The same for a text of several lines.
pub(crate) fn lines(text: &str) -> String {
    visible(text, |c| matches!(c, '\n' | '\t'))
}

fn visible(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && !keep(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn aligned(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        all.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in all {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_in_characters() {
        let rows = vec![vec!["ää".into(), "x".into()], vec!["b".into(), "yy".into()]];
        assert_eq!(aligned(&["ID", "NAME"], &rows), "ID  NAME\nää  x\nb   yy\n");
    }

    #[test]
    fn control_characters_of_others_are_shown_and_not_obeyed() {
        assert_eq!(one_line("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(lines("a\u{7}\n\tb"), "a\\u{7}\n\tb");
    }
}
