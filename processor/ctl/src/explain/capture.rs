//! A request as a proxy wrote it. Becomes the raw record that ingest would have written of it,
//! or the answer by which ingest would have refused it.

use std::net::{IpAddr, Ipv4Addr};

use sluice_schemas::identity::sha256;
use sluice_schemas::raw::{Ack, Headers, REQUEST, RawRequest};
use sluice_schemas::record::Record;
use sluice_schemas::settings::{Settings, Source};
use uuid::Uuid;

use super::cause::{Cause, Finding};
use super::curl;
use super::guess::body::{dechunked, unescaped};

/// Where webhooks come in.
const HOOKS: &str = "/v1/hooks/";

/// Headers that ingest does not keep.
const DROPPED: [&str; 11] = [
    "authorization",
    "connection",
    "cookie",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A request as it was recorded.
#[derive(Debug, Default)]
pub struct Capture {
    pub method: String,
    /// Path and query, the token included.
    pub target: String,
    pub headers: Headers,
    pub body: Vec<u8>,
    /// A line `# received_at: MICROSECONDS` before the request, as provider fixtures have it.
    pub received_at: Option<i64>,
    /// A line `# token: true` before the request: it had what the source requires.
    pub token: Option<bool>,
}

/// What ingest would have answered.
pub struct NotTaken {
    pub status: u16,
    pub finding: Finding,
}

/// Reads a capture; an error is a sentence that says what to do.
pub fn parse(content: &[u8]) -> Result<Capture, String> {
    let mut capture = Capture::default();
    let mut rest = content;
    let mut is_verbose = false;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, behind) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        let is_last = end.is_none();
        rest = behind;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let marked = line.strip_prefix(b"> ").or(line.strip_prefix(b">"));
        is_verbose |= marked.is_some();
        let line = marked.unwrap_or(line);
        if line.is_empty() && !capture.method.is_empty() {
            break;
        }
        capture.line(line)?;
        if is_last {
            break;
        }
    }
    if capture.method.is_empty() {
        return Err(
            "the file is neither a raw record nor a request: its first line must be one like \
                    `POST /v1/hooks/NAME HTTP/1.1`"
                .to_owned(),
        );
    }
    let rest = curl::body(rest, &capture.headers, is_verbose)?;
    capture.body = rest.to_vec();
    let chunked = capture
        .headers
        .all("transfer-encoding")
        .any(|value| value.eq_ignore_ascii_case(b"chunked"));
    if let Some(body) = dechunked(rest).filter(|_| chunked) {
        capture.body = body;
    }
    Ok(capture)
}

