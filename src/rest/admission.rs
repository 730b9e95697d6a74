//! Who is let in: Shared Key, Shared Key Lite and shared access signatures, verified with the account's key.
//!
//! Source: "Authorize with Shared Key", "Create an account SAS" and "Create a service SAS" in Microsoft's reference.

use std::time::Duration;

use http::Method;

use super::failure::not_admitted;
use super::options::{Options, header, method};
use super::request::Incoming;
use crate::model::Time;
use crate::stores::{ErrorKind, SharedKey, StoreError};
use ::time::OffsetDateTime;
use ::time::format_description::BorrowedFormatItem;
use ::time::macros::format_description;

/// How far a request's date may be from the server's clock.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

/// Whom an account lets in.
#[derive(Debug, Clone)]
pub enum Admission {
    /// Everybody.
    Open,
    /// Who signs with this key, or has a signature of it.
    Key(SharedKey),
}

impl Admission {
    /// Lets a request in. `path` is the whole path as it was sent, account and all.
    ///
    /// # Errors
    /// 403 `AuthenticationFailed`, 401 `NoAuthenticationInformation`, 403 `AuthorizationPermissionMismatch`.
    pub(super) fn admit(&self, incoming: &Incoming, path: &str, now: Time) -> Result<(), StoreError> {
        let Self::Key(key) = self else { return Ok(()) };
        let options = Options::parse(&incoming.query)?;
        match (header(&incoming.headers, "authorization"), options.get("sig")) {
            (Some(authorization), _) => signed(key, authorization, incoming, &options, path, now),
            (None, Some(signature)) => granted(key, signature, incoming, &options, path, now),
            (None, None) => Err(StoreError::answered(
                ErrorKind::Denied,
                401,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request. Please refer to the information in the www-authenticate header.",
            )),
        }
    }
}

/// Shared Key, in either form.
fn signed(
    key: &SharedKey,
    authorization: &str,
    incoming: &Incoming,
    options: &Options,
    path: &str,
    now: Time,
) -> Result<(), StoreError> {
    let text = |name: &str| header(&incoming.headers, name).unwrap_or_default();
    let date = header(&incoming.headers, "x-ms-date").unwrap_or_else(|| text("date"));
    let resource = match options.get("comp") {
        Some(component) => format!("/{}{path}?comp={component}", key.account()),
        None => format!("/{}{path}", key.account()),
    };
    let (scheme, credential) = authorization.split_once(' ').unwrap_or_default();
    let text = match scheme {
        "SharedKeyLite" => format!("{date}\n{resource}"),
        "SharedKey" => {
            format!("{}\n{}\n{}\n{date}\n{resource}", incoming.method, text("content-md5"), text("content-type"))
        }
        _ => return Err(not_admitted("the scheme should be SharedKey or SharedKeyLite")),
    };
    let (account, signature) = credential.split_once(':').unwrap_or_default();
    if account != key.account() {
        return Err(not_admitted("the account in it is another one"));
    }
    if !key.verifies(&text, signature) {
        return Err(not_admitted("the signature is not that of the account's key"));
    }
    let sent = parse_date(date).ok_or_else(|| not_admitted("x-ms-date or Date should be as in RFC 1123"))?;
    if sent.since(now).max(now.since(sent)) > MAX_SKEW {
        return Err(not_admitted("the date is more than 15 minutes from the server's"));
    }
    Ok(())
}

