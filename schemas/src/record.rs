//! A record of any of the topics, as a reader has it in memory.

use crate::event::{self, CONTENT_TYPE, WebhookEvent};

/// A record, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Full name of the topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since 1970, of creation or of append as the topic's setting has it.
    pub timestamp: i64,
    /// Key; empty where there is none.
    pub key: Vec<u8>,
    /// Value; empty where there is none.
    pub value: Vec<u8>,
    /// Headers in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The value of a header; of the first, where its name stands more than once.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value.as_slice()))
    }

    /// A header's value as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// A header's value as a decimal number.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name)?.parse().ok()
    }

    /// The event in the value, as `content-type` says it is framed.
    pub fn event(&self) -> Result<WebhookEvent, event::DecodeError> {
        event::decode(self.text(CONTENT_TYPE), &self.value)
    }
}
