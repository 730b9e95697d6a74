//! `multipart/mixed`, the form of transactions on the wire, taken apart: replies by whoever sent one, requests by whoever
//! serves them.

use std::str;

/// Most headers of a part.
pub(crate) const MAX_HEADERS: usize = 32;

/// One part of a multipart text.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    /// Its type, where it says one.
    pub(crate) content_type: Option<&'a str>,
    /// Its `Content-ID`, where it has one.
    pub(crate) content_id: Option<&'a str>,
    /// What follows its headers.
    pub(crate) content: &'a str,
}

/// Takes a text apart at the boundary that its type names.
///
/// # Errors
/// What is wrong with it, to be put behind "the text": it has no boundary, a part without an end to its headers, or
/// breaks off before its last boundary.
pub(crate) fn sections<'a>(content_type: &str, text: &'a str) -> Result<Vec<Section<'a>>, String> {
    let boundary = boundary(content_type).ok_or("is not multipart/mixed with a boundary")?;
    let delimiter = format!("--{boundary}");
    let mut pieces = text.split(delimiter.as_str());
    pieces.next();
    let mut sections = Vec::new();
    for piece in pieces {
        if piece.starts_with("--") {
            return Ok(sections);
        }
        sections.push(section(piece)?);
    }
    Err("breaks off before its last boundary".to_owned())
}

fn boundary(content_type: &str) -> Option<&str> {
    let rest = content_type.strip_prefix("multipart/mixed")?;
    let value = rest.split(';').find_map(|parameter| parameter.trim().strip_prefix("boundary="))?.trim_matches('"');
    (!value.is_empty()).then_some(value)
}

fn section(piece: &str) -> Result<Section<'_>, String> {
    let piece = piece.trim_start_matches(['\r', '\n']);
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let (length, headers) = match httparse::parse_headers(piece.as_bytes(), &mut headers) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Err("has a part without an end to its headers".to_owned()),
        Err(err) => return Err(format!("has a part with unreadable headers ({err})")),
    };
    let header = |name: &str| {
        let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| str::from_utf8(header.value).ok())
    };
    let (content_type, content_id) = (header("content-type"), header("content-id"));
    Ok(Section { content_type, content_id, content: piece.get(length..).unwrap_or_default() })
}
