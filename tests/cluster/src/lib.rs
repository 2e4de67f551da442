//! Tests on a real cluster of virtual machines.
