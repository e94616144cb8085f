//! Sending as Flockler does.

use serde_json::json;

use super::lowercase::Lowercase;
use super::spec::{ACTION, ENVIRONMENT, SIGNATURE, SPEC};
use crate::providers::testing::{self, TestSource, Unsigned};

/// The URL as a person typed it, capitals included: what is signed is this text, wherever the request
/// goes to.
const URL: &str = "https://Hooks.example.com/v1/hooks/site";

#[derive(Debug)]
pub struct Sender;

impl testing::Sender for Sender {
    fn source(&self, name: &str) -> TestSource {
        TestSource {
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
            json!({"id": n, "unpublished_at": testing::iso8601(at)})
        } else {
            json!({
                "id": n, "site_id": 180, "section_id": 718,
                "title": format!("ÄÖÅ Étude {n}, {}", testing::iso8601(at)),
                "body": "<p>Good tips</p>\n", "summary": "", "author": "ajk", "type": "link",
                "url": format!("https://example.com/blog/{n}"), "article_url": format!("blog-{n}"),
                "tags": ["ruby", "optimization"],
                "published_at": testing::iso8601(at), "source_url": null, "attachments": {},
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

    fn sign(&self, request: &Unsigned, secret: &[u8], _at: i64) -> Vec<(String, String)> {
        let header = |name: &str| {
            let found = request.headers.iter().find(|(found, _)| found == name);
            found.map_or("", |(_, value)| value.as_str())
        };
        let text = format!("POST|{}|{}|{URL}|", header(ACTION), header(ENVIRONMENT));
        // As Ruby does.
        let lower = |text: &[u8]| Lowercase::Unicode.apply(text);
        let mac = testing::mac(secret, &[&lower(text.as_bytes()), &lower(&request.body)]);
        vec![(SIGNATURE.to_owned(), hex::encode(mac))]
    }
}
