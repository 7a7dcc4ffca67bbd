//! A report as Markdown.

use super::page::{Block, Cell, Page};

pub(super) fn write(page: &Page) -> String {
    let mut text = format!("# {}\n\n**{}**\n", escaped(&page.title), escaped(&page.result.1));
    for section in &page.sections {
        text.push_str(&format!("\n## {}\n", section.title));
        for block in &section.blocks {
            text.push('\n');
            match block {
                Block::Text(sentence) => text.push_str(&format!("{}\n", escaped(sentence))),
                Block::Table { heads, rows } => {
                    text.push_str(&row(heads.iter().map(|head| (*head).to_owned())));
                    text.push_str(&row(heads.iter().map(|_| "---".to_owned())));
                    rows.iter().for_each(|cells| text.push_str(&row(cells.iter().map(cell))));
                }
                Block::Said { head, lines } => {
                    let fence = fence(lines);
                    text.push_str(&format!(
                        "{}\n\n{fence}text\n{}\n{fence}\n",
                        escaped(head),
                        lines.join("\n")
                    ));
                }
            }
        }
    }
    text.push_str(&format!("\n{}\n", escaped(&page.foot)));
    text
}

fn cell(cell: &Cell) -> String {
    escaped(&cell.text)
}

fn row(cells: impl Iterator<Item = String>) -> String {
    cells.fold("|".to_owned(), |row, cell| format!("{row} {cell} |")) + "\n"
}

/// Longer than any run of backticks in what it fences.
fn fence(lines: &[String]) -> String {
    let longest = |line: &String| line.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(lines.iter().map(longest).max().unwrap_or(0).max(2) + 1)
}

/// What would be read as Markdown or HTML is only shown.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' | '!') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
