//! What a request says beside what it is about: query options and the headers that shape a reply.

use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use super::failure::{invalid, unreadable};
use crate::model::Etag;
use crate::stores::{Condition, StoreError};

/// The parameters of a query string, decoded.
#[derive(Debug, Default)]
pub(super) struct Options(Vec<(String, String)>);

impl Options {
    /// Reads a query string.
    ///
    /// # Errors
    /// 400 `InvalidQueryParameterValue` where it is not UTF-8.
    pub(super) fn parse(query: &str) -> Result<Self, StoreError> {
        // A plus is a blank, as in a form: whoever means a plus encodes it.
        let decode = |text: &str| match percent_decode_str(&text.replace('+', " ")).decode_utf8() {
            Ok(text) => Ok(text.into_owned()),
            Err(_) => Err(invalid("InvalidQueryParameterValue", "a query parameter is not UTF-8")),
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(name, value)| Ok((decode(name)?, decode(value)?))).collect::<Result<_, _>>().map(Self)
    }

    /// A parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        found.filter(|value| !value.is_empty())
    }

    /// `$top`, the most rows of a page.
    ///
    /// # Errors
    /// 400 `InvalidInput` where it is no number from 1 to 1,000.
    pub(super) fn top(&self) -> Result<Option<u16>, StoreError> {
        let Some(text) = self.get("$top") else { return Ok(None) };
        let top = text.trim().parse().ok().filter(|top| (1..=crate::stores::limits::MAX_PAGE).contains(top));
        top.map(Some).ok_or_else(|| unreadable(format!("$top should be from 1 to 1000, not {text:?}")))
    }

    /// `$select`, the names of properties; `None` for all.
    pub(super) fn select(&self) -> Option<Vec<String>> {
        let names = self.get("$select").filter(|text| text.trim() != "*")?;
        Some(names.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
    }
}

/// How much a reply says about types and addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    /// Values alone.
    None,
    /// The types that JSON does not tell, and ETags.
    Minimal,
    /// Addresses, too.
    Full,
}

impl Metadata {
    /// By `$format`, else by the first `Accept` that names JSON.
    ///
    /// # Errors
    /// 415 `AtomFormatNotSupported` where nothing but XML is accepted.
    pub(super) fn wanted(options: &Options, headers: &HeaderMap) -> Result<Self, StoreError> {
        let accept = options.get("$format").or_else(|| header(headers, "accept")).unwrap_or("*/*");
        let accepted = accept.split(',').map(|one| one.to_ascii_lowercase().replace(' ', ""));
        let mut json = accepted.filter(|one| one.contains("json") || one.starts_with("*/*") || one.is_empty());
        let Some(first) = json.next() else {
            let error = invalid("AtomFormatNotSupported", format!("{accept:?} is not supported: it should be JSON"));
            return Err(StoreError { status: Some(415), ..error });
        };
        Ok(match first {
            _ if first.contains("odata=nometadata") => Self::None,
            _ if first.contains("odata=fullmetadata") => Self::Full,
            _ => Self::Minimal,
        })
    }

    /// The content type of a reply.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::None => "application/json;odata=nometadata;streaming=true;charset=utf-8",
            Self::Minimal => "application/json;odata=minimalmetadata;streaming=true;charset=utf-8",
            Self::Full => "application/json;odata=fullmetadata;streaming=true;charset=utf-8",
        }
    }
}

/// Whether an insert is answered with what was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prefer {
    /// Nothing was said: with content, and no word of it.
    Unsaid,
    Content,
    NoContent,
}

impl Prefer {
    /// What the header says.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        match header(headers, "prefer") {
            Some("return-content") => Self::Content,
            Some("return-no-content") => Self::NoContent,
            _ => Self::Unsaid,
        }
    }

    /// What `Preference-Applied` says.
    pub(super) fn applied(self) -> Option<&'static str> {
        match self {
            Self::Unsaid => None,
            Self::Content => Some("return-content"),
            Self::NoContent => Some("return-no-content"),
        }
    }
}

/// A header's value, where it is text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).map(str::trim)
}

/// The condition of `If-Match`, where there is one.
pub(super) fn condition(headers: &HeaderMap) -> Option<Condition> {
    match header(headers, "if-match") {
        None | Some("") => None,
        Some("*") => Some(Condition::Present),
        Some(etag) => Some(Condition::Matches(Etag::new(etag))),
    }
}

/// The method that is meant: a client that can do no more than POST says the other one in `X-HTTP-Method`.
pub(super) fn method<'a>(method: &'a Method, headers: &'a HeaderMap) -> &'a str {
    match header(headers, "x-http-method") {
        Some(tunnelled) if method == Method::POST => tunnelled,
        _ => method.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(http::HeaderName::from_static(name), http::HeaderValue::from_static(value))])
    }

    #[test]
    fn query_options_are_decoded_and_bounded() {
        let options = Options::parse("$filter=A+eq%20%27%2B%27&$top=7&%24select=A,+B&NextRowKey=").unwrap();
        assert_eq!(options.get("$filter"), Some("A eq '+'"));
        assert_eq!(options.get("NextRowKey"), None);
        assert_eq!(options.top(), Ok(Some(7)));
        assert_eq!(options.select(), Some(vec!["A".to_owned(), "B".to_owned()]));
        assert_eq!(Options::parse("$select=*").unwrap().select(), None);
        for bad in ["$top=0", "$top=1001", "$top=-1", "$top=x"] {
            assert_eq!(Options::parse(bad).unwrap().top().unwrap_err().status, Some(400), "{bad}");
        }
        assert!(Options::parse("a=%FF").is_err());
    }

    #[test]
    fn the_level_of_metadata_is_what_is_asked_for() {
        let level = |query: &str, accept: &'static str| {
            Metadata::wanted(&Options::parse(query).unwrap(), &headers("accept", accept))
        };
        assert_eq!(level("", "application/json;odata=nometadata"), Ok(Metadata::None));
        assert_eq!(level("", "application/atom+xml,application/json; odata=fullmetadata"), Ok(Metadata::Full));
        assert_eq!(level("", "application/json"), Ok(Metadata::Minimal));
        assert_eq!(level("", "*/*"), Ok(Metadata::Minimal));
        let format = "$format=application/json;odata%3Dfullmetadata";
        assert_eq!(level(format, "application/json;odata=nometadata"), Ok(Metadata::Full));
        assert_eq!(level("", "application/atom+xml").unwrap_err().status, Some(415));
        assert_eq!(Metadata::wanted(&Options::default(), &HeaderMap::new()), Ok(Metadata::Minimal));
    }

    #[test]
    fn a_tunnelled_method_counts_on_a_post_alone() {
        let tunnelled = headers("x-http-method", "MERGE");
        assert_eq!(method(&Method::POST, &tunnelled), "MERGE");
        assert_eq!(method(&Method::GET, &tunnelled), "GET");
    }
}
