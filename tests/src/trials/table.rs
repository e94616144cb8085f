//! Plain aligned text, with colour on a terminal.

use std::fmt::Write as _;
use std::io::IsTerminal;

use sluice_schemas::fate::Fate;

/// Rows of cells; the last cell of a row takes what width it needs.
pub struct Table {
    rows: Vec<(Option<Fate>, Vec<String>)>,
    colour: bool,
}

impl Table {
    /// An empty table for standard output.
    pub fn new() -> Self {
        Self {
            rows: Vec::new(),
            colour: std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }

    /// Adds a row, in the colour of a fate.
    pub fn row(&mut self, fate: Option<Fate>, cells: &[&str]) {
        let cells = cells.iter().map(|cell| (*cell).to_owned()).collect();
        self.rows.push((fate, cells));
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
        for (fate, cells) in &self.rows {
            let mut line = String::from(" ");
            for (cell, width) in cells.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, " {cell:width$} ");
            }
            text.push_str(&self.paint(*fate, line.trim_end()));
            text.push('\n');
        }
        text
    }

    fn paint(&self, fate: Option<Fate>, line: &str) -> String {
        let code = match fate {
            _ if !self.colour => return line.to_owned(),
            None => return line.to_owned(),
            Some(Fate::Event) => "32",
            Some(Fate::Duplicate) => "36",
            Some(Fate::Rejected) => "31",
            Some(Fate::DeadLetter) => "33",
        };
        format!("\u{1b}[{code}m{line}\u{1b}[0m")
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
