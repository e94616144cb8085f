//! A table as plain aligned text, with colour on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use sluice_schemas::fate::Fate;

/// The colour of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// What is wanted: events, or a state in which all is well.
    Green,
    /// What is usual and needs nothing: duplicates.
    Cyan,
    /// What may need operator action: dead letters.
    Yellow,
    /// What was refused, or is at fault.
    Red,
}

impl Colour {
    /// The code of ECMA-48 that selects it for text.
    const fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Cyan => "36",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

impl From<Fate> for Colour {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Event => Self::Green,
            Fate::Duplicate => Self::Cyan,
            Fate::Rejected => Self::Red,
            Fate::DeadLetter => Self::Yellow,
        }
    }
}

/// Rows of cells; a column is as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    rows: Vec<(Option<Colour>, Vec<String>)>,
    colour: bool,
}

impl Table {
    /// An empty table for standard output: in colour on a terminal, unless the variable `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        Self::new(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    /// An empty table, whose rows have their colours or none.
    pub fn new(colour: bool) -> Self {
        Self {
            rows: Vec::new(),
            colour,
        }
    }

    /// Adds a row.
    pub fn row(&mut self, colour: Option<Colour>, cells: &[&str]) {
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        self.rows.push((colour, cells));
    }

    /// The lines, aligned.
    pub fn render(&self) -> String {
        let columns = self
            .rows
            .iter()
            .map(|(_, cells)| cells.len())
            .max()
            .unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
                cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for (colour, cells) in &self.rows {
            let mut line = String::from(" ");
            for (cell, width) in cells.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, " {cell:width$} ");
            }
            text.push_str(&self.paint(*colour, line.trim_end()));
            text.push('\n');
        }
        text
    }

    fn paint(&self, colour: Option<Colour>, line: &str) -> String {
        match colour.filter(|_| self.colour) {
            None => line.to_owned(),
            Some(colour) => format!("\u{1b}[{}m{line}\u{1b}[0m", colour.code()),
        }
    }
}

/// A text cut to a width, with an ellipsis where it was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters_and_rows_painted_whole() {
        for (colour, start, end) in [(false, "", ""), (true, "\u{1b}[31m", "\u{1b}[0m")] {
            let mut table = Table::new(colour);
            table.row(None, &["FATE", "WHY"]);
            table.row(Some(Fate::Rejected.into()), &["é", "stale", "x"]);
            let painted = format!("{start}  é     stale  x{end}");
            assert_eq!(table.render(), format!("  FATE  WHY\n{painted}\n"));
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("ééé", 3), "ééé");
        assert_eq!(cut("éééé", 3), "éé…");
        assert_eq!(cut("a", 0), "…");
    }
}
