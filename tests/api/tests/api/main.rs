//! Tests against a real API server, in one program so that they are linked once and share a control plane.

mod rig;
