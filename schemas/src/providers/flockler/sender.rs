//! Sending as Flockler does.

use serde_json::json;

use super::description::DESCRIPTION;
use super::lowercase::Lowercase;
use super::options::{Encoding, Source};
use super::spec::{ACTION, ENVIRONMENT, SIGNATURE, SPEC};
use crate::providers::api::Spec;
use crate::providers::description::Description;
use crate::providers::sending::{self, SendingSource, Unsigned};

/// The URL as a person typed it, capitals included: what is signed is this text, wherever the request
/// goes to.
const URL: &str = "https://Hooks.example.com/v1/hooks/site";

/// Sends as the provider does.
#[derive(Debug)]
pub struct Sender;

impl sending::Sender for Sender {
    fn spec(&self) -> &'static Spec {
        &SPEC
    }

    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    #[cfg(feature = "testing")]
    fn source(&self, name: &str) -> sending::TestSource {
        sending::TestSource {
            settings: json!({
                "provider": SPEC.name,
                "secrets": [name],
                "options": {"webhook_urls": [URL]},
            }),
            files: vec![(
                name.to_owned(),
                format!("{name}-flockler-secret").into_bytes(),
            )],
            token: None,
        }
    }

    fn events(&self) -> &'static [&'static str] {
        SPEC.documented
    }

    fn sample(&self, event: &str, n: u64, at: i64) -> Unsigned {
        let action = event.strip_prefix("article.").unwrap_or(event);
        // The documented `unpublish` has the id alone; the time stands next to it so that two of them
        // can differ, as any unknown member may.
        let article = if action == "unpublish" {
            json!({"id": n, "unpublished_at": sending::iso8601(at)})
        } else {
            json!({
                "id": n, "site_id": 180, "section_id": 718,
                "title": format!("ÄÖÅ Étude {n}, {}", sending::iso8601(at)),
                "body": "<p>Good tips</p>\n", "summary": "", "author": "ajk", "type": "link",
                "url": format!("https://example.com/blog/{n}"), "article_url": format!("blog-{n}"),
                "tags": ["ruby", "optimization"],
                "published_at": sending::iso8601(at), "source_url": null, "attachments": {},
            })
        };
        Unsigned {
            headers: vec![
                (ACTION.to_owned(), action.to_owned()),
                (ENVIRONMENT.to_owned(), "production".to_owned()),
            ],
            body: json!({"action": action, "article": article})
                .to_string()
                .into_bytes(),
            delivery_id: String::new(),
        }
    }

    /// As Ruby does.
    fn sign(&self, request: &Unsigned, secret: &[u8], _at: i64) -> Vec<(String, String)> {
        let mac = mac(request, URL.as_bytes(), Lowercase::Unicode, secret);
        vec![(SIGNATURE.to_owned(), hex::encode(mac))]
    }

    fn sign_for(
        &self,
        mut sample: Unsigned,
        source: &SendingSource<'_>,
        _at: i64,
    ) -> Result<Unsigned, String> {
        let options = Source::read(&mut source.options());
        for (name, value) in &mut sample.headers {
            if let Some(environment) = options.environments.first().filter(|_| name == ENVIRONMENT)
            {
                (*environment).clone_into(value);
            }
        }
        let in_files = options.webhook_url_files.iter();
        let mut urls = (options.webhook_urls.iter().map(String::as_bytes))
            .chain(in_files.filter_map(|file| source.files.get(file).map(Vec::as_slice)));
        let url = urls.next().ok_or("the source names no webhook URL")?;
        let way = options.lowercases.first().copied();
        let way = way.unwrap_or(Lowercase::Unicode);
        let digest = mac(&sample, url, way, source.secret()?);
        let digits = hex::encode(digest);
        let value = match options.encoding {
            Encoding::Auto | Encoding::Hex => digits,
            Encoding::Base64 => sending::base64(&digest),
            Encoding::Base64Hex => sending::base64(digits.as_bytes()),
        };
        Ok(sample.with([(SIGNATURE.to_owned(), value)]))
    }
}

fn mac(request: &Unsigned, url: &[u8], way: Lowercase, secret: &[u8]) -> [u8; 32] {
    let header = |name: &str| {
        let found = request.headers.iter().find(|(found, _)| found == name);
        found.map_or(b"".as_slice(), |(_, value)| value.as_bytes())
    };
    let parts = [b"POST", header(ACTION), header(ENVIRONMENT), url, b""];
    let prefix = parts.join(&b'|');
    sending::mac(secret, &[&way.apply(&prefix), &way.apply(&request.body)])
}
