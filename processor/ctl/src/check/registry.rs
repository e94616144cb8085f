//! Does the schema registry answer, and does it have the schema or take it?

use std::time::Duration;

use sluice_processor::registry::{RegistryError, Standing, examine};
use sluice_schemas::settings::{SchemaRegistry, Settings};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use super::finding::Finding;

const CHECK: &str = "registry";

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// From here on two clocks are apart. The registry's has whole seconds.
const CLOCKS_APART: Duration = Duration::from_secs(30);

/// The subjects of all event topics, and the registry's clock. Registers nothing.
pub async fn check(settings: &Settings) -> (Vec<Finding>, Vec<Finding>) {
    let Some(registry) = &settings.schema_registry else {
        let message = "none is set: events are in Avro's single-object encoding";
        return (
            vec![Finding::ok(CHECK, "schema_registry.url", message)],
            Vec::new(),
        );
    };
    match examine(settings, registry, TIMEOUT).await {
        Ok(examined) => {
            let clock = examined
                .date
                .as_deref()
                .and_then(|date| clock(registry, date));
            let subjects = examined.subjects.into_iter();
            let found = subjects
                .map(|(subject, standing)| finding(registry, &subject, standing))
                .collect();
            (found, clock.into_iter().collect())
        }
        Err(error) => {
            let mend = match error {
                RegistryError::Away(_) => "start it, or correct schema_registry.url and ca_file",
                RegistryError::Mismatch(_) => "correct schema_registry",
            };
            let finding = Finding::fail(CHECK, &registry.url, &error.to_string()).mend(mend);
            (vec![finding], Vec::new())
        }
    }
}

fn finding(
    registry: &SchemaRegistry,
    subject: &str,
    standing: Result<Standing, RegistryError>,
) -> Finding {
    let lacking = |what: &str| {
        if registry.register {
            let message = format!("{what}: the processor registers the schema at its start");
            return Finding::ok(CHECK, subject, &message);
        }
        Finding::fail(CHECK, subject, what).mend(
            "register schemas/avro/webhook_event.avsc under it, or set schema_registry.register: true",
        )
    };
    match standing {
        Ok(Standing::Registered(id)) => {
            Finding::ok(CHECK, subject, &format!("has the schema, id {id}"))
        }
        Ok(Standing::Compatible) => lacking("lacks the schema, and would take it"),
        Ok(Standing::Absent) => lacking("is not there yet"),
        Ok(Standing::Incompatible) => Finding::fail(
            CHECK,
            subject,
            "the schema is not compatible with what is registered",
        )
        .mend("delete what somebody else registered under it, or set another topics.prefix"),
        Err(error) => Finding::fail(CHECK, subject, &error.to_string())
            .mend("correct schema_registry.username and password_file, or what the user may do"),
    }
}

/// The registry's clock next to this host's.
fn clock(registry: &SchemaRegistry, date: &str) -> Option<Finding> {
    let theirs = OffsetDateTime::parse(date, &Rfc2822).ok()?;
    let apart = (theirs - OffsetDateTime::now_utc()).unsigned_abs();
    let message = format!("its clock and this host's are {} s apart", apart.as_secs());
    Some(if apart < CLOCKS_APART {
        Finding::ok("clock", &registry.url, &message)
    } else {
        Finding::warn("clock", &registry.url, &message).mend("synchronize both")
    })
}
