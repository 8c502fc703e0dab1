//! Makes a metric known to the registry.

use prometheus::Registry;

/// The metric, which is shown if its name is free.
pub(super) fn keep<M: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    metric: prometheus::Result<M>,
) -> M {
    let metric = metric.expect("names and labels are constants");
    if let Err(error) = registry.register(Box::new(metric.clone())) {
        tracing::warn!(%error, "a metric of the history is not shown");
    }
    metric
}
