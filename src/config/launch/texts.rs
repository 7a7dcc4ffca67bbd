//! Texts with `${VAR}` in them: what each variable stands for is looked up once, and whether it may be told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Around;
use super::words::{Argument, Script, Text, Word};
use crate::config::problem::Findings;
use crate::config::scalar::Scalar;
use crate::config::written::Written;
use crate::launch::{Variable, expand};

const VALUE_BYTES_MAX: usize = 16 * 1024;

/// Reads values, and remembers the variables in them.
pub(super) struct Texts<'a, 'f> {
    pub(super) findings: &'f mut Findings,
    pub(super) around: &'a Around<'a>,
    secrets: BTreeSet<String>,
    values: BTreeMap<Arc<str>, Option<String>>,
}

impl<'a, 'f> Texts<'a, 'f> {
    /// `secrets`: variables that are, whatever their names.
    pub(super) fn new(
        findings: &'f mut Findings,
        around: &'a Around<'a>,
        secrets: impl IntoIterator<Item = String>,
    ) -> Self {
        Self { findings, around, secrets: secrets.into_iter().collect(), values: BTreeMap::new() }
    }

    /// A value with its variables in place: what is not carried along as it was written.
    pub(super) fn read<T: Scalar>(&mut self, place: &str, written: &Written<T>) -> Option<T> {
        if !written.text.contains("${") {
            return self.findings.read(place, written);
        }
        self.look_up(place, written)?;
        let secret = names(&written.text).into_iter().find(|name| self.is_secret(name));
        if let Some(name) = secret {
            let why = format!("{name} is a secret, and this is shown; write it out, or use another variable");
            self.wrong(place, written, why);
            return None;
        }
        let text = self.expanded(&written.text)?;
        T::read(&text).map_err(|why| self.wrong(place, written, why)).ok()
    }

    pub(super) fn read_or<T: Scalar>(&mut self, place: &str, written: Option<&Written<T>>, default: T) -> T {
        written.and_then(|written| self.read(place, written)).unwrap_or(default)
    }

    /// A text as it was written.
    pub(super) fn text(&mut self, place: &str, written: &Written<Text>) -> Option<Arc<str>> {
        let Text(text) = self.findings.read(place, written)?;
        self.look_up(place, written).map(|()| text)
    }

    /// An argument as it was written.
    pub(super) fn argument(&mut self, place: &str, written: &Written<Argument>) -> Option<Arc<str>> {
        let Argument(text) = self.findings.read(place, written)?;
        self.look_up(place, written).map(|()| text)
    }

    /// A text that is a secret: a variable, because a launch is recorded.
    pub(super) fn secret(&mut self, place: &str, written: &Written<Text>) -> Option<Arc<str>> {
        let used = names(&written.text);
        if used.is_empty() {
            let why = "a secret does not stand in a launch, which is recorded and shown; write a variable: ${TOKEN}";
            self.findings.wrong_at(place, Some("(hidden)"), written.line, why);
            return None;
        }
        self.secrets.extend(used);
        self.text(place, written)
    }

    /// A line for a shell, which has the variables in its environment. What it sets by itself needs no value from outside.
    pub(super) fn script(&mut self, place: &str, written: &Written<Script>) -> Option<Arc<str>> {
        let Script(text) = self.findings.read(place, written)?;
        let mut is_whole = true;
        for name in names(&text) {
            if !sets(&text, &name) {
                is_whole &= self.look_up_one(place, written, &name);
            }
        }
        for name in bare_names(&text) {
            if !sets(&text, &name) && (self.around.variable)(&name).is_some() {
                is_whole &= self.look_up_one(place, written, &name);
            }
        }
        is_whole.then_some(text)
    }

    /// The text with its variables in place; `None` with secrets in it, or with what is no variable.
    pub(super) fn expanded(&self, text: &str) -> Option<String> {
        expand(text, |name| match self.is_secret(name) {
            true => None,
            false => self.values.get(name).cloned().flatten(),
        })
        .ok()
    }

    pub(super) fn is_secret(&self, name: &str) -> bool {
        self.secrets.contains(name) || says_secret(name)
    }

