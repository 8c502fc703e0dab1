//! The crate over real journals, stores and sockets; everything on loopback
//! and in folders of its own.

mod batch;
