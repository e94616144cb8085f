//! The requests of a scene: for ingest as bytes on the wire, for the processor as raw records.

use anyhow::Result;
use sluice_tests::harness::client::Outgoing;
use sluice_tests::harness::deployment::{Site, Source, now};
use sluice_tests::load::raw::Raw;

use super::scene::Scene;

/// The n-th request of a scene, signed now, with a body of its length or a little more.
fn request<'a>(scene: &Scene, site: &'a Site, n: u64, at: i64) -> Result<(&'a Source, Outgoing)> {
    let (source, event) = scene.nth(site, n)?;
    let mut request = source.unsigned(&event, n, at)?;
    pad(&mut request.body, 1024 * usize::try_from(scene.body)?);
    Ok((source, source.sign(&request, at)?))
}

/// Further members of an object, up to this length or a little more.
fn pad(body: &mut Vec<u8>, length: usize) {
    let end = body.pop();
    let mut member = 0;
    while body.len() < length {
        let text = format!(r#","member_{member}":{{"id":{member},"text":"one of several"}}"#);
        body.extend_from_slice(text.as_bytes());
        member += 1;
    }
    body.extend(end);
}

/// Requests on the wire, so many.
pub fn on_the_wire(scene: &Scene, site: &Site, count: u64) -> Result<Vec<Vec<u8>>> {
    let at = now();
    let requests = (0..count).map(|n| Ok(request(scene, site, n, at)?.1.on_the_wire()));
    requests.collect()
}

/// Raw records of these numbers.
pub fn raw(scene: &Scene, site: &Site, numbers: std::ops::Range<u64>) -> Result<Vec<Raw>> {
    let at = now();
    let records = numbers.map(|n| {
        let (source, request) = request(scene, site, n, at)?;
        Raw::new(source, request, n, at)
    });
    records.collect()
}

#[cfg(test)]
mod tests {
    use super::pad;

    #[test]
    fn a_padded_body_is_an_object_of_the_length() {
        let mut body = br#"{"a":1}"#.to_vec();
        pad(&mut body, 4096);
        assert!((4096..4200).contains(&body.len()), "{}", body.len());
        let object: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(object["a"], 1);
        assert_eq!(object["member_3"]["id"], 3);
    }
}
