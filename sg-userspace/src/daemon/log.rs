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

/// The kernel program's debug lines come by the `log` crate.
#[derive(Debug)]
struct Bridge;

impl log::Log for Bridge {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("sg") {
            line(Level::Debug, format_args!("kernel: {}", record.args()));
        }
    }
    fn flush(&self) {}
}

/// Lets debug lines of the kernel program through.
pub fn bridge() {
    // Already set only by ourselves.
    if log::set_logger(&Bridge).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
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
