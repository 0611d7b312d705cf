//! Tables: columns as wide as their widest cell and five spaces, as istioctl's, without blanks at the end of a line.

/// Blanks between columns.
const GAP: usize = 5;

/// How a cell is to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Plain,
    /// Worth a look.
    Warning,
    /// Something is wrong.
    Alarm,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    look: Look,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            look: Look::Plain,
        }
    }
}

impl Cell {
    /// Worth a look.
    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            look: Look::Warning,
        }
    }

    /// Something is wrong.
    pub(crate) fn alarm(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            look: Look::Alarm,
        }
    }

    /// What comes from elsewhere must not steer the terminal.
    fn clean(&self) -> String {
        self.text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    }
}

/// A table: a heading, and rows of as many cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self {
            heading: heading.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// As it is printed.
    pub(crate) fn text(&self, colored: bool) -> String {
        let heading: Vec<Cell> = self.heading.iter().map(|name| Cell::from(*name)).collect();
        let lines: Vec<Vec<(String, Look)>> = std::iter::once(&heading)
            .chain(&self.rows)
            .map(|row| row.iter().map(|cell| (cell.clean(), cell.look)).collect())
            .collect();
        let width = |column: usize| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let mut all = String::new();
        for line in &lines {
            let last = line.iter().rposition(|(text, _)| !text.is_empty());
            for (at, (text, look)) in line.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
                all.push_str(&painted(text, *look, colored));
                if Some(at) != last {
                    let blanks = widths.get(at).copied().unwrap_or(0) + GAP - text.chars().count();
                    all.extend(std::iter::repeat_n(' ', blanks));
                }
            }
            all.push('\n');
        }
        all
    }
}

fn painted(text: &str, look: Look, colored: bool) -> String {
    let code = match look {
        Look::Plain => return text.to_owned(),
        _ if !colored => return text.to_owned(),
        Look::Warning => 33,
        Look::Alarm => 31,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_where_their_text_does() {
        let mut table = Table::new(&["NAME", "SUBSET", "STATUS"]);
        table.row(["outbound|80||web".into(), "".into(), Cell::alarm("REJECTED")]);
        table.row(["ä".into(), "v1".into(), "".into()]);
        table.row(["a\u{1b}[2Jb\n".into(), "".into(), "".into()]);
        let plain = "NAME                 SUBSET     STATUS\n\
                     outbound|80||web                REJECTED\n\
                     ä                    v1\n\
                     a [2Jb \n";
        assert_eq!(table.text(false), plain);
        assert_eq!(
            table.text(true),
            plain.replace("REJECTED", "\u{1b}[31mREJECTED\u{1b}[0m")
        );
    }
}