/// A shared access signature of the account, or of one table.
fn granted(
    key: &SharedKey,
    signature: &str,
    incoming: &Incoming,
    options: &Options,
    path: &str,
    now: Time,
) -> Result<(), StoreError> {
    let field = |name: &str| options.get(name).unwrap_or_default();
    let text = match options.get("tn") {
        Some(table) => {
            let resource = format!("/table/{}/{}", key.account(), table.to_lowercase());
            let fields = ["sp", "st", "se"].map(field).join("\n");
            let more = ["si", "sip", "spr", "sv", "spk", "srk", "epk", "erk"].map(field).join("\n");
            format!("{fields}\n{resource}\n{more}")
        }
        None => {
            let fields = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv"].map(field).join("\n");
            // Since this version the encryption scope is signed too.
            let scope = if field("sv") >= "2020-12-06" { format!("{}\n", field("ses")) } else { String::new() };
            format!("{}\n{fields}\n{scope}", key.account())
        }
    };
    if !key.verifies(&text, signature) {
        return Err(not_admitted("the shared access signature is not that of the account's key"));
    }
    let ends = parse_stamp(field("se")).ok_or_else(|| not_admitted("se should be a time"))?;
    if now >= ends || parse_stamp(field("st")).is_some_and(|begins| now < begins) {
        return Err(not_admitted("the shared access signature is not valid at this time"));
    }
    let denied = |what: &str| {
        let message = format!("This request is not authorized to perform this operation: {what}.");
        Err(StoreError::answered(ErrorKind::Denied, 403, "AuthorizationPermissionMismatch", message))
    };
    match options.get("tn") {
        Some(table) if !names_table(path, table) => denied("the signature is for another table"),
        Some(_) if !["spk", "srk", "epk", "erk"].map(field).concat().is_empty() => {
            denied("signatures for a range of keys are not served")
        }
        None if !field("ss").contains('t') => denied("the signature is not for tables"),
        _ if !permits(field("sp"), incoming) => denied("the signature has not the permission"),
        _ => Ok(()),
    }
}

/// Whether a path is that of a table or of one of its rows. A transaction says in its body which table it is about.
fn names_table(path: &str, table: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = last.split('(').next().unwrap_or_default();
    name.eq_ignore_ascii_case(table) || matches!(name, "$batch" | "%24batch")
}

fn permits(permissions: &str, incoming: &Incoming) -> bool {
    let any = |wanted: &str| permissions.contains(|permission| wanted.contains(permission));
    match method(&incoming.method, &incoming.headers) {
        "GET" if incoming.path.starts_with("/Tables") => any("lr"),
        "GET" => any("r"),
        "POST" if incoming.path.starts_with("/Tables") => any("cwa"),
        "DELETE" => any("d"),
        "PUT" | "MERGE" | "PATCH" => any("uw"),
        _ if incoming.method == Method::POST => any("auwd"),
        _ => false,
    }
}

const RFC1123: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// `Sun, 22 Nov 2026 12:18:00 GMT`.
fn parse_date(text: &str) -> Option<Time> {
    let time = ::time::PrimitiveDateTime::parse(text, RFC1123).ok()?;
    Some(Time::from_unix_seconds(time.assume_utc().unix_timestamp()))
}

/// The `Date` of a reply: whole seconds, cut and not rounded.
pub(super) fn date(time: Time) -> String {
    let seconds = time.ticks().div_euclid(Time::TICKS_PER_SECOND);
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(RFC1123).unwrap_or_default()
}

