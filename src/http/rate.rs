//! May one more request pass now? A bucket of tokens that fills evenly: so many a second, and as many at once after a rest.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// Requests a second that pass together.
#[derive(Debug)]
pub struct Rate {
    per_second: u32,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: DateTime<Utc>,
}

impl Rate {
    /// As of `now`, with a full bucket.
    pub fn new(per_second: u32, now: DateTime<Utc>) -> Rate {
        Rate { per_second, bucket: Mutex::new(Bucket { tokens: f64::from(per_second), filled_at: now }) }
    }

    /// Whether a request passes at `now`. A clock that is put back costs nobody a token, and gives none.
    pub fn passes(&self, now: DateTime<Utc>) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = (now - bucket.filled_at).as_seconds_f64().max(0.0);
        let most = f64::from(self.per_second);
        bucket.tokens = (bucket.tokens + rest * most).min(most);
        bucket.filled_at = now;
        let passes = bucket.tokens >= 1.0;
        if passes {
            bucket.tokens -= 1.0;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn so_many_pass_at_once_and_then_as_many_a_second() {
        let start = DateTime::UNIX_EPOCH;
        let rate = Rate::new(10, start);
        let passed = |at, asked: usize| (0..asked).filter(|_| rate.passes(at)).count();
        assert_eq!(passed(start, 25), 10);
        assert_eq!(passed(start + TimeDelta::milliseconds(500), 25), 5);
        assert_eq!(passed(start, 5), 0, "the clock was put back");
        assert_eq!(passed(start + TimeDelta::seconds(60), 25), 10, "a rest saves up no more than a second");
    }
}
