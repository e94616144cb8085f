use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use sluice_schemas::settings::{Fault, Settings};

use super::*;
use crate::kafka::client::base_config;
use crate::secrets::Store;

/// A folder with a FIFO that nobody writes to; it is removed when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a temporary directory");
        let made = Command::new("mkfifo").arg(path.join("fifo")).status();
        assert!(made.expect("coreutils").success());
        Self(path)
    }

    fn settings(&self, rest: &str) -> Settings {
        let (dir, path) = (self.0.display(), self.0.join("settings.yaml"));
        let rest = rest.replace("DIR", &dir.to_string());
        let yaml = format!("secrets_dir: {dir}\n{rest}\n");
        std::fs::write(&path, yaml).expect("a temporary file");
        crate::settings::load(&path).expect("good settings")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What a reader says, which must not wait for anybody.
fn said(what: &str, read: impl FnOnce() -> Vec<Fault> + Send + 'static) -> String {
    let (say, hear) = mpsc::channel();
    std::thread::spawn(move || say.send(read()));
    let faults = hear.recv_timeout(Duration::from_secs(10));
    let faults = faults.unwrap_or_else(|_| panic!("{what}: the reader waits for a writer"));
    faults.iter().map(ToString::to_string).collect()
}

const FLOCK: &str = "sources: {s: {provider: flock, secrets: [x]}}";

#[test]
fn a_fifo_in_place_of_a_file_is_a_fault_that_names_it_and_nobody_waits() {
    let dir = Dir::new("fifo");
    let fifo = dir.0.join("fifo");
    let found = said("settings", move || {
        crate::settings::load(&fifo).expect_err("a fault")
    });
    assert!(found.contains("it is a FIFO"), "{found}");

    let plain = format!("kafka: {{bootstrap_servers: b}}\n{FLOCK}");
    let secret = plain.replace("[x]", "[fifo]");
    let url = "kafka: {bootstrap_servers: b}\nsources: {s: {provider: flockler, secrets: [x], options: \
               {webhook_url_files: [fifo]}}}";
    std::fs::write(dir.0.join("x"), "secret").expect("a temporary file");
    for yaml in [secret.as_str(), url] {
        let settings = dir.settings(yaml);
        let found = said(yaml, move || Store::load(&settings).expect_err("a fault"));
        assert!(found.contains("the file fifo"), "{found}");
        assert!(found.contains("it is a FIFO"), "{found}");
    }
    let properties = "security.protocol: SASL_SSL, sasl.mechanism: OAUTHBEARER, sasl.oauthbearer.method: oidc, \
                      sasl.oauthbearer.client.id: i, sasl.oauthbearer.token.endpoint.url: 'https://h', \
                      https.ca.location: DIR/fifo";
    for kafka in [
        "secret_properties: {sasl.password: fifo}".to_owned(),
        "properties: {ssl.ca.location: DIR/fifo}".to_owned(),
        "properties: {ssl.key.location: DIR/fifo}".to_owned(),
        format!(
            "properties: {{{properties}}}, secret_properties: {{sasl.oauthbearer.client.secret: x}}"
        ),
    ] {
        let settings = dir.settings(&format!(
            "kafka: {{bootstrap_servers: b, {kafka}}}\n{FLOCK}"
        ));
        let found = said(&kafka, move || base_config(&settings).expect_err("a fault"));
        assert!(found.contains("it is a FIFO"), "{kafka}: {found}");
    }
    for key in ["otlp_headers_file", "otlp_ca_file"] {
        let telemetry = format!("telemetry: {{otlp_endpoint: 'https://h', {key}: DIR/fifo}}");
        let settings = dir.settings(&format!("{plain}\n{telemetry}"));
        let check = move || crate::telemetry::check(&settings.telemetry);
        let found = said(key, move || check().expect_err("a fault"));
        assert!(
            found.contains(key) && found.contains("it is a FIFO"),
            "{found}"
        );
    }
}

#[test]
fn a_secret_that_becomes_a_fifo_keeps_its_last_good_value() {
    let dir = Dir::new("fifo-later");
    std::fs::write(dir.0.join("x"), "secret").expect("a temporary file");
    let settings = dir.settings(&format!("kafka: {{bootstrap_servers: b}}\n{FLOCK}"));
    let store = Store::load(&settings).expect("good secrets");
    std::fs::rename(dir.0.join("fifo"), dir.0.join("x")).expect("an atomic swap");
    let found = said("reload", move || {
        store.reload();
        assert_eq!(store.failures().get(), 1);
        assert_eq!(store.get("s").expect("it is there").at(0).keys.len(), 1);
        Vec::new()
    });
    assert_eq!(found, "");
}

#[test]
fn what_is_no_regular_file_is_named_and_what_is_too_large_is_not_read() {
    let dir = Dir::new("files");
    let file = dir.0.join("file");
    std::fs::write(&file, [b'x'; 100]).expect("a temporary file");
    let link = dir.0.join("link");
    std::os::unix::fs::symlink("file", &link).expect("a link");
    let socket = dir.0.join("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    for (path, most, expected) in [
        (&file, 100, "100"),
        (&link, 100, "100"),
        (&file, 99, "it is over 99 bytes"),
        (&dir.0, 100, "it is a folder, and must be a regular file"),
        (&socket, 100, "it is a socket, and must be a regular file"),
        (
            &"/dev/zero".into(),
            100,
            "it is a device, and must be a regular file",
        ),
        (
            &dir.0.join("absent"),
            100,
            "No such file or directory (os error 2)",
        ),
    ] {
        let found = read(path, most).map(|content| content.len().to_string());
        let found = found.unwrap_or_else(|error| error.to_string());
        assert_eq!(found, expected, "{}", path.display());
    }
}
