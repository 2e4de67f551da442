//! What the running kernel says about livepatches, and the few calls that change it.
