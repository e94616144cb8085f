//! Requests that hyper accepts and Ingest does not.

use hyper::header::{HOST, HeaderName, HeaderValue, TRANSFER_ENCODING};
use hyper::{Request, Version};
use sluice_schemas::settings::Limits;

use crate::answer::Answer;

/// The most headers of one request, hyper's own number: room for what a provider, a balancer and a tracer
/// add, and no more. A sender exceeds it for its own request alone: 431.
pub(super) const MAX_HEADERS: usize = 100;

/// The answer to a request whose head is too large, for hyper bounds what it reads, but not to the byte, and
/// of HTTP/2 not the number of headers; that names no host or two; or whose body is encoded in addition to
/// its chunks, or chunked twice, which another server may read in another way. `None` for all others.
pub(super) fn protocol_violation<B>(request: &Request<B>, limits: &Limits) -> Option<Answer> {
    let headers = request.headers();
    let line = request.uri().path().len() + request.uri().query().map_or(0, str::len);
    // Between a name and its value, and behind it, stand four bytes.
    let header = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let bytes = line + headers.iter().map(header).sum::<usize>();
    if headers.len() > MAX_HEADERS || bytes > limits.header_bytes {
        return Some(Answer::HeadTooLarge);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    let odd = codings.next().is_some_and(|coding| !chunked(coding)) || codings.next().is_some();
    // A proxy before us may choose another of two hosts than we would.
    let hosts = headers.get_all(HOST).iter().count();
    let hostless = request.version() == Version::HTTP_11 && hosts != 1;
    (odd || hostless).then_some(Answer::BadRequest)
}
