//! What somebody meant who wrote something unknown.

/// The word nearest to `text`, if any is near enough to be worth a guess: at most two letters off, and
/// most of the word right.
pub(super) fn did_you_mean<'w>(text: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    // Nothing that long is a slip of the finger, and the distance takes time quadratic in the lengths.
    if text.len() > 64 {
        return None;
    }
    words
        .into_iter()
        .map(|word| (distance(&text.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 2 && 2 * distance < word.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `a, b, c`.
pub(super) fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// Levenshtein's distance, with a swap of neighbours counted once.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_guessed_and_nothing_more() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(did_you_mean(text, ["endpoints", "version", "up", "path"]), expected, "{text:?}");
        }
        check("endpionts", Some("endpoints"));
        check("endpoint", Some("endpoints"));
        check("Version", Some("version"));
        check("pat", Some("path"));
        check("ud", None);
        check("weight", None);
        check("", None);
        check(&"e".repeat(1000), None);
    }
}
