//! What the files of certificates may be.

use std::process::Command;
use std::time::Duration;

use sluice_ingest::http::tls::Tls;
use sluice_schemas::settings::TlsFiles;
use tempfile::TempDir;

use crate::support::settings;

#[test]
fn a_fifo_in_place_of_a_certificate_is_a_fault_and_nobody_waits() {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    let made = Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut settings = settings("", "");
    settings.ingest.tls = Some(TlsFiles {
        cert_file: fifo.clone(),
        key_file: fifo,
    });
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || say.send(Tls::load(&settings).unwrap_err()));
    let faults = hear.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(faults.len(), 2);
    for fault in faults {
        assert!(fault.message.contains("it is a FIFO"), "{fault}");
    }
}
