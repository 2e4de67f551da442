//! Livepatch modules as OCI artefacts: push, pull, auth, limits.
