//! Commands in one line, split into words as a shell would, without one: whatever only a shell can do is refused.

use super::super::meant::listed;

/// The words of a command.
///
/// # Errors
/// What no command without a shell can have.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    if let Some(sign) = shell_sign(text) {
        return Err(format!(
            "{sign} is for a shell, and none runs this; write a script, or a launch with do: {{sh: …}}"
        ));
    }
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|program| !program.is_empty()) => Ok(words),
        Some(_) => Err("is empty; write a program and its arguments".to_owned()),
        None => Err("a quote or a backslash has no end; close it".to_owned()),
    }
}

/// Words as a list, for hints.
pub(super) fn as_list(text: &str) -> String {
    let words = shlex::split(text).unwrap_or_else(|| vec![text.to_owned()]);
    let is_plain = |word: &str| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_-+@%".contains(&byte))
    };
    let quoted: Vec<String> =
        words.into_iter().map(|word| if is_plain(&word) { word } else { format!("{word:?}") }).collect();
    format!("[{}]", listed(quoted.iter().map(String::as_str)))
}

/// The first thing outside quotes that a shell would act on.
fn shell_sign(text: &str) -> Option<&'static str> {
    let (mut single, mut double) = (false, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '\'' if !double => single = !single,
            _ if single => {}
            '\\' => {
                chars.next();
            }
            '"' => double = !double,
            '`' => return Some("`"),
            '$' if next == Some('(') => return Some("$("),
            '$' if next.is_some_and(|next| next.is_ascii_alphabetic() || "_@*?!".contains(next)) => {
                return Some("$ without braces");
            }
            _ if double => {}
            '|' if next == Some('|') => return Some("||"),
            '|' => return Some("|"),
            '&' if next == Some('&') => return Some("&&"),
            '&' => return Some("&"),
            '>' => return Some(">"),
            '<' => return Some("<"),
            ';' => return Some(";"),
            '\n' => return Some("a second line"),
            '*' | '?' | '[' => return Some("a pattern (*, ?, [)"),
            '(' | ')' => return Some("("),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_the_words_that_a_shell_would_make_of_it_or_is_refused() {
        #[track_caller]
        fn check(text: &str, expected: Result<&[&str], &str>) {
            match (split(text), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                (got, expected) => panic!("{text}: {got:?} instead of {expected:?}"),
            }
        }
        check("run_migration --direction up", Ok(&["run_migration", "--direction", "up"]));
        check(
            "deploy ${IMAGE_TAG} 'a b' \"c;d\" e\\ f",
            Ok(&["deploy", "${IMAGE_TAG}", "a b", "c;d", "e f"]),
        );
        check("a --x=''", Ok(&["a", "--x="]));
        check("a 'b|c>d;e&f`g$(h)'", Ok(&["a", "b|c>d;e&f`g$(h)"]));
        for (text, sign) in [
            ("a | b", "| is for a shell"),
            ("a || b", "|| is"),
            ("a > b", "> is"),
            ("a < b", "< is"),
            ("a; b", "; is"),
            ("a && b", "&& is"),
            ("a & ", "& is"),
            ("a `b`", "` is"),
            ("a \"`b`\"", "` is"),
            ("a $(b)", "$( is"),
            ("a \"$(b)\"", "$( is"),
            ("a $HOME", "$ without braces is"),
            ("rm *.sql", "a pattern"),
            ("a\nb", "a second line"),
            ("(a)", "( is"),
            ("", "is empty"),
            ("''", "is empty"),
            ("a 'b", "has no end"),
        ] {
            check(text, Err(sign));
        }
    }

    #[test]
    fn a_hint_is_yaml() {
        assert_eq!(as_list("./migrate up --tag ${T}"), "[./migrate, up, --tag, \"${T}\"]");
    }
}
