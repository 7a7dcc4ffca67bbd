//! What in a migration breaks code that runs already.
//!
//! While a release goes on, the old version and the new one use the same database. So what a migration may do is add: tables, columns that may be
//! empty, indexes that do not stand in the way. Each statement is read by a parser of the database's dialect and held against that. What is
//! created in the same text is nobody's yet, so anything may be done to it.
//!
//! What the parser cannot read, and what a statement does that is not known here, is a finding too: silence would be a promise.

mod alter;
mod judge;
mod kind;
mod names;

use sqlparser::ast::Statement;
use sqlparser::dialect::{
    Dialect as Grammar, GenericDialect, MySqlDialect, PostgreSqlDialect, SQLiteDialect,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use judge::Judge;
pub use kind::Kind;

/// After so many statements that cannot be read, the dialect is wrong.
const UNREADABLE_MAX: usize = 20;

/// A longer chain of operators in one statement is not read: its tree would be as deep.
const OPERATORS_MAX: usize = 20_000;

/// The dialect of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Whatever most databases have.
    Generic,
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    PostgreSql,
    /// MySQL and MariaDB.
    MySql,
}

impl Dialect {
    /// `generic`, `sqlite`, `postgresql` or `mysql`.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "generic" => Self::Generic,
            "sqlite" => Self::Sqlite,
            "postgresql" => Self::PostgreSql,
            "mysql" => Self::MySql,
            _ => return None,
        })
    }

    fn grammar(self) -> Box<dyn Grammar> {
        match self {
            Self::Generic => Box::new(GenericDialect),
            Self::Sqlite => Box::new(SQLiteDialect {}),
            Self::PostgreSql => Box::new(PostgreSqlDialect {}),
            Self::MySql => Box::new(MySqlDialect {}),
        }
    }
}

/// Something that may break what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where its statement begins, from 1.
    pub line: u64,
    /// What it does.
    pub kind: Kind,
    /// To what: `TABLE`, `TABLE.COLUMN`, or what cannot be judged.
    pub object: String,
    /// How that harms.
    pub why: &'static str,
    /// What to do instead.
    pub cure: &'static str,
}

/// All that is found in a migration, in its order, without what `allow` names as `KIND OBJECT`. Of a file with both ways in it (goose, dbmate,
/// sql-migrate), only the way up is read.
pub fn findings(text: &str, dialect: Dialect, allow: &[impl AsRef<str>]) -> Vec<Finding> {
    let text = way_up(text);
    let grammar = dialect.grammar();
    let tokens = Tokenizer::new(&*grammar, &text).tokenize_with_location();
    let tokens = match tokens {
        Ok(tokens) => tokens,
        Err(error) => {
            let line = error.location.line;
            return vec![Finding::new(line, Kind::Unreadable, error.to_string())];
        }
    };
    let (statements, mut found) = statements(&*grammar, &tokens);
    found.extend(Judge::new(dialect, &statements).findings());
    found.sort_by_key(|finding| finding.line);
    found.retain(|finding| !allow.iter().any(|allowed| finding.is_meant(allowed.as_ref())));
    found
}

impl Finding {
    fn new(line: u64, kind: Kind, object: String) -> Self {
        Self { line, kind, object, why: kind.why(), cure: kind.cure() }
    }

    fn is_meant(&self, allowed: &str) -> bool {
        let Some((kind, object)) = allowed.trim().split_once(char::is_whitespace) else { return false };
        kind.eq_ignore_ascii_case(self.kind.as_str()) && object.trim().eq_ignore_ascii_case(&self.object)
    }
}

