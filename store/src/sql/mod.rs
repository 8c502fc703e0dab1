//! The two databases, and what their statements have in common.

pub mod error;
pub mod postgres;
pub mod sqlite;

pub use error::SqlError;
pub use postgres::{PostgresOptions, PostgresUrlError};