/// A time of a signature: a date, or a time to the minute or finer.
fn parse_stamp(text: &str) -> Option<Time> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    match text.len() {
        10 => Time::parse_storage(&format!("{text}T00:00:00Z")),
        16 => Time::parse_storage(&format!("{text}:00Z")),
        _ => Time::parse_storage(&format!("{text}Z")),
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    const PATH: &str = "/acct/Orders(PartitionKey='p',RowKey='')";

    fn now() -> Time {
        Time::parse("2026-11-22T12:18:00.5000000Z").unwrap()
    }

    fn key() -> SharedKey {
        SharedKey::new("acct", b"key").unwrap()
    }

    fn incoming(method: Method, query: &str, headers: &[(&'static str, &str)]) -> Incoming {
        let headers = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let path = PATH.strip_prefix("/acct").unwrap().to_owned();
        let headers: HeaderMap = headers.collect();
        Incoming { method, path, query: query.to_owned(), headers, body: bytes::Bytes::new() }
    }

    fn admits(incoming: &Incoming) -> Result<(), (Option<u16>, String)> {
        let result = Admission::Key(key()).admit(incoming, PATH, now());
        result.map_err(|err| (err.status, err.code))
    }

    fn failed() -> Result<(), (Option<u16>, String)> {
        Err((Some(403), "AuthenticationFailed".to_owned()))
    }

    #[test]
    fn both_forms_of_a_shared_key_are_verified() {
        let date = date(now());
        assert_eq!(date, "Sun, 22 Nov 2026 12:18:00 GMT");
        let lite = key().sign(&format!("{date}\n/acct{PATH}"));
        let full = key().sign(&format!("PUT\n\napplication/json\n{date}\n/acct{PATH}"));
        let sent = |authorization: &str, date: &str| {
            let headers = [("authorization", authorization), ("x-ms-date", date), ("content-type", "application/json")];
            admits(&incoming(Method::PUT, "", &headers))
        };
        assert_eq!(sent(&format!("SharedKeyLite acct:{lite}"), &date), Ok(()));
        assert_eq!(sent(&format!("SharedKey acct:{full}"), &date), Ok(()));
        assert_eq!(sent(&format!("SharedKey acct:{lite}"), &date), failed());
        assert_eq!(sent(&format!("SharedKeyLite other:{lite}"), &date), failed());
        assert_eq!(sent("Bearer token", &date), failed());
        let early = "Sun, 22 Nov 2026 12:02:00 GMT";
        let stale = key().sign(&format!("{early}\n/acct{PATH}"));
        assert_eq!(sent(&format!("SharedKeyLite acct:{stale}"), early), failed());
    }

    #[test]
    fn who_brings_nothing_is_told_so_and_an_open_account_asks_for_nothing() {
        let bare = incoming(Method::GET, "", &[]);
        assert_eq!(admits(&bare), Err((Some(401), "NoAuthenticationInformation".to_owned())));
        assert_eq!(Admission::Open.admit(&bare, PATH, now()), Ok(()));
    }

    fn account_sas(permissions: &str, services: &str, until: &str) -> String {
        let text = format!("acct\n{permissions}\n{services}\nsco\n\n{until}\n\n\n2019-02-02\n");
        let signature = key().sign(&text).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("sv=2019-02-02&ss={services}&srt=sco&sp={permissions}&se={until}&sig={signature}")
    }

    #[test]
    fn a_shared_access_signature_grants_what_it_says_while_it_lasts() {
        let get = |query: &str| admits(&incoming(Method::GET, query, &[]));
        assert_eq!(get(&account_sas("rl", "qt", "2026-11-22T12:19:00Z")), Ok(()));
        assert_eq!(get(&account_sas("rl", "t", "2026-11-22T12:18:00Z")), failed());
        let mismatch = || Err((Some(403), "AuthorizationPermissionMismatch".to_owned()));
        assert_eq!(get(&account_sas("rl", "b", "2026-11-23")), mismatch());
        assert_eq!(get(&account_sas("aud", "t", "2026-11-23")), mismatch());
        assert_eq!(get(&account_sas("rl", "t", "2026-11-23").replace("sp=rl", "sp=rwdlacu")), failed());
        let table = |name: &str, ranges: &str| {
            let resource = format!("/table/acct/{}", name.to_lowercase());
            let text = format!("r\n\n2026-11-23\n{resource}\n\n\n\n2019-02-02\n{ranges}\n\n\n");
            let signature = key().sign(&text).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
            get(&format!("sv=2019-02-02&tn={name}&sp=r&se=2026-11-23&spk={ranges}&sig={signature}"))
        };
        assert_eq!(table("Orders", ""), Ok(()));
        assert_eq!(table("Others", ""), mismatch());
        assert_eq!(table("Orders", "a"), mismatch());
    }
}
