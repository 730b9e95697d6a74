//! What a path names.

use percent_encoding::percent_decode_str;

use super::failure::{invalid, unreadable};
use crate::model::{PartitionKey, RowKey, TableName};
use crate::stores::StoreError;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    /// The collection of tables.
    Tables,
    /// A table as a member of that collection.
    Table(TableName),
    /// The rows of a table.
    Rows(TableName),
    /// One row.
    Row(TableName, PartitionKey, RowKey),
    /// Where transactions go.
    Batch,
}

impl Resource {
    /// Reads the path behind an account, still percent-encoded: `Orders(PartitionKey='it%27%27s',RowKey='')`.
    ///
    /// # Errors
    /// 400 `InvalidUri`, `InvalidResourceName` or `InvalidInput`.
    pub(super) fn parse(path: &str) -> Result<Self, StoreError> {
        // No key holds a slash that is not encoded, so what is behind one is nothing of ours.
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let text = percent_decode_str(path).decode_utf8();
        let text = text.map_err(|_| invalid("InvalidUri", "the path is not UTF-8"))?;
        if path.contains('/') || text.is_empty() {
            return Err(invalid("InvalidUri", format!("{text:?} names no table, no row and no $batch")));
        }
        let (name, rest) = text.split_once('(').map_or((&*text, None), |(name, rest)| (name, Some(rest)));
        let keys = match rest.map(|rest| rest.strip_suffix(')')) {
            None => None,
            Some(Some(inner)) => Some(inner.trim()).filter(|inner| !inner.is_empty()),
            Some(None) => return Err(invalid("InvalidUri", format!("{text:?} should end with a parenthesis"))),
        };
        match (name, keys) {
            ("$batch", None) => Ok(Self::Batch),
            ("Tables", None) => Ok(Self::Tables),
            ("Tables", Some(literal)) => match quoted(literal) {
                Some((name, "")) => Ok(Self::Table(table(&name)?)),
                _ => Err(unreadable(format!("{literal:?} should be the name of a table in quotes"))),
            },
            (name, None) => Ok(Self::Rows(table(name)?)),
            (name, Some(keys)) => {
                let (partition, row) = row(keys).ok_or_else(|| {
                    unreadable(format!("{keys:?} should be PartitionKey='…',RowKey='…', with quotes doubled"))
                })?;
                Ok(Self::Row(table(name)?, partition, row))
            }
        }
    }
}

pub(super) fn table(name: &str) -> Result<TableName, StoreError> {
    TableName::new(name).map_err(|err| invalid("InvalidResourceName", err.to_string()))
}

/// `PartitionKey='…',RowKey='…'`, in any order.
fn row(text: &str) -> Option<(PartitionKey, RowKey)> {
    let (first, value, rest) = pair(text)?;
    let (second, other, end) = pair(rest.trim_start().strip_prefix(',')?)?;
    match (first, second, end.trim()) {
        ("PartitionKey", "RowKey", "") => Some((PartitionKey::new(value), RowKey::new(other))),
        ("RowKey", "PartitionKey", "") => Some((PartitionKey::new(other), RowKey::new(value))),
        _ => None,
    }
}

fn pair(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.split_once('=')?;
    let (value, rest) = quoted(rest.trim_start())?;
    Some((name.trim(), value, rest))
}

/// A literal in single quotes at the start of a text, its own quotes doubled; and what is behind it.
pub(super) fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('\'')?;
    let mut value = String::new();
    let mut rest = inner;
    loop {
        let (before, behind) = rest.split_once('\'')?;
        value.push_str(before);
        match behind.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((value, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TableName {
        TableName::new("Orders").unwrap()
    }

    #[test]
    fn a_path_names_a_table_a_row_or_the_batch() {
        for (path, resource) in [
            ("/Tables", Resource::Tables),
            ("/Tables()", Resource::Tables),
            ("/Tables('Orders')", Resource::Table(orders())),
            ("/Tables(%27Orders%27)", Resource::Table(orders())),
            ("/Orders", Resource::Rows(orders())),
            ("Orders()", Resource::Rows(orders())),
            ("/$batch", Resource::Batch),
            ("/%24batch", Resource::Batch),
            ("/Orders(PartitionKey='p',RowKey='r')", Resource::Row(orders(), "p".into(), "r".into())),
            ("/Orders(RowKey='r', PartitionKey='p')", Resource::Row(orders(), "p".into(), "r".into())),
            (
                "/Orders(PartitionKey='it%27%27s%20100%20%25',RowKey='%E6%97%A5%2C%27%27%29')",
                Resource::Row(orders(), "it's 100 %".into(), "日,')".into()),
            ),
            ("/Orders(PartitionKey='',RowKey='')", Resource::Row(orders(), "".into(), "".into())),
            ("/Orders(PartitionKey='a%2Fb',RowKey='..')", Resource::Row(orders(), "a/b".into(), "..".into())),
            (
                "/Orders(PartitionKey='a+b',RowKey=''',RowKey=''')",
                Resource::Row(orders(), "a+b".into(), "',RowKey='".into()),
            ),
        ] {
            assert_eq!(Resource::parse(path).unwrap(), resource, "{path}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for bad in [
            "/",
            "",
            "/a/b",
            "/Orders(PartitionKey='p')",
            "/Orders(PartitionKey='p',RowKey='it's')",
            "/Orders(PartitionKey='p',RowKey='r'",
            "/Orders(PartitionKey='p',PartitionKey='r')",
            "/Or-ders",
            "/Tables(Orders)",
            "/%FF",
        ] {
            let err = Resource::parse(bad).unwrap_err();
            assert_eq!(err.status, Some(400), "{bad}: {err}");
        }
    }
}
