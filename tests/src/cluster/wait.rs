//! Waiting with an end: a condition is asked again and again, and who waits in vain hears the last answer.

use std::time::{Duration, Instant};

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks until the answer is good.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(last) if started.elapsed() >= limit => {
                panic!("{what}: not within {limit:?}; the last answer: {last}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// Asks again and again for the whole time; every answer must be good.
pub fn holds(what: &str, time: Duration, mut ask: impl FnMut() -> Result<(), String>) {
    let started = Instant::now();
    while started.elapsed() < time {
        if let Err(why) = ask() {
            panic!("{what}: no more after {:?}: {why}", started.elapsed());
        }
        std::thread::sleep(PAUSE);
    }
}
