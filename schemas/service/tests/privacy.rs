//! In a process of its own: the umask is the process's.

use std::os::unix::fs::PermissionsExt;

use rustix::fs::Mode;
use rustix::process::{DumpableBehavior, dumpable_behavior, umask};

#[test]
fn files_are_the_users_alone_and_no_core_is_dumped() {
    umask(Mode::empty());
    sluice_service::privacy::protect_process();
    assert_eq!(dumpable_behavior(), Ok(DumpableBehavior::NotDumpable));
    let dir = std::env::temp_dir().join(format!("sluice-privacy-{}", std::process::id()));
    std::fs::create_dir(&dir).expect("a folder");
    let file = dir.join("file");
    std::fs::write(&file, "").expect("a file");
    let mode = |path: &std::path::Path| {
        let found = path.metadata().expect("it is there");
        found.permissions().mode() & 0o777
    };
    let modes = (mode(&dir), mode(&file));
    std::fs::remove_dir_all(&dir).expect("it is ours");
    assert_eq!(modes, (0o700, 0o600));
    // The harness of the tests and metrics read these of a process that runs.
    for name in ["status", "stat", "fd", "io", "environ"] {
        let entry = format!("/proc/self/{name}");
        assert!(std::fs::metadata(&entry).is_ok(), "{entry}");
    }
}
