//! The language: what is understood, what is refused with which words, and how
//! a failure reads.
