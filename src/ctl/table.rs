//! Tables: aligned columns on a terminal, tab-separated values otherwise.

use std::io::{self, IsTerminal as _};

use comfy_table::{ColumnConstraint, ContentArrangement, Width, presets};

use crate::printable::printable;

/// Rows of cells with column headings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(super) fn new<const COLUMNS: usize>(headings: [&'static str; COLUMNS]) -> Self {
        Self {
            headings: headings.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it must have one cell per heading. Control characters are escaped.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = String>) {
        let row: Vec<String> = row.into_iter().map(|cell| printable(&cell)).collect();
        debug_assert_eq!(row.len(), self.headings.len());
        self.rows.push(row);
    }

    /// The format for standard output: aligned on a terminal, tab-separated otherwise.
    pub(super) fn for_stdout(&self) -> String {
        if io::stdout().is_terminal() {
            self.aligned(width())
        } else {
            self.tabbed()
        }
    }

    /// Headings and aligned columns. With a `width`, the last column is wrapped to fit into it.
    pub(super) fn aligned(&self, width: Option<u16>) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING);
        if let Some(width) = width {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_width(width);
        }
        table.set_header(&self.headings);
        table.add_rows(&self.rows);
        let last = self.headings.len() - 1;
        for column in table.column_iter_mut() {
            // Names and numbers are not wrapped, so that they can be copied. Long text is in the
            // last column, which is wrapped.
            if column.index < last {
                column.set_padding((0, 2));
                column.set_constraint(ColumnConstraint::ContentWidth);
            } else {
                let heading = self.headings[last].len().try_into().unwrap_or(u16::MAX);
                column.set_padding((0, 0));
                column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(heading)));
            }
        }
        let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
        lines.collect()
    }

    /// One line per row without headings, with a tab between cells.
    pub(super) fn tabbed(&self) -> String {
        self.rows.iter().map(|row| row.join("\t") + "\n").collect()
    }
}

/// The width of the terminal at standard output, in characters.
fn width() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NODE", "ROLE"]);
        table.push(["node1.example.com".to_owned(), "master".to_owned()]);
        table.push(["n\u{e9}\t\u{1b}[31m".to_owned(), String::new()]);
        table
    }

    #[test]
    fn tabbed_output_has_no_headings() {
        assert_eq!(
            table().tabbed(),
            "node1.example.com\tmaster\nn\u{e9}\\t\\u{1b}[31m\t\n"
        );
    }

    #[test]
    fn aligned_output_has_columns_and_wraps_the_last() {
        let text = table().aligned(None);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "NODE               ROLE");
        assert_eq!(lines[1], "node1.example.com  master");
        assert_eq!(lines.len(), 3);
        let narrow = table().aligned(Some(23));
        assert_eq!(narrow.lines().nth(1), Some("node1.example.com  mast"));
        assert_eq!(Table::new(["NODE"]).aligned(None), "");
    }
}
