//! Tests on real kernels in small virtual machines.
