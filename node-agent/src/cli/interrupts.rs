//! Signals that ask a command to end. Listens to signals.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Asks whether the command is to end; a closed terminal counts, as does `Ctrl-C`.
#[derive(Debug, Default)]
pub struct Interrupts {
    last: Arc<AtomicU8>,
    /// When a signal comes, in the virtual time of a kernel.
    #[cfg(test)]
    at: Option<(livepatch_kernel::FakeKernel, livepatch_kernel::BootTime)>,
}

/// The signals, and what is stored for them.
const SIGNALS: [(&str, u8); 3] = [("SIGINT", 1), ("SIGTERM", 2), ("SIGHUP", 3)];

impl Interrupts {
    /// Listens from now on. From then on none of these signals ends the process.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        drop(entered);
        let interrupts = Self::default();
        let asked = Arc::clone(&interrupts.last);
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    let which = tokio::select! {
                        _ = interrupt.recv() => 1,
                        _ = terminate.recv() => 2,
                        _ = hangup.recv() => 3,
                    };
                    asked.store(which, Ordering::Relaxed);
                }
            });
        })?;
        Ok(interrupts)
    }

    /// The last signal, if any came.
    pub fn asked(&self) -> Option<&'static str> {
        #[cfg(test)]
        self.pass_time();
        let which = self.last.load(Ordering::Relaxed);
        SIGNALS
            .iter()
            .find(|(_, stored)| *stored == which)
            .map(|(name, _)| *name)
    }
}

#[cfg(test)]
impl Interrupts {
    /// `SIGINT` has come.
    pub fn now() -> Self {
        let interrupts = Self::default();
        interrupts.last.store(1, Ordering::Relaxed);
        interrupts
    }

    /// `SIGINT` comes after this time.
    pub fn after(kernel: &livepatch_kernel::FakeKernel, span: std::time::Duration) -> Self {
        use livepatch_kernel::Kernel as _;
        Self {
            at: Some((kernel.clone(), kernel.now() + span)),
            ..Self::default()
        }
    }

    fn pass_time(&self) {
        use livepatch_kernel::Kernel as _;
        if self.at.as_ref().is_some_and(|(kernel, at)| kernel.now() >= *at) {
            self.last.store(1, Ordering::Relaxed);
        }
    }
}
