//! `/proc/sys/kernel/tainted` decoded. No IO.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The taint mask of the kernel: sticky until the next boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Taints(pub u64);

/// One taint flag (kernel/panic.c, 6.1-7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Bit number in the mask.
    pub bit: u32,
    /// The letter the kernel prints.
    pub letter: char,
    /// What it says, in a few words.
    pub meaning: &'static str,
}

const fn taint(bit: u32, letter: char, meaning: &'static str) -> Taint {
    Taint { bit, letter, meaning }
}

/// All flags known to kernels 6.1 to 7.2.
const FLAGS: [Taint; 20] = [
    taint(0, 'P', "proprietary module"),
    taint(1, 'F', "module force loaded"),
    taint(2, 'S', "processor out of specification"),
    taint(3, 'R', "module force unloaded"),
    taint(4, 'M', "machine check"),
    taint(5, 'B', "bad page"),
    taint(6, 'U', "set by a user"),
    taint(7, 'D', "oops or BUG"),
    taint(8, 'A', "ACPI table overridden"),
    taint(9, 'W', "warning issued"),
    taint(10, 'C', "staging driver"),
    taint(11, 'I', "firmware workaround"),
    taint(12, 'O', "out-of-tree module"),
    taint(13, 'E', "unsigned module"),
    taint(14, 'L', "soft lockup"),
    taint(15, 'K', "livepatched"),
    taint(16, 'X', "auxiliary taint of the distribution"),
    taint(17, 'T', "randomised structures"),
    taint(18, 'N', "in-kernel test run"),
    taint(19, 'J', "firmware changed by a user"),
];

impl Taints {
    /// Bit of an oops or BUG.
    pub const DIE: u32 = 7;
    /// Bit of a warning.
    pub const WARN: u32 = 9;
    /// Bit of a soft lockup.
    pub const SOFT_LOCKUP: u32 = 14;
    /// Bit of "a livepatch was loaded since boot". Says nothing about what is active now.
    pub const LIVEPATCH: u32 = 15;

    /// Whether a bit is set.
    pub const fn has(self, bit: u32) -> bool {
        bit < 64 && self.0 & (1 << bit) != 0
    }

    /// The flags that are set, lowest bit first; a bit unknown to this version has the letter `?`.
    pub fn flags(self) -> impl Iterator<Item = Taint> {
        (0..64).filter(move |bit| self.has(*bit)).map(|bit| {
            FLAGS
                .iter()
                .find(|flag| flag.bit == bit)
                .copied()
                .unwrap_or_else(|| taint(bit, '?', "unknown to this version"))
        })
    }

    /// Bits set here that were not set in `before`.
    #[must_use]
    pub const fn gained_since(self, before: Self) -> Self {
        Self(self.0 & !before.0)
    }

    /// The taints that count as damage: oops, warning, soft lockup.
    #[must_use]
    pub const fn damage(self) -> Self {
        Self(self.0 & (1 << Self::DIE | 1 << Self::WARN | 1 << Self::SOFT_LOCKUP))
    }
}

impl fmt::Display for Taints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flags().try_for_each(|flag| write!(f, "{}", flag.letter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_sits_at_its_own_bit() {
        for (index, flag) in FLAGS.iter().enumerate() {
            assert_eq!(flag.bit as usize, index);
        }
    }

    #[test]
    fn a_host_with_an_unsigned_livepatch() {
        let taints = Taints(45056);
        assert_eq!(taints.to_string(), "OEK");
        assert!(taints.has(Taints::LIVEPATCH));
        assert_eq!(taints.damage(), Taints(0));
    }

    #[test]
    fn damage_gained() {
        let gained = Taints(0b1000_0010_0000_0000).gained_since(Taints(0b1000_0000_0000_0000));
        assert_eq!(gained.to_string(), "W");
        assert_eq!(gained.damage(), gained);
    }

    #[test]
    fn an_unknown_bit_is_shown() {
        assert_eq!(Taints(1 << 40).to_string(), "?");
    }
}
