//! Requests by status code: a hundred counters per class, made when the class is first seen.

use std::sync::OnceLock;

use super::super::counter::Counter;
use super::labels::CodeLabel;

/// Counters by status code, for one writer.
#[derive(Debug, Default)]
pub(super) struct Codes {
    classes: [OnceLock<Box<[Counter; 100]>>; 5],
    other: Counter,
}

impl Codes {
    /// Counts one answer. Only the owning thread calls it.
    pub(super) fn record(&self, code: CodeLabel) {
        let Some(code) = code.code().map(usize::from) else { return self.other.increment() };
        match self.classes.get((code / 100).wrapping_sub(1)) {
            Some(class) => class.get_or_init(no_counts)[code % 100].increment(),
            None => self.other.increment(),
        }
    }

    /// Every code that was counted.
    pub(super) fn each(&self, mut visit: impl FnMut(CodeLabel, u64)) {
        let mut visit = |code: usize, count: u64| {
            if count > 0 {
                visit(CodeLabel::of(code as u16), count);
            }
        };
        for (class, counts) in self.classes.iter().enumerate() {
            for (rest, count) in counts.get().iter().flat_map(|counts| counts.iter().enumerate()) {
                visit((class + 1) * 100 + rest, count.read());
            }
        }
        visit(0, self.other.read());
    }
}

fn no_counts() -> Box<[Counter; 100]> {
    Box::new(std::array::from_fn(|_| Counter::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_counted_under_its_own_label() {
        let codes = Codes::default();
        for code in 0..=u16::MAX {
            codes.record(CodeLabel::of(code));
        }
        let mut seen = Vec::new();
        codes.each(|code, count| seen.push((code, count)));
        let other = seen.pop().unwrap();
        assert_eq!(other, (CodeLabel::of(0), 65_536 - 500));
        let expected: Vec<_> = (100..600).map(|code| (CodeLabel::of(code), 1)).collect();
        assert_eq!(seen, expected);
    }
}
