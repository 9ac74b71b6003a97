//! What the kernel counts time and CPUs by.

use std::{
    fs, io,
    sync::OnceLock,
    time::{Duration, Instant},
};

/// What a kernel can be configured to.
const CHOICES: [u32; 4] = [100, 250, 300, 1000];
/// Long enough to tell 250 from 300.
const WATCHED: Duration = Duration::from_millis(120);

/// Kernel ticks a second, found once by watching the clock that `jiffies` reads.
///
/// # Errors
/// What reading the clock says.
pub fn ticks_per_second(jiffies: impl Fn() -> io::Result<u32>) -> io::Result<u32> {
    static HZ: OnceLock<u32> = OnceLock::new();
    if let Some(&hz) = HZ.get() {
        return Ok(hz);
    }
    let (begin, first) = (Instant::now(), jiffies()?);
    std::thread::sleep(WATCHED);
    let (elapsed, last) = (begin.elapsed(), jiffies()?);
    let ticks = f64::from(last.wrapping_sub(first));
    let measured = ticks / elapsed.as_secs_f64();
    let distance = |hz: &u32| (measured / f64::from(*hz)).ln().abs();
    let nearest = CHOICES.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    Ok(*HZ.get_or_init(|| nearest.unwrap_or(CHOICES[1])))
}

/// CPUs that per-CPU maps have values for.
pub fn possible_cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| {
        let text = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let last = text.trim().rsplit([',', '-']).next().and_then(|n| n.parse::<usize>().ok());
        last.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |n| n + 1)
    })
}
