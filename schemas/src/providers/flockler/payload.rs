//! What Flockler sends: an action and the article, of which `unpublish` has the id alone.

use serde::Deserialize;

use crate::json::{self, Inner, RawField};
use crate::providers::api::PartitionKey;
use crate::reason::Refusal;

/// The envelope, with what is made of the article.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a, A> {
    #[serde(borrow)]
    pub action: RawField<'a>,
    pub article: A,
}

impl<'a> Body<'a, Article<'a>> {
    /// Reads the envelope and the article; empty where they are absent or no objects.
    pub fn read(text: &'a str) -> Result<Self, Refusal> {
        let at_once = json::at_once(text);
        if let Some(Body { action, article }) = at_once {
            let article: Option<Inner<_>> = article;
            let Inner(article) = article.unwrap_or_default();
            return Ok(Self { action, article });
        }
        let members: Body<'_, RawField<'_>> = json::object(text)?.unwrap_or_default();
        Ok(Self {
            action: members.action,
            article: json::inner(members.article)?,
        })
    }
}

/// The article, as far as its columns go.
#[derive(Debug, Default, Deserialize)]
pub struct Article<'a> {
    #[serde(borrow)]
    pub id: RawField<'a>,
    #[serde(borrow)]
    pub site_id: RawField<'a>,
    #[serde(borrow)]
    pub section_id: RawField<'a>,
    #[serde(borrow)]
    pub title: RawField<'a>,
    #[serde(borrow)]
    pub author: RawField<'a>,
    #[serde(borrow, rename = "type")]
    pub kind: RawField<'a>,
    #[serde(borrow)]
    pub url: RawField<'a>,
    #[serde(borrow, rename = "article_url")]
    pub slug: RawField<'a>,
    #[serde(borrow)]
    pub tags: RawField<'a>,
    #[serde(borrow)]
    pub published_at: RawField<'a>,
}

/// The article.
pub fn partition_key(body: &[u8]) -> Option<PartitionKey> {
    let Body { article, .. } = Body::read(json::utf8(body).ok()?).ok()?;
    Some(PartitionKey::Text(json::id(article.id)?.into_owned()))
}
