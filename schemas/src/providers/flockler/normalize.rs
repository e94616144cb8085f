//! From Flockler's headers and payload to the event's columns.

use std::borrow::Cow;

use uuid::Uuid;

use super::payload::Article;
use crate::event::Fields;
use crate::identity::{Identity, Sequence};
use crate::json::{self, RawField};
use crate::providers::api::Payload;
use crate::timestamp;

/// A delivery that is authentic and names its article.
#[derive(Debug)]
pub struct Event<'a> {
    pub mac: [u8; 32],
    pub request_id: Uuid,
    pub action: &'static str,
    pub environment: &'static str,
    pub id: Cow<'a, str>,
    pub article: Article<'a>,
}

impl Payload for Event<'_> {
    /// The same content may come again on purpose, so the request belongs to the identity, and what
    /// repeats is decided by the article's last event.
    fn identity(&self) -> Identity {
        Identity {
            parts: vec![self.mac.to_vec(), self.request_id.to_string().into_bytes()],
            sequence: Some(Sequence {
                entity: self.id.as_bytes().to_vec(),
                mac: self.mac,
            }),
        }
    }

    fn fields(&self) -> Fields {
        let article = &self.article;
        let site_id = id(article.site_id);
        let published_at = json::token(article.published_at)
            .and_then(|text| timestamp::read(&text))
            .and_then(timestamp::showable);
        Fields {
            r#type: format!("article.{}", self.action),
            entity_type: Some("article".to_owned()),
            entity_id: Some(self.id.clone().into_owned()),
            scope_type: site_id.is_some().then(|| "site".to_owned()),
            scope_id: site_id,
            environment: Some(self.environment.to_owned()),
            title: text(article.title),
            url: text(article.url.or(article.slug)),
            author: text(article.author),
            content_type: text(article.kind),
            section_id: id(article.section_id),
            tags: tags(article.tags),
            published_at,
            ..Fields::default()
        }
    }
}

/// The tags as a compact JSON array.
fn tags(field: RawField<'_>) -> Option<String> {
    let text = field?.get();
    text.starts_with('[').then(|| json::compact(text))
}

fn id(field: RawField<'_>) -> Option<String> {
    json::id(field).map(Cow::into_owned)
}

fn text(field: RawField<'_>) -> Option<String> {
    json::string(field).map(Cow::into_owned)
}
