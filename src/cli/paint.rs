//! Lines of styled text, clipped to a width and painted at the very end.
//!
//! Widths are counted before there are escape sequences, and what came from outside is made printable on
//! its way in, so that nothing but our own escapes can reach a terminal.

use crate::admin::client::printable;
use crate::traffic::Variant;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Dim,
    Place(Variant),
    Trouble,
}

impl Style {
    /// Select Graphic Rendition (ECMA-48, 8.3.117).
    const fn sgr(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Dim => Some("2"),
            Self::Place(Variant::Blue) => Some("1;34"),
            Self::Place(Variant::Green) => Some("1;32"),
            Self::Trouble => Some("31"),
        }
    }
}

/// A piece of text with its style; always printable.
#[derive(Clone, Debug)]
pub(super) struct Span {
    text: String,
    style: Style,
}

impl Span {
    pub(super) fn new(style: Style, text: &str) -> Self {
        Self { text: printable(text), style }
    }

    pub(super) fn width(&self) -> usize {
        self.text.chars().count()
    }

    /// At most `width` wide; what is longer ends in an ellipsis.
    pub(super) fn clipped(mut self, width: usize) -> Self {
        if self.width() > width {
            self.text = self.text.chars().take(width.saturating_sub(1)).collect();
            if width > 0 {
                self.text.push('…');
            }
        }
        self
    }
}

/// A line under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<Span>);

impl Line {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn then(mut self, style: Style, text: &str) -> Self {
        self.0.push(Span::new(style, text));
        self
    }

    pub(super) fn span(mut self, span: Span) -> Self {
        self.0.push(span);
        self
    }

    pub(super) fn width(&self) -> usize {
        self.0.iter().map(Span::width).sum()
    }

    /// `span`, and spaces up to `width`; always one at least.
    pub(super) fn column(self, span: Span, width: usize) -> Self {
        let gap = width.saturating_sub(span.width()).max(1);
        self.span(span).then(Style::Plain, &" ".repeat(gap))
    }

    /// Spaces, then `span`, `width` together.
    pub(super) fn right(self, span: Span, width: usize) -> Self {
        let gap = width.saturating_sub(span.width());
        self.then(Style::Plain, &" ".repeat(gap)).span(span)
    }

    /// The line in at most `width` columns, ending in a line feed.
    pub(super) fn paint(self, width: usize, color: bool, into: &mut String) {
        let total = self.width();
        // A line that does not fit gives its last column to the ellipsis.
        let mut room = if total > width { width.saturating_sub(1) } else { total };
        let mut painted = String::new();
        for Span { text, style } in self.0 {
            let text: String = text.chars().take(room).collect();
            room -= text.chars().count();
            match style.sgr().filter(|_| color && !text.is_empty()) {
                Some(sgr) => painted.push_str(&format!("\x1b[{sgr}m{text}\x1b[0m")),
                None => painted.push_str(&text),
            }
        }
        into.push_str(painted.trim_end());
        if total > width && width > 0 {
            into.push('…');
        }
        into.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clipped_by_what_is_seen() {
        #[track_caller]
        fn check(width: usize, color: bool, expected: &str) {
            let mut painted = String::new();
            let line = Line::new()
                .then(Style::Bold, "shop")
                .then(Style::Plain, " is\x1b[2J ")
                .then(Style::Trouble, "down");
            line.paint(width, color, &mut painted);
            assert_eq!(painted, expected, "{width}");
        }
        check(15, false, "shop is[2J down\n");
        check(15, true, "\x1b[1mshop\x1b[0m is[2J \x1b[31mdown\x1b[0m\n");
        check(14, false, "shop is[2J do…\n");
        check(3, true, "\x1b[1msh\x1b[0m…\n");
        check(1, false, "…\n");
        check(0, false, "\n");
    }

    #[test]
    fn columns_keep_a_gap() {
        let mut painted = String::new();
        let line = Line::new()
            .column(Span::new(Style::Plain, "a"), 3)
            .column(Span::new(Style::Plain, "bcd"), 3)
            .right(Span::new(Style::Plain, "e"), 3)
            .column(Span::new(Style::Plain, "fghi").clipped(3), 0);
        line.paint(80, false, &mut painted);
        assert_eq!(painted, "a  bcd   efg…\n");
    }
}
