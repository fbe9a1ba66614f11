//! Plain tables with aligned columns.

/// Rows of cells; the first column is text, the others are numbers.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self {
            rows: vec![headings.iter().map(|&heading| heading.into()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(std::iter::once(name.to_owned()).chain(cells).collect());
    }

    /// Prints it under a title, with an empty line behind.
    pub(crate) fn print(&self, title: &str) {
        println!("{title}\n\n{}", self.text());
    }

    fn text(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let aligned = match column {
                    0 => format!("  {cell:<width$}"),
                    _ => format!("  {cell:>width$}"),
                };
                line.push_str(&aligned);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_at_the_left_and_numbers_at_the_right() {
        let mut table = Table::new(&["what", "ms"]);
        table.row("a long name", ["7".into()]);
        table.row("b", ["123.4".into()]);
        assert_eq!(
            table.text(),
            "  what            ms\n  a long name      7\n  b            123.4\n"
        );
    }
}
