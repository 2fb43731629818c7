//! Tables: aligned columns that fit the terminal, tab-separated values, or CSV.

use unicode_width::UnicodeWidthStr as _;

use super::color::Color;
use crate::printable::printable;

/// Spaces between aligned columns.
const GAP: usize = 2;

/// The last column is not shortened below this width; it may exceed the terminal then.
const LAST_WIDTH_MIN: usize = 8;

/// What marks a shortened cell.
const CUT: &str = "...";

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    heading: &'static str,
    /// 0: always shown. Of the others, those with the highest number are dropped first if the
    /// table does not fit.
    priority: u8,
    /// The cells are states, which are colored.
    is_state: bool,
}

impl Column {
    /// A column that is always shown.
    pub(super) const fn new(heading: &'static str) -> Self {
        Self {
            heading,
            priority: 0,
            is_state: false,
        }
    }

    /// A column that is dropped if the table does not fit; the highest `priority` goes first.
    pub(super) const fn optional(heading: &'static str, priority: u8) -> Self {
        Self {
            heading,
            priority,
            is_state: false,
        }
    }

    /// A column of states.
    pub(super) const fn state(heading: &'static str) -> Self {
        Self {
            heading,
            priority: 0,
            is_state: true,
        }
    }
}

/// How to align a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alignment {
    /// The width to fit into, in characters; `None` for any width.
    pub(super) width: Option<usize>,
    pub(super) headings: bool,
    pub(super) color: bool,
}

/// The columns that are shown, the widths of all, and the width to fit into.
struct Layout {
    shown: Vec<usize>,
    widths: Vec<usize>,
    width: Option<usize>,
}

/// Rows of cells with column headings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(super) fn new(columns: impl Into<Vec<Column>>) -> Self {
        Self {
            columns: columns.into(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; it must have one cell per column.
    pub(super) fn push(&mut self, row: impl IntoIterator<Item = String>) {
        let row: Vec<String> = row.into_iter().collect();
        debug_assert_eq!(row.len(), self.columns.len());
        self.rows.push(row);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Aligned columns. Columns are dropped, and then the last one is shortened, to fit the width.
    /// Control characters are escaped.
    pub(super) fn aligned(&self, alignment: Alignment) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let rows: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| printable(cell)).collect())
            .collect();
        let widths: Vec<usize> = (0..self.columns.len())
            .map(|index| self.column_width(index, &rows, alignment.headings))
            .collect();
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        if let Some(width) = alignment.width {
            self.drop_columns(&mut shown, &widths, width);
        }
        let layout = Layout {
            shown,
            widths,
            width: alignment.width,
        };
        let mut text = String::new();
        if alignment.headings {
            let headings: Vec<String> = self.columns.iter().map(|it| it.heading.into()).collect();
            self.write_row(&mut text, &headings, &layout, false);
        }
        for row in &rows {
            self.write_row(&mut text, row, &layout, alignment.color);
        }
        text
    }

    /// The width of a column. An empty column has none, although it has a heading.
    fn column_width(&self, index: usize, rows: &[Vec<String>], headings: bool) -> usize {
        let cells = rows.iter().map(|row| row[index].width());
        let heading = if headings {
            self.columns[index].heading.width()
        } else {
            0
        };
        cells.max().unwrap_or(0).max(heading)
    }

    /// Drops optional columns until the table fits `width` or there is none left.
    fn drop_columns(&self, shown: &mut Vec<usize>, widths: &[usize], width: usize) {
        let total = |shown: &[usize]| {
            let columns = shown.iter().map(|&index| widths[index]).sum::<usize>();
            columns + GAP * (shown.len() - 1)
        };
        while total(shown) > width {
            let least = (0..shown.len()).max_by_key(|&at| self.columns[shown[at]].priority);
            match least {
                Some(at) if self.columns[shown[at]].priority > 0 => _ = shown.remove(at),
                _ => return,
            }
        }
    }

    fn write_row(&self, text: &mut String, row: &[String], layout: &Layout, color: bool) {
        let start = text.len();
        let mut used = 0;
        for (position, &index) in layout.shown.iter().enumerate() {
            let is_last = position + 1 == layout.shown.len();
            let left = layout.width.filter(|_| is_last);
            let cell = match left {
                Some(width) => {
                    let left = width.saturating_sub(used).max(LAST_WIDTH_MIN);
                    shortened(&row[index], left)
                }
                None => row[index].clone(),
            };
            let is_colored = color && self.columns[index].is_state;
            match Color::of_state(&cell).filter(|_| is_colored) {
                Some(color) => text.push_str(&color.paint(&cell)),
                None => text.push_str(&cell),
            }
            if !is_last {
                let padding = layout.widths[index] - cell.width() + GAP;
                text.extend(std::iter::repeat_n(' ', padding));
                used += layout.widths[index] + GAP;
            }
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }

    /// One line per row without headings, with a tab between cells. Control characters are escaped.
    pub(super) fn tabbed(&self) -> String {
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().map(|cell| printable(cell)).collect();
            cells.join("\t") + "\n"
        };
        self.rows.iter().map(line).collect()
    }

    /// Comma-separated values (RFC 4180) with lines that end in a line feed.
    pub(super) fn csv(&self, headings: bool) -> String {
        let mut text = String::new();
        if headings {
            let headings = self.columns.iter().map(|column| quoted(column.heading));
            text += &(headings.collect::<Vec<_>>().join(",") + "\n");
        }
        for row in &self.rows {
            let cells = row.iter().map(|cell| quoted(&printable(cell)));
            text += &(cells.collect::<Vec<_>>().join(",") + "\n");
        }
        text
    }

    /// The first cell of each row, one per line. Control characters are escaped.
    pub(super) fn names(&self) -> String {
        let line = |row: &Vec<String>| printable(&row[0]) + "\n";
        self.rows.iter().map(line).collect()
    }
}