/// Statements with the lines that they begin on, and what cannot be read.
fn statements(grammar: &dyn Grammar, tokens: &[TokenWithSpan]) -> (Vec<(u64, Statement)>, Vec<Finding>) {
    let (mut read, mut unreadable) = (Vec::new(), Vec::new());
    let mut begin = 0;
    while let Some(at) = tokens[begin..].iter().position(|token| !is_between(&token.token)) {
        begin += at;
        let line = tokens[begin].span.start.line;
        if unreadable.len() == UNREADABLE_MAX {
            let rest = "the rest, after so much that cannot be read".to_owned();
            unreadable.push(Finding::new(line, Kind::Unreadable, rest));
            break;
        }
        let end = tokens[begin..].iter().position(|token| token.token == Token::SemiColon);
        let end = end.map_or(tokens.len(), |end| begin + end);
        let operators = tokens[begin..end].iter().filter(|token| is_operator(&token.token)).count();
        if operators > OPERATORS_MAX {
            let what = format!("a statement with {operators} operators");
            unreadable.push(Finding::new(line, Kind::Unreadable, what));
            begin = end;
            continue;
        }
        // A body between BEGIN and END has semicolons of its own: the parser finds the end, and is given more only if it needs it.
        match parsed(grammar, &tokens[begin..end]).or_else(|error| {
            let is_body = tokens[begin..end].iter().any(|token| is_word(&token.token, Keyword::BEGIN));
            if is_body { with_body(grammar, &tokens[begin..]) } else { Err(error) }
        }) {
            Ok((statement, length)) => {
                read.push((line, statement));
                begin += length;
            }
            Err(error) => {
                unreadable.push(Finding::new(line, Kind::Unreadable, error));
                begin = end;
            }
        }
    }
    (read, unreadable)
}

/// One statement that is all of the tokens, and how many they are.
fn parsed(grammar: &dyn Grammar, tokens: &[TokenWithSpan]) -> Result<(Statement, usize), String> {
    let mut parser = Parser::new(grammar).with_tokens_with_locations(mended(tokens));
    let statement = parser.parse_statement().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        Token::EOF => Ok((statement, tokens.len())),
        other => Err(format!("sql parser error: expected the end of the statement, found: {other}")),
    }
}

/// The tokens of a statement in a form that the parser knows, where it does not know all: `DROP INDEX CONCURRENTLY`, and `PRAGMA … = OFF`, with
/// a word for its value.
fn mended(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut tokens: Vec<_> =
        tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).cloned().collect();
    let is = |at: usize, keyword| tokens.get(at).is_some_and(|token| is_word(&token.token, keyword));
    if is(0, Keyword::DROP) && is(1, Keyword::INDEX) && is(2, Keyword::CONCURRENTLY) {
        tokens.remove(2);
    } else if is(0, Keyword::PRAGMA)
        && let Some(equals) = tokens.iter().position(|token| token.token == Token::Eq)
        && let Some(value) = tokens.get_mut(equals + 1)
        && let Token::Word(word) = &value.token
    {
        value.token = Token::SingleQuotedString(word.value.clone());
    }
    tokens
}

/// One statement, which may have semicolons in it, and how many tokens it has.
fn with_body(grammar: &dyn Grammar, tokens: &[TokenWithSpan]) -> Result<(Statement, usize), String> {
    let mut parser = Parser::new(grammar).with_tokens_with_locations(tokens.to_vec());
    let statement = parser.parse_statement().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        Token::EOF | Token::SemiColon => Ok((statement, parser.index())),
        other => Err(format!("sql parser error: expected the end of the statement, found: {other}")),
    }
}

const fn is_between(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF)
}

fn is_word(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword && word.quote_style.is_none())
}

/// What may stand between two operands.
const fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::IS
                | Keyword::NOT
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::DIV
                | Keyword::MOD
                | Keyword::AT
                | Keyword::UNION
                | Keyword::EXCEPT
                | Keyword::INTERSECT
        ),
        Token::Whitespace(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::DollarQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen
        | Token::SemiColon
        | Token::EOF => false,
        _ => true,
    }
}

/// The text with the way down left empty, so that lines keep their numbers.
fn way_up(text: &str) -> String {
    let mut is_down = false;
    let lines = text.split_inclusive('\n').map(|line| {
        let words: Vec<_> = line
            .trim()
            .strip_prefix("--")
            .map(|comment| comment.split_whitespace().map(str::to_ascii_lowercase).collect())
            .unwrap_or_default();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match *words {
            ["+goose" | "+migrate", "down", ..] | ["migrate:down", ..] => is_down = true,
            ["+goose" | "+migrate", "up", ..] | ["migrate:up", ..] => is_down = false,
            _ => {}
        }
        if !is_down {
            line
        } else if line.ends_with('\n') {
            "\n"
        } else {
            ""
        }
    });
    lines.collect()
}

#[cfg(test)]
mod tests;
