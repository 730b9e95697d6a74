//! `$filter`: which rows of a table, as an OData expression.
//!
//! Comparisons of properties and literals of every EDM type, `and`, `or`, `not` and parentheses. A comparison with a
//! property that the row has not, or that is of another type, does not hold; numbers compare as numbers, strings by
//! UTF-16 units. What an expression says of the keys becomes a [`Scope`](crate::stores::Scope), so that a store reads no
//! more than it has to; the rest is decided row by row.

mod lexer;
mod matches;
mod parse;
mod scope;
mod value;

pub(super) use matches::{Subject, holds};
pub(super) use parse::parse;
pub(super) use scope::{Scan, scan};
pub(super) use value::Value;

/// A `$filter` as it was read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Filter {
    /// Both hold.
    And(Box<Filter>, Box<Filter>),
    /// One holds, or both.
    Or(Box<Filter>, Box<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// The one stands so to the other.
    Compare(Operand, Operator, Operand),
    /// It is true.
    True(Operand),
}

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// A property, by its name.
    Property(String),
    /// A literal.
    Literal(Value),
}

/// How two values stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

impl Operator {
    /// By its name in OData, which is in lower case.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Self::Equal,
            "ne" => Self::NotEqual,
            "gt" => Self::Greater,
            "ge" => Self::GreaterOrEqual,
            "lt" => Self::Less,
            "le" => Self::LessOrEqual,
            _ => return None,
        })
    }

    /// The operator that says the same with the operands exchanged.
    fn mirrored(self) -> Self {
        match self {
            Self::Equal | Self::NotEqual => self,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
        }
    }
}
