//! From what was found of a row to the refresh of its key.

use std::collections::BTreeMap;

use super::{KeyTemplate, Refresh};
use crate::model::{RowBody, RowId, Version};

/// What a look found of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding<'a> {
    /// The row, and its version: the implicit one where it carries none.
    Row(&'a RowBody, &'a Version),
    /// It is deleted at this version.
    Deleted(&'a Version),
}

/// The refresh that makes the cache hold what was found. The entry always carries the version.
pub fn refresh_for(template: &KeyTemplate, id: &RowId, finding: Finding<'_>) -> Refresh {
    let key = template.key(id);
    match finding {
        Finding::Row(body, version) => {
            Refresh { key, version: version.clone(), entry: Some(body.stamped(version).json().clone()) }
        }
        Finding::Deleted(version) => Refresh { key, version: version.clone(), entry: None },
    }
}

/// Of several refreshes of one key the newest, in the order in which the keys first came. What the cache would refuse or
/// overwrite at once need not be sent.
pub fn newest(refreshes: Vec<Refresh>) -> Vec<Refresh> {
    let mut kept: Vec<Refresh> = Vec::with_capacity(refreshes.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for refresh in refreshes {
        match places.get(&refresh.key) {
            Some(place) => {
                let other = &mut kept[*place];
                if (&refresh.version, refresh.entry.is_some()) > (&other.version, other.entry.is_some()) {
                    *other = refresh;
                }
            }
            None => {
                places.insert(refresh.key.clone(), kept.len());
                kept.push(refresh);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TableName;

    const OLD: &str = "2026-11-22T12:18:00.0000001Z@west.00000001";
    const NEW: &str = "2026-11-22T12:18:00.0000001Z@west.00000002";

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    #[test]
    fn an_entry_is_the_row_with_its_version_and_without_what_differs_by_region() {
        let id = RowId::new(TableName::new("Orders").unwrap(), "p".into(), "r s".into());
        let body =
            RowBody::parse(r#"{"odata.etag":"x","PartitionKey":"p","RowKey":"r s","Timestamp":"t","N":1}"#).unwrap();
        let refresh = refresh_for(&KeyTemplate::default(), &id, Finding::Row(&body, &version(NEW)));
        assert_eq!((refresh.key.as_str(), &refresh.version), ("orders:p:r%20s", &version(NEW)));
        let entry = format!(r#"{{"PartitionKey":"p","RowKey":"r s","RelayVersion":"{NEW}","N":1}}"#);
        assert_eq!(refresh.entry.as_deref(), Some(entry.as_str()));
        assert_eq!(refresh_for(&KeyTemplate::default(), &id, Finding::Deleted(&version(OLD))).entry, None);
    }

    #[test]
    fn one_refresh_of_each_key_is_left_the_newest() {
        let refresh = |key: &str, text: &str, entry: Option<&str>| Refresh {
            key: key.into(),
            version: version(text),
            entry: entry.map(Into::into),
        };
        let kept = newest(vec![
            refresh("b", OLD, Some("1")),
            refresh("a", NEW, None),
            refresh("b", NEW, None),
            refresh("a", OLD, Some("2")),
            refresh("b", NEW, Some("3")),
        ]);
        assert_eq!(kept, vec![refresh("b", NEW, Some("3")), refresh("a", NEW, None)]);
    }
}
