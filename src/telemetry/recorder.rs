//! What keeps the metrics of the process and renders them as Prometheus text.

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::metrics;

/// The recorder of the whole process. Clones share it.
#[derive(Debug, Clone)]
pub struct Recorder(PrometheusHandle);

/// There is a recorder already: one process keeps one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("metrics are recorded already; a process has one recorder")]
pub struct RecorderError;

impl Recorder {
    /// Records every metric of the process from here on.
    ///
    /// # Errors
    /// Where it was called before.
    pub fn install() -> Result<Self, RecorderError> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::set_global_recorder(recorder).map_err(|_| RecorderError)?;
        metrics::describe();
        Ok(Self(handle))
    }

    /// A recorder that nothing is recorded by, for whoever shows metrics without having any.
    pub fn detached() -> Self {
        Self(PrometheusBuilder::new().build_recorder().handle())
    }

    /// All metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        self.0.render()
    }
}
