//! From words to an expression.

use std::iter::Peekable;
use std::vec::IntoIter;

use super::lexer::{Token, tokens};
use super::{Filter, Operand, Operator};
use crate::rest::failure::unreadable;
use crate::stores::StoreError;

/// Most comparisons in one filter ("no more than 15 discrete comparisons are permitted within a $filter string").
const MAX_COMPARISONS: usize = 15;
/// How deep parentheses and `not` may go.
const MAX_DEPTH: usize = 64;

/// Reads a `$filter`.
///
/// # Errors
/// 400 `InvalidInput` with what is wrong with it.
pub(in crate::rest) fn parse(text: &str) -> Result<Filter, StoreError> {
    let wrong = |why: String| unreadable(format!("$filter: {why}"));
    let mut parser = Parser { tokens: tokens(text).map_err(wrong)?.into_iter().peekable(), comparisons: 0, depth: 0 };
    let filter = parser.either().map_err(wrong)?;
    match parser.tokens.next() {
        None => Ok(filter),
        Some(token) => Err(wrong(format!("ends before {}", name(&token)))),
    }
}

struct Parser {
    tokens: Peekable<IntoIter<Token>>,
    comparisons: usize,
    depth: usize,
}

impl Parser {
    fn either(&mut self) -> Result<Filter, String> {
        let mut filter = self.both()?;
        while self.takes("or") {
            filter = Filter::Or(Box::new(filter), Box::new(self.both()?));
        }
        Ok(filter)
    }

    fn both(&mut self) -> Result<Filter, String> {
        let mut filter = self.single()?;
        while self.takes("and") {
            filter = Filter::And(Box::new(filter), Box::new(self.single()?));
        }
        Ok(filter)
    }

    fn single(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("goes deeper than {MAX_DEPTH} parentheses"));
        }
        let filter = if self.takes("not") {
            Filter::Not(Box::new(self.single()?))
        } else if self.tokens.next_if_eq(&Token::Open).is_some() {
            let inner = self.either()?;
            match self.tokens.next_if_eq(&Token::Close) {
                Some(_) => inner,
                None => return Err("a parenthesis is not closed".to_owned()),
            }
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(filter)
    }

    fn comparison(&mut self) -> Result<Filter, String> {
        self.comparisons += 1;
        if self.comparisons > MAX_COMPARISONS {
            return Err(format!("has more than {MAX_COMPARISONS} comparisons"));
        }
        let first = self.operand()?;
        let operator = match self.tokens.peek() {
            Some(Token::Word(word)) => Operator::named(word),
            _ => None,
        };
        let Some(operator) = operator else { return Ok(Filter::True(first)) };
        self.tokens.next();
        Ok(Filter::Compare(first, operator, self.operand()?))
    }

    fn operand(&mut self) -> Result<Operand, String> {
        match self.tokens.next() {
            Some(Token::Word(word)) if Operator::named(&word).is_none() && !matches!(&*word, "and" | "or" | "not") => {
                Ok(Operand::Property(word))
            }
            Some(Token::Literal(value)) => Ok(Operand::Literal(value)),
            Some(token) => Err(format!("{} should be a property or a literal", name(&token))),
            None => Err("ends where a property or a literal should be".to_owned()),
        }
    }

    fn takes(&mut self, keyword: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(word) if word == keyword)).is_some()
    }
}

fn name(token: &Token) -> String {
    match token {
        Token::Open => "\"(\"".to_owned(),
        Token::Close => "\")\"".to_owned(),
        Token::Word(word) => format!("{word:?}"),
        Token::Literal(_) => "a literal".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expression with all its parentheses.
    fn shape(filter: &Filter) -> String {
        let operand = |operand: &Operand| match operand {
            Operand::Property(name) => name.clone(),
            Operand::Literal(value) => format!("{value:?}"),
        };
        match filter {
            Filter::And(a, b) => format!("({} and {})", shape(a), shape(b)),
            Filter::Or(a, b) => format!("({} or {})", shape(a), shape(b)),
            Filter::Not(a) => format!("not {}", shape(a)),
            Filter::Compare(a, operator, b) => format!("{} {operator:?} {}", operand(a), operand(b)),
            Filter::True(a) => operand(a),
        }
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let read = |text: &str| shape(&parse(text).unwrap());
        assert_eq!(read("A or B and not C or D"), "((A or (B and not C)) or D)");
        assert_eq!(read("not (A or B) and C"), "(not (A or B) and C)");
        assert_eq!(read("((A eq 1))"), "A Equal Int32(1)");
        assert_eq!(read("5 lt A"), "Int32(5) Less A");
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_reason() {
        for (bad, says) in [
            ("", "ends where"),
            ("A eq", "ends where"),
            ("A eq 1 B", "ends before \"B\""),
            ("(A eq 1", "not closed"),
            ("A eq 1)", "ends before"),
            ("and", "should be a property"),
            ("A EQ 1", "ends before \"EQ\""),
            ("not", "ends where"),
            ("A eq 1 and", "ends where"),
        ] {
            let err = parse(bad).unwrap_err();
            assert_eq!((err.status, err.code.as_str()), (Some(400), "InvalidInput"));
            assert!(err.message.contains(says), "{bad}: {err}");
        }
    }

    #[test]
    fn a_filter_is_bounded_in_breadth_and_depth() {
        let wide = |count: usize| vec!["A eq 1"; count].join(" or ");
        assert!(parse(&wide(15)).is_ok());
        assert!(parse(&wide(16)).unwrap_err().message.contains("15 comparisons"));
        let deep = |depth: usize| format!("{}A eq 1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&deep(60)).is_ok());
        assert!(parse(&deep(100_000)).unwrap_err().message.contains("deeper"));
        assert!(parse(&"not ".repeat(100_000)).is_err());
    }
}
