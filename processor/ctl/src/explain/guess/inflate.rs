//! What a compressed body was, where it is gzip or zlib.

use std::io::Read;

use flate2::read::{GzDecoder, ZlibDecoder};

/// The largest result, in bytes: far above any body that is taken.
const LARGEST: u64 = 64 << 20;

/// The coding of the bytes, and what they hold; `None` where they are no whole stream of one.
pub fn inflated(bytes: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let found = match bytes {
        [0x1f, 0x8b, ..] => ("gzip", whole(GzDecoder::new(bytes))?),
        [0x78, ..] => ("zlib", whole(ZlibDecoder::new(bytes))?),
        _ => return None,
    };
    Some(found)
}

fn whole(stream: impl Read) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let read = stream.take(LARGEST + 1).read_to_end(&mut out).ok()?;
    (read as u64 <= LARGEST).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::unbase64;
    use super::*;

    #[test]
    fn what_gzip_and_zlib_wrote_is_read() {
        let text = r#"{"name":"campaign.launched","data":{"a":"aaaaaaaaaaaaaaaaaaaaaaaa"}}"#;
        for (coding, written) in [
            (
                "gzip",
                "H4sIAAAAAAACA6tWykvMTVWyUkpOzC1IzEzP08tJLM1LzkhNUdJRSkksSVSyqlYCEkqJOIBSbS0AxjXZRUQAAAA=",
            ),
            (
                "zlib",
                "eJyrVspLzE1VslJKTswtSMxMz9PLSSzNS85ITVHSUUpJLElUsqpWAhJKiTiAUm0tAB3NF4U=",
            ),
            (
                "zlib",
                "eAEBRAC7/3sibmFtZSI6ImNhbXBhaWduLmxhdW5jaGVkIiwiZGF0YSI6eyJhIjoiYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhIn19Hc0XhQ==",
            ),
        ] {
            let read = inflated(&unbase64(written)).expect("inflated");
            assert_eq!((read.0, read.1.as_slice()), (coding, text.as_bytes()));
        }
        assert_eq!(inflated(b"{\"a\":1}"), None);
        assert_eq!(inflated(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0xff]), None);
    }

    #[test]
    fn codes_of_its_own_are_read() {
        let people = (0..40).map(|n| format!("{{\"id\":{n},\"name\":\"person {}\"}}", n * 7919));
        let people: Vec<String> = people.collect();
        let written = [
            "eNpt07FuwkEIx/FXaW52gB9wgK/SdGhSBwdtU7sZ370mJof54/xluPsEruP4dzhdxv79Oo5fY0+7cf48HcZ+/Bx+L9",
            "/nNxq33SPxNnlyroptZQuJlWWbIW6+sm6z8PS5srWclrby3GZ1Y13Zt9lMRVaObZ4ihpWzfZvhXCr0iuVJrbGFM5Ub",
            "N7g0QsFxk2NCatFxs2OmmIXH1gfCo/i4+TGmUwFyE2TRiSLkZsgK00Lk7OtBOosR9HJ/yhHNkedEPi1g30BXcEmiSw",
            "ZYShJdMomsJNEl09NLEk0SZJEliSZ5f0FwSaJJAuxSksg+kNNKUujlqZWkNEmoaZSkNEmYKD0dc7/myYKSFO0DCS1J",
            "aZJw51mS0iXDKEpSumQKUUlKk7znRElK9oEIvUt+3P4Bi8BzxQ==",
        ];
        let read = inflated(&unbase64(&written.concat())).expect("inflated");
        let text = format!("{{\"items\":[{}]}}", people.join(","));
        assert_eq!(String::from_utf8(read.1).expect("UTF-8"), text);
    }
}
