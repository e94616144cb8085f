//! Are the secrets readable and well formed?

use sluice_schemas::settings::Settings;
use sluice_service::kafka::client::base_config;
use sluice_service::secrets::{examine, read_secret};

use super::finding::Finding;
use crate::secret::weak as weak_secrets;

const CHECK: &str = "secrets";

/// The files of each source, of Kafka and of the registry, read as the services read them.
pub fn check(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let dir = settings.secrets_dir.display();
    let put = format!("put it into {dir}, readable for this user: printf %s SECRET > FILE");
    for source in examine(settings) {
        let path = format!("sources.{}", source.source);
        for fault in &source.faults {
            found.push(Finding::fail(CHECK, &fault.path, &fault.message).mend(put.as_str()));
        }
        for stray in &source.strays {
            let message = format!("{stray}, which counts as part of the secret");
            let mend = "where that is a mistake, write it again: printf %s SECRET > FILE";
            found.push(Finding::warn(CHECK, &path, &message).mend(mend));
        }
        let weak = settings.sources.get(&source.source);
        let weak = weak.map_or_else(Vec::new, |source| weak_secrets(settings, source));
        for message in &weak {
            found.push(Finding::warn(CHECK, &path, message));
        }
        if source.faults.is_empty() && source.strays.is_empty() && weak.is_empty() {
            found.push(Finding::ok(CHECK, &path, &files(source.files)));
        }
    }
    let properties = &settings.kafka.secret_properties;
    match base_config(settings) {
        Ok(_) if properties.is_empty() => {}
        Ok(_) => found.push(Finding::ok(
            CHECK,
            "kafka.secret_properties",
            &files(properties.len()),
        )),
        Err(faults) => found.extend(
            faults
                .iter()
                .map(|fault| Finding::fail(CHECK, &fault.path, &fault.message).mend(put.as_str())),
        ),
    }
    let registry = settings.schema_registry.as_ref();
    if let Some(file) = registry.and_then(|registry| registry.password_file.as_ref()) {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let dir = file.parent().unwrap_or(&settings.secrets_dir);
        let path = "schema_registry.password_file";
        found.push(match read_secret(dir, &name) {
            Ok(_) => Finding::ok(CHECK, path, &files(1)),
            Err(message) => Finding::fail(CHECK, path, &message).mend(put),
        });
    }
    found
}

fn files(count: usize) -> String {
    match count {
        0 => "no files, and needs none".to_owned(),
        1 => "1 file, well formed".to_owned(),
        _ => format!("{count} files, well formed"),
    }
}