/// A CSV cell.
fn quoted(cell: &str) -> String {
    if cell.contains([',', '"']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

/// The start of `text` that fits `width`, with dots if it is not all of it.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut start = String::new();
    let mut used = CUT.len();
    for c in text.chars() {
        used += unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if used > width {
            break;
        }
        start.push(c);
    }
    start + CUT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new([
            Column::new("NODE"),
            Column::optional("UUID", 2),
            Column::optional("MODE", 1),
            Column::state("STATE"),
            Column::new("NOTE"),
        ]);
        let row = |cells: [&str; 5]| cells.map(str::to_owned);
        table.push(row(["node1", "08da5ee1-c379", "rw", "up", "a long remark"]));
        table.push(row([
            "n\u{e9}\t\u{1b}[31m",
            "",
            "ro",
            "offline",
            "\u{6f22}\u{5b57}, \"",
        ]));
        table
    }

    fn aligned(width: Option<usize>) -> String {
        table().aligned(Alignment {
            width,
            headings: true,
            color: false,
        })
    }

    #[test]
    fn tabbed_output_has_no_headings() {
        let text = table().tabbed();
        assert_eq!(
            text.lines().next(),
            Some("node1\t08da5ee1-c379\trw\tup\ta long remark")
        );
        assert!(text.contains("n\u{e9}\\t\\u{1b}[31m\t\tro"), "{text}");
    }

    #[test]
    fn columns_are_dropped_and_the_last_is_shortened() {
        let all = "NODE            UUID           MODE  STATE    NOTE";
        assert_eq!(aligned(None).lines().next(), Some(all));
        assert_eq!(aligned(Some(80)).lines().next(), Some(all));
        let without_uuid = "NODE            MODE  STATE    NOTE";
        assert_eq!(aligned(Some(50)).lines().next(), Some(without_uuid));
        let narrow = aligned(Some(36));
        assert_eq!(
            narrow.lines().collect::<Vec<_>>(),
            [
                "NODE            STATE    NOTE",
                "node1           up       a long r...",
                "n\u{e9}\\t\\u{1b}[31m  offline  \u{6f22}\u{5b57}, \"",
            ]
        );
        for line in narrow.lines() {
            assert!(line.width() <= 36, "{line}");
        }
    }

    #[test]
    fn states_have_the_usual_colors() {
        let text = table().aligned(Alignment {
            width: None,
            headings: false,
            color: true,
        });
        assert!(text.contains("\u{1b}[32mup\u{1b}[0m"), "{text:?}");
        assert!(text.contains("\u{1b}[31moffline\u{1b}[0m"), "{text:?}");
        assert_eq!(text.matches('\u{1b}').count(), 4, "{text:?}");
    }

    #[test]
    fn csv_is_quoted_where_needed() {
        let csv = table().csv(true);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines[0], "NODE,UUID,MODE,STATE,NOTE");
        assert_eq!(
            lines[2],
            "n\u{e9}\\t\\u{1b}[31m,,ro,offline,\"\u{6f22}\u{5b57}, \"\"\""
        );
        assert_eq!(table().csv(false).lines().count(), 2);
    }

    #[test]
    fn names_are_the_first_column() {
        assert_eq!(table().names(), "node1\nn\u{e9}\\t\\u{1b}[31m\n");
        assert_eq!(Table::new([Column::new("NODE")]).names(), "");
    }
}
