//! What the process writes about itself: to standard error, as text or JSON
//! lines. Tokens, passwords and payloads are never logged anywhere.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogConfig, LogFormat};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    #[error("`log.level` is {level:?}, which is no list of levels: {reason}")]
    Level { level: String, reason: String },
    #[error("logging was started already")]
    Started,
}

/// Starts logging for the whole process; once.
pub fn start(config: &LogConfig) -> Result<(), LoggingError> {
    let filter = EnvFilter::try_new(&config.level).map_err(|error| LoggingError::Level {
        level: config.level.clone(),
        reason: error.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LoggingError::Started)?;
    // A panic is a line of the log as any other, and JSON where lines are.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let backtrace = std::backtrace::Backtrace::capture();
        let message = panic.payload_as_str().unwrap_or("unknown");
        tracing::error!(panic = message, at, %backtrace, "a thread panicked");
    }));
    Ok(())
}
