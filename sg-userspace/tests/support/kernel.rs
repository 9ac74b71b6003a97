//! The kernel program for tests, or a reason why it cannot be asked.

use sg_userspace::dataplane::probe::Probe;

/// The loaded program. Without root or without a built program the test is
/// skipped, unless `SG_TEST_REQUIRE` says that this is a failure.
pub fn probe() -> Option<Probe> {
    match Probe::load() {
        Ok(probe) => Some(probe),
        Err(e) if std::env::var_os("SG_TEST_REQUIRE").is_none() => {
            eprintln!("skipped: {e}");
            None
        }
        Err(e) => panic!("{e}"),
    }
}
