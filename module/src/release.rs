//! The kernel release a module is built for. No IO.

/// Major and minor version of a kernel, as far as its release string tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// First kernel whose `struct klp_patch` has `states` before `replace` (include/linux/livepatch.h).
    pub(crate) const WITH_STATES: Self = Self { major: 5, minor: 5 };

    /// Reads `6.1.0-53-cloud-amd64` as 6.1; what cannot be read counts as 0.0, so that nothing is assumed of it.
    pub(crate) fn parse(release: &str) -> Self {
        let mut numbers = release
            .split(|c: char| !c.is_ascii_digit())
            .map(|number| number.parse().unwrap_or(0));
        Self {
            major: numbers.next().unwrap_or(0),
            minor: numbers.next().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_releases() {
        assert!(Release::parse("6.1.0-53-cloud-amd64") >= Release::WITH_STATES);
        assert!(Release::parse("5.10.223") >= Release::WITH_STATES);
        assert!(Release::parse("5.4.0-42-generic") < Release::WITH_STATES);
        assert!(Release::parse("4.18.0-553.el8") < Release::WITH_STATES);
        assert!(Release::parse("mainline") < Release::WITH_STATES);
    }
}
