//! A report as one HTML file: no script, nothing loaded from elsewhere, readable in light, dark and print.

use super::page::{Block, Cell, Page, Tone};

const STYLE: &str = "\
:root{color-scheme:light dark;--good:#13692c;--bad:#b3261e;--line:#8884}
@media(prefers-color-scheme:dark){:root{--good:#6fd08c;--bad:#ff8a80}}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.15rem;margin-top:2rem}
.result{font-weight:600;margin-top:.25rem}.good{color:var(--good)}.bad{color:var(--bad)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);overflow-wrap:anywhere}
th{font-weight:600}pre{white-space:pre-wrap;overflow-wrap:anywhere;border:1px solid var(--line);border-radius:4px;padding:.6rem}
footer{margin-top:2rem;font-size:.875rem;opacity:.75}";

pub(super) fn write(page: &Page) -> String {
    let title = escaped(&page.title);
    let (tone, result) = &page.result;
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n\
         <p class=\"result{}\">{}</p>\n",
        class(*tone),
        escaped(result)
    );
    for section in &page.sections {
        text.push_str(&format!("<section>\n<h2>{}</h2>\n", escaped(section.title)));
        for block in &section.blocks {
            match block {
                Block::Text(sentence) => text.push_str(&format!("<p>{}</p>\n", escaped(sentence))),
                Block::Table { heads, rows } => text.push_str(&table(heads, rows)),
                Block::Said { head, lines } => {
                    let said = escaped(&lines.join("\n"));
                    text.push_str(&format!("<p>{}</p>\n<pre>{said}</pre>\n", escaped(head)));
                }
            }
        }
        text.push_str("</section>\n");
    }
    text.push_str(&format!("</main>\n<footer>{}</footer>\n</body>\n</html>\n", escaped(&page.foot)));
    text
}

fn table(heads: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut text = "<div class=\"wide\"><table>\n".to_owned();
    // Without heads the first cell of a row says what the row is.
    let has_heads = heads.iter().any(|head| !head.is_empty());
    if has_heads {
        let cells: String =
            heads.iter().map(|head| format!("<th scope=\"col\">{}</th>", escaped(head))).collect();
        text.push_str(&format!("<thead><tr>{cells}</tr></thead>\n"));
    }
    text.push_str("<tbody>\n");
    for row in rows {
        text.push_str("<tr>");
        for (index, Cell { text: content, tone }) in row.iter().enumerate() {
            let content = escaped(content);
            text.push_str(&match (index, has_heads, tone) {
                (0, false, _) => format!("<th scope=\"row\">{content}</th>"),
                (_, _, Tone::Plain) => format!("<td>{content}</td>"),
                (_, _, tone) => format!("<td class=\"{}\">{content}</td>", class(*tone).trim_start()),
            });
        }
        text.push_str("</tr>\n");
    }
    text + "</tbody>\n</table></div>\n"
}

const fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "",
        Tone::Good => " good",
        Tone::Bad => " bad",
    }
}

/// As text between tags and within quotes alike.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
