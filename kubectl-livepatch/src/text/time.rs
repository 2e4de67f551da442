//! Times as people read them. No IO, no clock.

use jiff::{SignedDuration, Timestamp};

/// How long ago `then` was, in one or two units, as kubectl says it.
pub fn age(then: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(then))
}

/// A length of time in one or two units.
fn span(length: SignedDuration) -> String {
    const MINUTE: i64 = 60;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let seconds = length.as_secs().max(0);
    let two = |unit: i64, name: &str, lesser: i64, lesser_name: &str| match seconds % unit / lesser {
        0 => format!("{}{name}", seconds / unit),
        rest => format!("{}{name}{rest}{lesser_name}", seconds / unit),
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(MINUTE, "m", 1, "s"),
        600..7200 => format!("{}m", seconds / MINUTE),
        7200..172_800 => two(HOUR, "h", MINUTE, "m"),
        172_800..691_200 => two(DAY, "d", HOUR, "h"),
        _ => format!("{}d", seconds / DAY),
    }
}

/// A point in time, in UTC and to the second.
pub fn moment(time: Timestamp) -> String {
    format!("{time:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_at_most_two_units() {
        let shown = |seconds| span(SignedDuration::from_secs(seconds));
        for (seconds, text) in [
            (-5, "0s"),
            (119, "119s"),
            (150, "2m30s"),
            (180, "3m"),
            (3599, "59m"),
            (7260, "2h1m"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(shown(seconds), text);
        }
    }
}