    pub(super) fn wrong<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        self.findings.wrong(place, written, why);
    }

    pub(super) fn wrong_at(&mut self, place: &str, line: u64, why: impl Into<String>) {
        self.findings.wrong_at(place, None, line.max(1), why);
    }

    pub(super) fn doubt<T>(&mut self, place: &str, written: &Written<T>, why: impl Into<String>) {
        self.findings.doubt(place, written, why);
    }

    /// What every variable stands for, and those that were said to be secrets and are not used.
    pub(super) fn into_variables(self, listed: Option<Vec<Written<Word>>>) -> BTreeMap<Arc<str>, Variable> {
        let mut unused = BTreeMap::new();
        for written in listed.unwrap_or_default() {
            if !self.values.contains_key(written.text.as_str()) {
                self.findings.doubt(
                    "secrets",
                    &written,
                    "no text uses it; what a command says is cleared of it",
                );
                unused.insert(written.text.as_str().into(), Variable::Secret);
            }
        }
        let secrets = self.secrets;
        let variable = |name: &str, value: String| match secrets.contains(name) || says_secret(name) {
            true => Variable::Secret,
            false => Variable::Value(value.into()),
        };
        let values = self.values.into_iter();
        let values = values.filter_map(|(name, value)| Some((name.clone(), variable(&name, value?))));
        values.chain(unused).collect()
    }

    /// Notes every variable of a text; `None` if one of them is not set, which is told.
    fn look_up<T>(&mut self, place: &str, written: &Written<T>) -> Option<()> {
        let names = names(&written.text);
        if let Err(rest) = expand(&written.text, |_| Some(String::new())) {
            let rest: String = rest.chars().take(24).collect();
            let why = format!("{rest:?} is no variable; write ${{NAME}}, or $${{ for a plain ${{");
            self.wrong(place, written, why);
            return None;
        }
        let mut is_whole = true;
        for name in names {
            is_whole &= self.look_up_one(place, written, &name);
        }
        is_whole.then_some(())
    }

    fn look_up_one<T>(&mut self, place: &str, written: &Written<T>, name: &str) -> bool {
        if let Some(known) = self.values.get(name) {
            return known.is_some();
        }
        let mut value = (self.around.variable)(name);
        if value.is_none() {
            let why = format!("the environment has no {name}; set it, or write $${{ for a plain ${{");
            self.wrong(place, written, why);
        } else if value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX) {
            let why = format!("{name} holds more than {} KiB", VALUE_BYTES_MAX / 1024);
            self.wrong(place, written, format!("{why}; put it into a file, and its path here"));
            value = None;
        }
        let is_set = value.is_some();
        self.values.insert(name.into(), value);
        is_set
    }
}

/// The names of all variables in a text, as far as they are some.
pub(super) fn names(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let is_plain = before.ends_with('$');
        if let Some((name, after)) = after.split_once('}')
            && !is_plain
            && is_name(name)
        {
            if !found.iter().any(|found| found == name) {
                found.push(name.to_owned());
            }
            rest = after;
        } else {
            rest = after;
        }
    }
    found
}

pub(super) fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a shell would look up without braces.
fn bare_names(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest.get(..end).filter(|name| is_name(name)).map(str::to_owned)
    };
    text.split('$').skip(1).filter_map(name).collect()
}

/// Whether a script gives a variable its value.
fn sets(script: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    script.match_indices(name).any(|(at, _)| {
        let (before, after) = (&script[..at], &script[at + name.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) || before.ends_with(['$', '{']) {
            return false;
        }
        let word = before.trim_end().rsplit(|c: char| !is_word(c)).next();
        after.starts_with('=') || matches!(word, Some("for" | "read" | "r"))
    })
}

/// Whether a variable's name says that it holds what nobody may see.
fn says_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY"].iter().any(|part| name.contains(part))
        || name.split('_').any(|word| word == "KEY" || word == "KEYS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_a_secret() {
        for name in
            ["PASSWORD", "DB_PASSWD", "GH_TOKEN", "MYSECRET", "API_KEY", "key", "AWS_CREDENTIALS_FILE"]
        {
            assert!(says_secret(name), "{name}");
        }
        for name in ["MONKEY", "KEYBOARD", "IMAGE", "IMAGE_TAG", "PASS", "TURNKEY_HOST"] {
            assert!(!says_secret(name), "{name}");
        }
    }

    #[test]
    fn variables_are_found_but_for_plain_braces() {
        assert_eq!(names("a ${B} ${C_1}${B} $${D} ${1} ${ $E"), ["B", "C_1"]);
    }

    #[test]
    fn a_script_may_set_what_it_uses() {
        #[track_caller]
        fn check(script: &str, expected: bool) {
            assert_eq!(sets(script, "F"), expected, "{script}");
        }
        check("F=1; echo ${F}", true);
        check("for F in *.sql; do echo ${F}; done", true);
        check("while read -r F; do echo ${F}; done", true);
        check("echo ${F}", false);
        check("XF=1; echo ${F}", false);
        check("[ ${F} = F ]", false);
    }
}
