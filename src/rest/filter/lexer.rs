//! The words of a `$filter`.

use super::value::Value;
use crate::rest::address::quoted;

/// A word of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Open,
    Close,
    /// A name, an operator, `and`, `or`, `not`.
    Word(String),
    Literal(Value),
}

/// Takes a text apart.
///
/// # Errors
/// What cannot be read, and what it should be.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, behind) = match first {
            '(' => (Token::Open, &rest[1..]),
            ')' => (Token::Close, &rest[1..]),
            '\'' => {
                let (value, behind) = quoted(rest).ok_or("a string has no closing quote")?;
                (Token::Literal(Value::String(value)), behind)
            }
            '0'..='9' | '-' | '+' | '.' => number(rest)?,
            c if c.is_alphabetic() || c == '_' => word(rest)?,
            other => return Err(format!("{other:?} begins neither a name nor a literal")),
        };
        tokens.push(token);
        rest = behind.trim_start();
    }
    Ok(tokens)
}

/// A name, or a literal of a type that is named: `datetime'…'`.
fn word(text: &str) -> Result<(Token, &str), String> {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if rest.starts_with('\'') {
        let (inner, behind) = quoted(rest).ok_or("a literal has no closing quote")?;
        return Ok((Token::Literal(Value::typed(name, &inner)?), behind));
    }
    let token = match name {
        "true" => Token::Literal(Value::Boolean(true)),
        "false" => Token::Literal(Value::Boolean(false)),
        "NaN" => Token::Literal(Value::Double(f64::NAN)),
        "INF" | "Infinity" => Token::Literal(Value::Double(f64::INFINITY)),
        _ => Token::Word(name.to_owned()),
    };
    Ok((token, rest))
}

fn number(text: &str) -> Result<(Token, &str), String> {
    let mut end = 0;
    let mut after_exponent = false;
    for c in text.chars() {
        let sign = matches!(c, '-' | '+') && (end == 0 || after_exponent);
        if !(sign || c.is_ascii_alphanumeric() || c == '.') {
            break;
        }
        after_exponent = matches!(c, 'e' | 'E');
        end += c.len_utf8();
    }
    let (digits, rest) = text.split_at(end);
    Ok((Token::Literal(Value::number(digits)?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_taken_apart_into_words_and_literals() {
        let found = tokens("(A_1 eq 'it''s' )and not B ge -1.5e-3 or C lt 7L").unwrap();
        let word = |text: &str| Token::Word(text.to_owned());
        let expected = [
            Token::Open,
            word("A_1"),
            word("eq"),
            Token::Literal(Value::String("it's".into())),
            Token::Close,
            word("and"),
            word("not"),
            word("B"),
            word("ge"),
            Token::Literal(Value::Double(-1.5e-3)),
            word("or"),
            word("C"),
            word("lt"),
            Token::Literal(Value::Int64(7)),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_word_is_named() {
        for bad in ["'open", "A eq datetime'x", "A = 1", "A eq 1x", "A eq geo'1'", "-", "A eq \"x\""] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
