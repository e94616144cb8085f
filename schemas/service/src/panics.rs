//! Panics: each ends the process, whose supervisor starts another, but for one in work that is
//! [`contained`]. That is why releases unwind.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Has each panic end the process from now on, once it is reported: no thread goes missing. First thing in
/// `main`.
pub fn end_process() {
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        report(panic);
        if !CONTAINED.get() {
            std::process::abort();
        }
    }));
}

/// Does some work, of which a panic is reported and ends nothing; `None` where it panicked. What the work
/// leaves half done must be dropped by the caller.
pub fn contained<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = CONTAINED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    done.ok()
}
