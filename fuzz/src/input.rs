//! How an input that is more than one text is written: as HTTP writes it, so that people can read and write one.

/// A first line, headers, an empty line, a body. Whatever is missing is empty.
pub struct Input<'a> {
    pub first: &'a str,
    pub headers: Vec<(String, String)>,
    pub body: &'a [u8],
}

impl<'a> Input<'a> {
    pub fn read(bytes: &'a [u8]) -> Self {
        let mut rest = bytes;
        let mut line = || {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (line, behind) = end.map_or((rest, &rest[rest.len()..]), |end| (&rest[..end], &rest[end + 1..]));
            rest = behind;
            std::str::from_utf8(line).unwrap_or_default().trim_end_matches('\r')
        };
        let first = line();
        let mut headers = Vec::new();
        loop {
            let header = line();
            // What is no header ends them, as an empty line does.
            let Some((name, value)) = header.split_once(':') else { break };
            // No other name comes through an HTTP client.
            if name.is_ascii() {
                headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Self { first, headers, body: rest }
    }

    /// The value of a header, by its name in lower case; of one that is there twice the last.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().rfind(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}
