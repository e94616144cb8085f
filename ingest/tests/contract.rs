//! What a sender of webhooks sees, answer by answer, over real connections; Kafka's place is taken by
//! a publisher that remembers.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking"
)]

mod support;

mod requests;

mod access;

mod bodies;

mod limits;

mod scarce;

mod budget;

mod smuggling;

mod peers;

mod http2;

mod half_close;

mod tls;

mod several;

mod chain;

mod broker;

mod descriptors;

mod check;

mod spool;

mod reload;

mod series;

mod traces;

mod guards;

/// Paths that are no source's, or lack its token or have it wrong.
pub const NOT_FOUND: &[&str] = &[
    "/v1/hooks/away",
    "/v1/hooks/list",
    "/v1/hooks/list/",
    "/v1/hooks/list/wrong",
    "/v1/hooks/list/t0ken/more",
    "/v1/hooks/keyed",
    "/v1/hooks/site/t0ken",
    "/v1/hooks/nobody/t0ken",
    "/v1/hooks/",
    "/v1/hooks",
    "/",
    "/v1/hooks/Site",
    "/v1/hooks/site%2F",
    "/v1/hooks//",
    "/v1/hooks//site",
    "/v1/hooks/site//",
    "/v1//hooks/site",
    "/v1/h%6foks/site",
    "/v1/hooks%2Fsite",
    "/v1/hooks/list%2Ft0ken",
    "/v1/hooks/list//t0ken",
    "/v1/hooks/list/t0ken//",
    "/v1/hooks/list/t0ken%2F",
    "/v1/hooks/list//",
    "/v1/hooks/list/t0k%2565n",
    "/v1/hooks/s%2569te",
    "/v1/hooks/site%00",
    "/v1/hooks/site%",
    "/v1/hooks/site%6",
    "/v1/hooks/s%6gte",
    "/v1/hooks/s%C3%AFte",
    "/v1/hooks/s%+9te",
    "/v1/hooks/site%3F",
    "/v1/hooks/%2E%2E/site",
];

/// Values of Content-Encoding that name a coding.
pub const CODED: &[&str] = &[
    "gzip",
    "x-gzip",
    "compress",
    "x-compress",
    "deflate",
    "br",
    "zstd",
    "utf-8, gzip",
    "gzip,",
    ", br",
    "identity, gzip",
    "GZIP",
    "identity\r\nContent-Encoding: gzip",
];

/// Values of Content-Encoding that name none.
pub const NOT_CODED: &[&str] = &[
    "identity",
    "Identity",
    "",
    "utf-8",
    "UTF8",
    "none",
    "null",
    "application/json",
    ",",
];

/// Headers that frame a body in more than one way, or in none.
pub const TWO_READINGS: &[&str] = &[
    "content-length: 2\r\ncontent-length: 3",
    "content-length: +2",
    "content-length: 2, 3",
    "transfer-encoding: gzip",
    "transfer-encoding: chunked, identity",
    "content-length: 2\r\ntransfer-encoding: identity",
    "transfer-encoding : chunked",
];
