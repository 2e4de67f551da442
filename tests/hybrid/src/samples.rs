//! What the sampler in a guest saw: which livepatch of each function was effective when. No IO.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

/// A time during which every look at a file found none of the livepatches that it should show. Milliseconds of
/// `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// The end of the first look that missed it.
    pub first: f64,
    /// The beginning of the last look that missed it.
    pub last: f64,
    /// The end of the look that found it again.
    pub back: Option<f64>,
}

impl Gap {
    /// The least that the gap lasted; 0 if only one look missed the fix.
    pub fn milliseconds(&self) -> f64 {
        (self.last - self.first).max(0.0)
    }
}

/// Everything that was seen since the sampler was started.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    changes: BTreeMap<String, Vec<Change>>,
    until: f64,
    worst: f64,
}

#[derive(Debug, Clone, PartialEq)]
struct Change {
    before: f64,
    at: f64,
    marker: String,
}

impl Samples {
    /// Reads what the sampler prints; a last line may be half written.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = Self::default();
        let end = text.rfind('\n').unwrap_or(0);
        for line in text[..end].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |word: &str| word.parse::<f64>().with_context(|| format!("sample {line:?}"));
            match words.as_slice() {
                [at, "-", worst] => {
                    samples.until = number(at)?;
                    samples.worst = samples.worst.max(number(worst)?);
                }
                [before, at, file, marker] => {
                    let change = Change {
                        before: number(before)?,
                        at: number(at)?,
                        marker: (*marker).to_owned(),
                    };
                    samples.changes.entry((*file).to_owned()).or_default().push(change);
                }
                _ => anyhow::bail!("sample {line:?}"),
            }
        }
        ensure!(!samples.changes.is_empty(), "the sampler saw nothing");
        Ok(samples)
    }

    /// The longest time between two looks, in milliseconds.
    pub fn worst(&self) -> f64 {
        self.worst
    }

    /// What a file showed, in order, without repetitions.
    pub fn shown(&self, file: &str) -> Vec<&str> {
        let changes = self.changes.get(file).map(Vec::as_slice).unwrap_or_default();
        changes.iter().map(|change| change.marker.as_str()).collect()
    }

    /// When a file showed none of `fixes` although it had before.
    pub fn gaps(&self, file: &str, fixes: &[&str]) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let (mut protected, mut open) = (false, None);
        for change in self.changes.get(file).into_iter().flatten() {
            let fixed = fixes.contains(&change.marker.as_str());
            match (fixed, open) {
                (false, None) if protected => open = Some(change.at),
                (true, Some(first)) => {
                    gaps.push(Gap {
                        first,
                        last: change.before,
                        back: Some(change.at),
                    });
                    open = None;
                }
                _ => {}
            }
            protected |= fixed;
        }
        if let Some(first) = open {
            gaps.push(Gap {
                first,
                last: self.until,
                back: None,
            });
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0.000 0.000 /a -\n0.000 0.000 /b lp_b\n10.000 20.000 /a lp_1\n200.000 - 12.500\n\
                        210.000 220.000 /a -\n250.000 260.000 /a lp_2\n300.000 310.000 /b -\n400.000 - 11.000\n500.000 51";

    #[test]
    fn a_gap_is_from_the_first_look_that_missed_the_fix_to_the_last() {
        let samples = Samples::parse(TEXT).unwrap();
        assert_eq!(
            samples.gaps("/a", &["lp_1", "lp_2"]),
            [Gap {
                first: 220.0,
                last: 250.0,
                back: Some(260.0)
            }]
        );
        assert_eq!(
            samples.gaps("/b", &["lp_b"]),
            [Gap {
                first: 310.0,
                last: 400.0,
                back: None
            }],
            "one that has not ended"
        );
        assert_eq!(samples.gaps("/a", &["lp_2"]), []);
        assert_eq!(samples.shown("/a"), ["-", "lp_1", "-", "lp_2"]);
        assert!((samples.worst() - 12.5).abs() < f64::EPSILON);
    }
}
