//! Pure planners: what the fleet and what a node should do next.
