//! What Flockler sends: an action and the article, of which `unpublish` has the id alone.

use serde::Deserialize;

use crate::json::{self, RawField};
use crate::providers::api::PartitionKey;

/// The envelope.
#[derive(Debug, Default, Deserialize)]
pub struct Body<'a> {
    #[serde(borrow)]
    pub action: RawField<'a>,
    #[serde(borrow)]
    pub article: RawField<'a>,
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
    let members: Body<'_> = json::object(json::utf8(body).ok()?).ok()??;
    let article: Article<'_> = json::inner(members.article).ok()?;
    Some(PartitionKey::Text(json::id(article.id)?.into_owned()))
}
