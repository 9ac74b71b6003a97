//! Callers that wait until devices are protected: a hook of ifup, a VM that
//! must not start before its tap is.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{
    control::Control,
    protocol::{Action, Reply},
};

/// Callers that wait at once; more are refused.
const MOST: usize = 1024;
/// The longest that one waits.
pub const LONGEST: Duration = Duration::from_secs(24 * 3600);

struct Waiter {
    action: Action,
    /// Where it came from, for the audit log.
    source: String,
    until: Instant,
    reply: oneshot::Sender<Reply>,
}

/// Those who wait.
#[derive(Default)]
pub struct Waiters {
    all: Vec<Waiter>,
}

impl Waiters {
    /// Adds one.
    pub fn add(&mut self, action: Action, source: String, seconds: u64, reply: oneshot::Sender<Reply>) {
        if self.all.len() >= MOST {
            let message = format!("{MOST} callers wait already");
            // A caller that has gone does not hear it.
            let _ = reply.send(Reply::Refused { message });
            return;
        }
        let until = Instant::now() + Duration::from_secs(seconds).min(LONGEST);
        self.all.push(Waiter { action, source, until, reply });
    }

    /// When the first of them has waited long enough.
    pub fn next(&self) -> Option<Instant> {
        self.all.iter().map(|w| w.until).min()
    }

    /// Answers those whose devices are protected, and those whose time is up.
    pub fn answer(&mut self, control: &mut Control) {
        let now = Instant::now();
        let mut waiting = Vec::new();
        for waiter in self.all.drain(..).filter(|w| !w.reply.is_closed()) {
            let reply = control.act(&waiter.action);
            if waiter.until > now && !matches!(&reply, Reply::Waited { missing } if missing.is_empty()) {
                waiting.push(waiter);
            } else {
                // Once, when it ends: while it waits, nothing was answered.
                control.note_alone(&waiter.action, &waiter.source, &reply);
                // As above.
                let _ = waiter.reply.send(reply);
            }
        }
        self.all = waiting;
    }
}
