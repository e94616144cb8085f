//! What a panic ends, in a process of its own.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use sluice_service::panics::{contained, end_process};

const KIND: &str = "SLUICE_TEST_PANIC";

/// The signal of an abort.
const ABORT: i32 = 6;

#[test]
fn a_contained_panic_ends_nothing_and_any_other_ends_the_process() {
    if let Ok(kind) = std::env::var(KIND) {
        end_process();
        assert_eq!(contained(|| panic!("within")), None::<()>);
        assert_eq!(contained(|| 1), Some(1));
        if kind == "thread" {
            let thread = std::thread::spawn(|| panic!("on a thread that nobody waits for"));
            // Its end is the process's.
            drop(thread.join());
        }
        return;
    }
    let status = |kind| {
        let name = "a_contained_panic_ends_nothing_and_any_other_ends_the_process";
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new(test);
        child.args(["--exact", name]).env(KIND, kind);
        let quiet = child.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().expect("a process")
    };
    assert!(status("contained").success());
    assert_eq!(status("thread").signal(), Some(ABORT));
}
