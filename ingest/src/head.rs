//! The head of a request, as it is held until the request is durable.

use hyper::http::request::Parts;
use sluice_schemas::raw::Headers;

use crate::auth::Route;
use crate::headers;
use crate::mask::Mask;
use crate::path;

/// What a request holds in addition to the text of its head, for its parts of the record. The task of an
/// HTTP/2 stream is not counted: `connections` and `h2_streams` bound it.
const REQUEST: usize = 2 << 10;

/// What the allocator adds to a header's name and value.
const ROUNDING: usize = 16;

/// What is kept of a head. It is a copy: a header that came in a large buffer keeps that buffer, whatever its
/// own length is, and copies are made of it for the record in any case.
#[derive(Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub headers: Headers,
}

impl Head {
    /// What is kept for this source.
    pub fn new(parts: &Parts, route: &Route) -> Self {
        let named = route.takes_token.then(|| path::named(parts.uri.path()));
        let token = named.as_ref().and_then(|named| named.token.as_deref());
        let mask = token.map(Mask::new);
        Self {
            method: parts.method.as_str().to_owned(),
            target: path::target_without_token(&parts.uri, &route.name, mask),
            headers: headers::kept(&parts.headers, &route.required, route.exact, mask),
        }
    }

    /// The bytes that the request holds without its body.
    pub fn bytes(&self) -> usize {
        let headers = &self.headers.0;
        let text = headers.iter().map(|(name, value)| {
            let capacities = name.capacity() + value.capacity();
            capacities + ROUNDING
        });
        REQUEST
            + self.method.capacity()
            + self.target.capacity()
            + size_of_val(headers.as_slice())
            + text.sum::<usize>()
    }
}
