//! What `curl -v` writes around a request. Comes in: lines of a capture. Goes out: which of them are curl's
//! own, and whether the body that was sent is missing.

use sluice_schemas::raw::Headers;

/// Without the body nothing can be proved: the answer would be judged in its place.
const NO_BODY: &str = "this is the output of `curl -v`, which does not print the body that it sends: delete all \
                       lines behind the request's headers, and put an empty line and the body there, byte \
                       for byte";

/// Whether a line is what curl says of itself, of bytes that went, or of the answer.
pub fn is_of_curl(line: &[u8]) -> bool {
    line.starts_with(b"* ") || line.starts_with(b"< ") || is_count(line)
}

/// A line such as `} [129 bytes data]`.
fn is_count(line: &[u8]) -> bool {
    let count = line.strip_prefix(b"} [").or(line.strip_prefix(b"{ ["));
    let count = count.and_then(|line| line.strip_suffix(b" bytes data]"));
    count.is_some_and(|count| !count.is_empty() && count.iter().all(u8::is_ascii_digit))
}

/// The body behind the headers of a capture. `is_verbose`: its headers begin with `>`, as `curl -v` has them.
pub fn body<'a>(rest: &'a [u8], headers: &Headers, is_verbose: bool) -> Result<&'a [u8], String> {
    let first = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let first = first.strip_suffix(b"\r").unwrap_or(first);
    let is_sent = headers.all("content-length").any(|value| value != b"0")
        || headers.all("transfer-encoding").next().is_some();
    if is_count(first) {
        return Err(NO_BODY.to_owned());
    }
    if !is_verbose || !(first.is_empty() || is_of_curl(first)) {
        return Ok(rest);
    }
    if is_sent {
        return Err(NO_BODY.to_owned());
    }
    Ok(&[])
}

#[cfg(test)]
mod tests {
    use super::super::capture::parse;

    const HEAD: &str =
        "* Connected to h\n} [512 bytes data]\n> POST /v1/hooks/a HTTP/1.1\n> Host: h\n";

    const ANSWER: &str =
        "< HTTP/1.1 200 OK\n< content-length: 9\n<\n{ [9 bytes data]\n{\"id\":1}\n";

    fn parsed(text: &str) -> Result<Vec<u8>, String> {
        parse(text.as_bytes()).map(|capture| capture.body)
    }

    #[test]
    fn what_curl_prints_is_no_body_and_nothing_is_judged_without_one() {
        let sent = "> Content-Length: 7\n>\n";
        for behind in [
            "} [7 bytes data]\n",
            "* upload completely sent off: 7 bytes\n",
            "",
            "\n",
        ] {
            for answer in [ANSWER, ""] {
                let error = parsed(&format!("{HEAD}{sent}{behind}{answer}"));
                let error = error.expect_err(behind);
                assert!(error.contains("does not print the body"), "{error}");
            }
            let crlf = format!("{HEAD}{sent}{behind}{ANSWER}").replace('\n', "\r\n");
            assert!(parsed(&crlf).is_err(), "{behind}");
        }
        let chunked = format!("{HEAD}> Transfer-Encoding: chunked\n>\n{ANSWER}");
        assert!(parsed(&chunked).is_err());
        // The same headers without the marks of curl.
        assert!(parsed("POST / HTTP/1.1\nHost: h\n\n} [7 bytes data]\n").is_err());
    }

    #[test]
    fn a_body_that_was_put_there_counts_and_one_that_was_not_sent_is_empty() {
        let put = format!("{HEAD}> Content-Length: 7\n>\n{{\"a\":1}}");
        assert_eq!(parsed(&put), Ok(b"{\"a\":1}".to_vec()));
        let none = format!("{HEAD}> Content-Length: 0\n>\n{ANSWER}");
        assert_eq!(parsed(&none), Ok(Vec::new()));
        assert_eq!(parsed(&format!("{HEAD}>\n{ANSWER}")), Ok(Vec::new()));
        // Any request may have such a body.
        let plain = "POST / HTTP/1.1\nContent-Length: 3\n\n* a";
        assert_eq!(parsed(plain), Ok(b"* a".to_vec()));
    }
}
