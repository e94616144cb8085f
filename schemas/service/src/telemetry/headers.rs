//! The headers that the collector is sent, such as a token: a file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::http::header::{HeaderMap, HeaderName, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use sluice_schemas::identity::sha256;
use sluice_schemas::settings::Fault;

use crate::files;
use crate::secrets::MAX_SECRET_BYTES;
use crate::watch::{self, ApplyError, Digest, Policy, Poll, Watched, Watching, digest_of_faults};

/// How often the file is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(5);

static POLICY: Policy = Policy {
    settle: Duration::ZERO,
    confirm_faults: false,
    retry: Duration::ZERO,
    rejected: "the headers for the collector cannot be read, and the last good ones stay in use: correct the \
               file, it is read again",
    restored: "the headers for the collector can be read again",
};

/// The headers as the file has them now.
pub type Headers = Arc<ArcSwap<HeaderMap>>;

/// Reads the file and watches it. Without one there are no headers.
pub fn watch_headers(
    file: Option<&Path>,
    failures: Counter,
) -> Result<(Headers, Option<Watching>), Fault> {
    let Some(file) = file.map(PathBuf::from) else {
        return Ok((Headers::default(), None));
    };
    let (digest, first) = read(&file)?;
    let headers = Arc::new(ArcSwap::from_pointee(first));
    let mut watched = Watched::new(&POLICY, None, digest);
    let (thread, watching) = watch::thread();
    let in_use = Arc::clone(&headers);
    thread.start("headers", POLL_INTERVAL, move || {
        let reading = read(&file).map_err(|fault| vec![fault]);
        let digest = match &reading {
            Ok((digest, _)) => *digest,
            Err(faults) => digest_of_faults(faults),
        };
        let outcome = watched.poll(digest, Instant::now(), &failures, || {
            reading
                .map(|(_, headers)| headers)
                .map_err(ApplyError::Faults)
        });
        if let Poll::Applied(headers) = outcome {
            in_use.store(Arc::new(headers));
            tracing::info!("the headers for the collector changed");
        }
        POLL_INTERVAL
    });
    Ok((headers, Some(watching)))
}

/// Reads the file. The error never shows the content.
pub fn read(file: &Path) -> Result<(Digest, HeaderMap), Fault> {
    let wrong = |message: String| Fault {
        path: "telemetry.otlp_headers_file".to_owned(),
        message: format!("{}: {message}", file.display()),
    };
    let content = files::read(file, MAX_SECRET_BYTES).map_err(|error| wrong(error.to_string()))?;
    let text = String::from_utf8(content).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
    let headers =
        headers(&text).map_err(|line| wrong(format!("line {line} is not `name: value`")))?;
    Ok((sha256(text.as_bytes()), headers))
}

/// The error is the number of the line.
fn headers(text: &str) -> Result<HeaderMap, usize> {
    let mut headers = HeaderMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            let mut value = HeaderValue::try_from(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = header.ok_or(index + 1)?;
        headers.insert(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_a_line_each() {
        let read = headers("Authorization: Bearer abc\r\n\nx-tenant: a:b\n").expect("headers");
        assert_eq!(read["authorization"], "Bearer abc");
        assert_eq!(read["x-tenant"], "a:b");
        assert!(!format!("{read:?}").contains("abc"));
        assert_eq!(headers("x: y\nno header\n"), Err(2));
        assert_eq!(headers("x y: z"), Err(1));
        assert_eq!(headers("x: \u{1}"), Err(1));
    }
}
