//! Measures the hot paths that belong to no one crate, and Baken beside its
//! peers under one load (`src/peers`). Nothing depends on this crate.
