//! Forwarders on a real journal, store and directory, against doubles of
//! platforms that answer as the tests say.

mod double;
mod faults;
mod node;
mod platforms;
mod sending;
