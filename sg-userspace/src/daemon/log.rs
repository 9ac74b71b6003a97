//! Lines for journald and for people: `<priority>` in front where standard
//! error is the journal.

use std::{
    fmt,
    sync::atomic::{AtomicU8, Ordering},
};

use super::config::Level;

static LEVEL: AtomicU8 = AtomicU8::new(2);

/// Sets how much is said.
pub fn set(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Says a line.
pub fn line(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let (priority, word) = match level {
        Level::Error => (3, "error"),
        Level::Warn => (4, "warning"),
        Level::Info => (6, "info"),
        Level::Debug => (7, "debug"),
    };
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        eprintln!("<{priority}>{text}");
    } else {
        eprintln!("sgd {word}: {text}");
    }
}

/// Says what failed.
macro_rules! error {
    ($($t:tt)*) => { $crate::daemon::log::line($crate::daemon::config::Level::Error, format_args!($($t)*)) };
}
/// Says what is not as it should be.
macro_rules! warning {
    ($($t:tt)*) => { $crate::daemon::log::line($crate::daemon::config::Level::Warn, format_args!($($t)*)) };
}
/// Says what changed.
macro_rules! info {
    ($($t:tt)*) => { $crate::daemon::log::line($crate::daemon::config::Level::Info, format_args!($($t)*)) };
}
pub(crate) use {error, info, warning};
