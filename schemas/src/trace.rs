//! The trace context of W3C (`traceparent`, version 00): which trace and span a record belongs to, and
//! whether the trace is sampled.

use std::fmt;

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace; never all zeros where it was parsed.
    pub trace_id: [u8; 16],
    /// The span; never all zeros where it was parsed.
    pub span_id: [u8; 8],
    /// Whether spans of the trace are exported.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`. `None` where it is not one: malformed, too long, of another version, or with an
    /// id of zeros.
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.len() != LENGTH || value[2] != b'-' || value[35] != b'-' || value[52] != b'-' {
            return None;
        }
        let [version] = bytes::<1>(&value[..2])?;
        let trace_id = bytes::<16>(&value[3..35])?;
        let span_id = bytes::<8>(&value[36..52])?;
        let [flags] = bytes::<1>(&value[53..])?;
        let valid = version == 0 && trace_id != [0; 16] && span_id != [0; 8];
        valid.then_some(Self {
            trace_id,
            span_id,
            sampled: flags & 1 == 1,
        })
    }

    /// The trace, in hex.
    pub fn trace(&self) -> String {
        hex::encode(self.trace_id)
    }

    /// The span, in hex.
    pub fn span(&self) -> String {
        hex::encode(self.span_id)
    }

    /// Another span of the same trace.
    #[must_use]
    pub fn with_span(self, span_id: [u8; 8]) -> Self {
        Self { span_id, ..self }
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One is made for each request: the formatter takes four times as long for its numbers.
        let mut text = *b"00---------------------------------------------------00";
        let hex = |bytes: &[u8], digits: &mut [u8]| hex::encode_to_slice(bytes, digits);
        hex(&self.trace_id, &mut text[3..35]).map_err(|_| fmt::Error)?;
        hex(&self.span_id, &mut text[36..52]).map_err(|_| fmt::Error)?;
        text[54] += u8::from(self.sampled);
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Bytes from hex in lower case, as the recommendation demands.
fn bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

/// Whether a trace is sampled follows from its id alone, as OpenTelemetry's ratio sampler decides it, so that
/// later services agree.
pub fn is_sampled(trace_id: [u8; 16], ratio: f64) -> bool {
    let mut last = [0; 8];
    last.copy_from_slice(&trace_id[8..]);
    let position = u64::from_be_bytes(last) >> 1;
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share of requests needs no exact bound"
    )]
    let below = (position as f64) < ratio * (1_u64 << 63) as f64;
    ratio >= 1.0 || below
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-abababababababababababababababab-cdcdcdcdcdcdcdcd-01";

    #[test]
    fn a_context_is_read_as_it_is_written() {
        let context = TraceContext {
            trace_id: [0xab; 16],
            span_id: [0xcd; 8],
            sampled: true,
        };
        assert_eq!(context.to_string(), GOOD);
        assert_eq!(TraceContext::parse(GOOD.as_bytes()), Some(context));
        let unsampled = GOOD.replace("-01", "-00");
        let parsed = TraceContext::parse(unsampled.as_bytes()).expect("a context");
        assert!(!parsed.sampled);
        assert_eq!(parsed.to_string(), unsampled);
    }

    #[test]
    fn what_is_no_traceparent_of_version_00_is_none() {
        let longer = format!("{GOOD}-00");
        for bad in [
            "",
            &GOOD[..54],
            &longer,
            &GOOD.replace("00-ab", "01-ab"),
            &GOOD.replace("00-ab", "ff-ab"),
            &GOOD.replace("00-abab", "00-ABAB"),
            &GOOD.replace("abab", "0000").replace("ab", "00"),
            &GOOD.replace("cdcd", "0000"),
            &GOOD.replace("-cd", "_cd"),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace("abab", "äb"),
        ] {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_share_of_all_traces_is_sampled() {
        assert!(is_sampled([0xff; 16], 1.0));
        assert!(!is_sampled([0xff; 16], 0.99));
        assert!(!is_sampled([0; 16], 0.0));
        let mut trace = [0xff; 16];
        trace[8..].fill(0);
        assert!(is_sampled(trace, 0.01));
    }
}
