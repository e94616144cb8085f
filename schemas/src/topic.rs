//! The names of the topics.

/// The topic of event types that have no topic of their own, behind `events.{provider}.`.
pub const OTHER: &str = "other";

/// The names of the topics under one prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicNames {
    /// Put before every name.
    pub prefix: String,
}

impl TopicNames {
    /// Where ingest writes and the processor reads.
    pub fn raw(&self) -> String {
        format!("{}webhooks.raw", self.prefix)
    }

    /// The truth of the deduplication; partition i belongs to raw's partition i.
    pub fn dedup_log(&self) -> String {
        format!("{}webhooks.dedup-log", self.prefix)
    }

    /// Repetitions of events.
    pub fn duplicates(&self) -> String {
        format!("{}webhooks.duplicates", self.prefix)
    }

    /// What did not prove who sent it.
    pub fn rejected(&self) -> String {
        format!("{}webhooks.rejected", self.prefix)
    }

    /// What is authentic, but no event.
    pub fn dead_letter(&self) -> String {
        format!("{}webhooks.dead-letter", self.prefix)
    }

    /// What `sluicectl` subscribed to at providers: the ids that they gave.
    pub fn subscriptions(&self) -> String {
        format!("{}webhooks.subscriptions", self.prefix)
    }

    /// The topic of an event type, which must be of the provider's catalogue, of the source's
    /// `events`, or [`OTHER`]: a sender's text never comes here.
    pub fn event(&self, provider: &str, r#type: &str) -> String {
        format!(
            "{}events.{provider}.{}",
            self.prefix,
            r#type.replace('_', "-")
        )
    }
}

/// Whether a type may name a topic: Kafka's letters, and short enough for prefix and provider.
pub fn is_event_type(text: &str) -> bool {
    (1..=120).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn underscores_become_hyphens() {
        let names = TopicNames {
            prefix: "eu_".into(),
        };
        assert_eq!(
            names.event("referralloop", "signup.position_changed"),
            "eu_events.referralloop.signup.position-changed"
        );
        assert_eq!(names.raw(), "eu_webhooks.raw");
    }

    #[test]
    fn a_type_that_is_no_topic_name_is_none() {
        for bad in ["", "a b", "a/b", "ä", &"x".repeat(121)] {
            assert!(!is_event_type(bad), "{bad}");
        }
        assert!(is_event_type("scan.created"));
    }
}