impl Capture {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        // Latin-1, so that any byte of a value survives.
        let text: String = line.iter().copied().map(char::from).collect();
        let bytes = |text: &str| text.chars().filter_map(|c| u8::try_from(c).ok()).collect();
        if let Some(setting) = text.strip_prefix('#') {
            self.setting(setting.trim());
        } else if text.trim().is_empty() || curl::is_of_curl(line) {
            // Not of the request.
        } else if text.starts_with([' ', '\t']) && !self.headers.0.is_empty() {
            if let Some((_, value)) = self.headers.0.last_mut() {
                value.push(b' ');
                value.extend::<Vec<u8>>(bytes(text.trim()));
            }
        } else if let Some(pseudo) = text.strip_prefix(':') {
            match pseudo
                .split_once(':')
                .map(|(name, value)| (name, value.trim()))
            {
                Some(("method", value)) => value.clone_into(&mut self.method),
                Some(("path", value)) => value.clone_into(&mut self.target),
                Some(("authority", value)) => {
                    self.headers.0.push(("host".to_owned(), bytes(value)));
                }
                _ => {}
            }
        } else if self.method.is_empty() {
            self.request_line(&text)?;
        } else if let Some((name, value)) = text.split_once(':') {
            let name = name.trim().to_ascii_lowercase();
            self.headers.0.push((name, bytes(value.trim())));
        } else {
            return Err("a header of the request has no colon; between the headers and the body must be an \
                        empty line"
                .to_owned());
        }
        Ok(())
    }

    fn setting(&mut self, setting: &str) {
        match setting
            .split_once(':')
            .map(|(name, value)| (name.trim(), value.trim()))
        {
            Some(("received_at", value)) => self.received_at = value.parse().ok(),
            Some(("token", value)) => self.token = value.parse().ok(),
            _ => {}
        }
    }

    fn request_line(&mut self, text: &str) -> Result<(), String> {
        let mut words = text.split_ascii_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next());
        let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
        let Some(target) = target.filter(|_| is_method) else {
            return Err("the file is neither a raw record of `sluicectl show --raw P O --show-bodies` nor a \
                        request: its first line must be one like `POST /v1/hooks/NAME HTTP/1.1`"
                .to_owned());
        };
        method.clone_into(&mut self.method);
        let absolute = target.split_once("://").map(|(_, rest)| rest);
        match absolute.map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len()))) {
            Some((host, path)) => {
                self.headers
                    .0
                    .push(("host".to_owned(), host.as_bytes().to_vec()));
                path.clone_into(&mut self.target);
            }
            None => target.clone_into(&mut self.target),
        }
        Ok(())
    }

    /// The source and the token that its path names.
    fn named(&self) -> Option<(&str, Option<&str>)> {
        let path = self.target.split(['?', '#']).next()?;
        let rest = path.strip_prefix(HOOKS)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        Some(match rest.split_once('/') {
            Some((source, token)) => (source, Some(token)),
            None => (rest, None),
        })
    }

    /// The source that it is judged as: the named one, else the one of its path.
    pub fn source<'s>(
        &self,
        settings: &'s Settings,
        named: Option<&str>,
    ) -> Result<&'s Source, String> {
        let of_path = self.named().map(|(source, _)| source);
        let name = named.or(of_path.filter(|name| settings.sources.contains_key(*name)));
        let known = || {
            settings
                .sources
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let Some(name) = name else {
            return Err(format!(
                "a capture needs --source NAME; the settings have {}",
                known()
            ));
        };
        let source = settings.sources.get(name);
        source.ok_or_else(|| format!("the settings have no source {name}; they have {}", known()))
    }

    /// Whether ingest would have taken it, and whether it had a token or header that the source requires.
    pub fn taken(&self, source: &Source) -> Result<bool, NotTaken> {
        let refused = |status: u16, cause: Cause, says: String| NotTaken {
            status,
            finding: Finding::proved(cause, says),
        };
        if self.method != "POST" {
            let says = format!("the method is {}", crate::output::plain(&self.method));
            return Err(refused(405, Cause::NotPost, says));
        }
        if !source.enabled {
            let says = format!("sources.{}.enabled is false", source.name);
            return Err(refused(404, Cause::SourceDisabled, says));
        }
        self.token(source)
            .map_err(|(cause, says)| refused(404, cause, says))?;
        self.required(source)
            .map_err(|says| refused(404, Cause::RequiredHeader, says))?;
        if u64::try_from(self.body.len()).is_ok_and(|long| long > source.max_body) {
            let says = format!(
                "the body has {} bytes, and max_body is {}",
                self.body.len(),
                source.max_body
            );
            return Err(refused(413, Cause::BodyTooLarge, says));
        }
        Ok(!source.token_sha256.is_empty() || !source.require_headers.is_empty())
    }

    fn token(&self, source: &Source) -> Result<(), (Cause, String)> {
        if self.token == Some(true) {
            return Ok(());
        }
        let named = self.named();
        let takes = !source.token_sha256.is_empty();
        if !takes {
            return match named {
                Some((name, Some(_))) if name == source.name => {
                    let says = "the URL has a token, and the source has no token_sha256";
                    Err((Cause::TokenWrong, says.to_owned()))
                }
                _ => Ok(()),
            };
        }
        let is_one = |text: &str| {
            let hash = sha256(&unescaped(text.as_bytes(), false));
            source.token_sha256.contains(&hash)
        };
        match named {
            Some((_, Some(token))) if is_one(token) => Ok(()),
            Some((_, Some(_))) => {
                let says = "the URL has a token, whose SHA-256 is none of token_sha256";
                Err((Cause::TokenWrong, says.to_owned()))
            }
            // A path of a proxy's own may have it anywhere.
            None if self.target.split(['/', '?', '&', '=']).any(is_one) => Ok(()),
            _ => Err((
                Cause::TokenMissing,
                "the URL has no token, and the source requires one".to_owned(),
            )),
        }
    }

    fn required(&self, source: &Source) -> Result<(), String> {
        if self.token == Some(true) {
            return Ok(());
        }
        for (name, hashes) in &source.require_headers {
            let mut values = self.headers.all(name);
            match (values.next(), values.next()) {
                (Some(value), None) if hashes.contains(&sha256(value)) => {}
                (None, _) => return Err(format!("the required header {name} is missing")),
                (Some(_), Some(_)) => {
                    return Err(format!("the required header {name} stands more than once"));
                }
                (Some(_), None) => {
                    return Err(format!("the required header {name} has another value"));
                }
            }
        }
        Ok(())
    }

    /// The raw record that ingest would have written.
    pub fn record(
        &self,
        settings: &Settings,
        source: &Source,
        received_at: i64,
        token: bool,
    ) -> Record {
        let nominated: Vec<String> = self
            .headers
            .all("connection")
            .flat_map(|value| {
                String::from_utf8_lossy(value)
                    .to_ascii_lowercase()
                    .split(',')
                    .map(|one| one.trim().to_owned())
                    .collect::<Vec<_>>()
            })
            .collect();
        let required = |name: &str| source.require_headers.iter().any(|(one, _)| one == name);
        let is_kept = |(name, _): &&(String, Vec<u8>)| {
            !DROPPED.contains(&name.as_str()) && !required(name) && !nominated.contains(name)
        };
        let kept = self.headers.0.iter().filter(is_kept).cloned().collect();
        let target = match (self.named(), self.target.split_once('?')) {
            (Some((name, _)), Some((_, query))) => format!("{HOOKS}{name}?{query}"),
            (Some((name, _)), None) => format!("{HOOKS}{name}"),
            (None, _) => self.target.clone(),
        };
        let request = RawRequest {
            id: Uuid::nil(),
            source: source.name.clone(),
            provider: source.provider.spec().name.to_owned(),
            received_at,
            method: self.method.clone(),
            target,
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            token,
            ack: Ack::Broker,
            headers: Headers(kept),
        };
        Record {
            topic: settings.topics.names.raw(),
            partition: 0,
            offset: 0,
            timestamp: received_at.div_euclid(1000),
            key: Vec::new(),
            value: self.body.clone(),
            headers: vec![(REQUEST.to_owned(), request.encode())],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_proxies_write_it() {
        for text in [
            "POST /v1/hooks/a/t?x=1 HTTP/1.1\nHost: h\nX-Sig: \u{e9}=\n\n{\"a\":\n\n1}",
            "POST /v1/hooks/a/t?x=1 HTTP/1.1\r\nHost: h\r\nX-Sig: \u{e9}=\r\n\r\n{\"a\":\n\n1}",
            "* Connected\n> POST /v1/hooks/a/t?x=1 HTTP/1.1\n> Host: h\n> X-Sig: \u{e9}=\n>\n{\"a\":\n\n1}",
            "POST http://h/v1/hooks/a/t?x=1 HTTP/1.1\nX-Sig: \u{e9}=\n\n{\"a\":\n\n1}",
            ":method: POST\n:path: /v1/hooks/a/t?x=1\n:authority: h\nx-sig: \u{e9}=\n\n{\"a\":\n\n1}",
        ] {
            let bytes: Vec<u8> = text
                .chars()
                .map(|c| u8::try_from(c).expect("Latin-1"))
                .collect();
            let capture = parse(&bytes).expect("a request");
            assert_eq!(capture.named(), Some(("a", Some("t"))), "{text}");
            assert_eq!(
                capture.headers.all("x-sig").next(),
                Some(&b"\xe9="[..]),
                "{text}"
            );
            assert_eq!(
                capture.headers.all("host").next(),
                Some(&b"h"[..]),
                "{text}"
            );
            assert_eq!(capture.body, b"{\"a\":\n\n1}", "{text}");
        }
        let chunked =
            b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("a request").body, b"abcde");
        for bad in [
            "",
            "hello",
            "{}",
            "post / x",
            "POST / HTTP/1.1\nno colon\n\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
