//! Tests of the history as a whole.
