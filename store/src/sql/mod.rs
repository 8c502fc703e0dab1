//! The two databases, and the one way that statements are written for both.

mod database;
pub mod error;
pub mod postgres;
mod session;
pub mod sqlite;
mod text;
mod value;

pub(crate) use database::{Database, Readers};
pub use error::SqlError;
pub use postgres::{PostgresOptions, PostgresUrlError};
pub(crate) use session::{Optional, Row, Session, Transaction};
pub(crate) use value::{Owned, Parameter, Value, from_sqlite, params};
