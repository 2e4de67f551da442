//! Series of numbers and their spread. No IO.

use std::collections::BTreeMap;

/// What a program printed: for each name its values, in microseconds or counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Measured(BTreeMap<String, Vec<u64>>);

impl Measured {
    /// Reads lines of `NAME UNIT VALUE…`; others are none.
    pub fn of(printed: &str) -> Self {
        let series = printed.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, _unit) = (words.next()?, words.next()?);
            let values: Option<Vec<u64>> = words.map(|word| word.parse().ok()).collect();
            Some((name.to_owned(), values.filter(|values| !values.is_empty())?))
        });
        Self(series.collect())
    }

    /// The values of a name, sorted; none if it was not printed.
    pub fn sorted(&self, name: &str) -> Vec<u64> {
        let mut values = self.0.get(name).cloned().unwrap_or_default();
        values.sort_unstable();
        values
    }

    /// What the values of one name are beyond those of another, pair by pair in the order they were measured, sorted.
    /// Negative where it was quicker.
    pub fn beyond(&self, name: &str, base: &str) -> Vec<i64> {
        let empty = Vec::new();
        let values = |name| self.0.get(name).unwrap_or(&empty).iter();
        let difference = |(a, b): (&u64, &u64)| i64::try_from(*a).unwrap_or(i64::MAX) - i64::try_from(*b).unwrap_or(0);
        let mut differences: Vec<i64> = values(name).zip(values(base)).map(difference).collect();
        differences.sort_unstable();
        differences
    }
}

/// The value that so many hundredths of the values do not exceed (nearest rank).
pub fn percentile<T: Copy + Default>(sorted: &[T], hundredths: usize) -> T {
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_numbers_are_read_and_others_are_not() {
        let measured = Measured::of("a us 3 1 2\nb us 1 1 5\nnoise and words\n\nc us\n");
        assert_eq!(measured.sorted("a"), [1, 2, 3]);
        assert_eq!(measured.beyond("a", "b"), [-3, 0, 2]);
        assert_eq!(measured.sorted("noise"), Vec::<u64>::new());
        assert_eq!(measured.sorted("c"), Vec::<u64>::new());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!((percentile(&values, 50), percentile(&values, 99)), (50, 99));
        assert_eq!((percentile(&[7], 1), percentile(&[7], 99)), (7, 7));
        assert_eq!(percentile::<u64>(&[], 50), 0);
    }
}
