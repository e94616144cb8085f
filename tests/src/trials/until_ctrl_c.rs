//! Staying up until Ctrl-C.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use sluice_tests::harness::process::Service;

/// Does `step` again and again until Ctrl-C or SIGTERM. A service that ends by itself is an error.
pub fn until_interrupted(
    services: &mut [&mut Service],
    mut step: impl FnMut() -> Result<()>,
) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let flag = Arc::clone(&interrupted);
    runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let Ok(mut terminate) = signal(SignalKind::terminate()) else {
            return;
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        flag.store(true, Ordering::Relaxed);
    });
    while !interrupted.load(Ordering::Relaxed) {
        for service in services.iter_mut() {
            if let Some(status) = service.ended()? {
                bail!("a service ended: {status}\n{}", service.log()?);
            }
        }
        step()?;
    }
    Ok(())
}
