//! How long ago something was, in as few characters as kubectl.

use jiff::{SignedDuration, Timestamp};

/// A duration in one unit, as coarse as is of use.
pub fn brief(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The age of what happened at `then`. One from the future has none.
pub fn since(then: Timestamp, now: Timestamp) -> String {
    brief(now.duration_since(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_brief() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7199, "119m"),
            (7200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (40_000_000, "462d"),
        ] {
            assert_eq!(brief(SignedDuration::from_secs(seconds)), text);
        }
    }
}
