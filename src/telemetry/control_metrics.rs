//! What control and the process itself count: through the `metrics` macros, onto the same page.
//!
//! These are rare events on threads that are no workers, so the general-purpose recorder is right here,
//! where it would be too slow and a second truth for requests.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::names::{self, Kind};

/// Bounds of the save duration in seconds: from a fast disk to a stuck one.
const SAVE_BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 10.0];

/// The control and process half of the page.
#[derive(Clone, Debug)]
pub struct ControlMetrics {
    recorded: PrometheusHandle,
    process: metrics_process::Collector,
}

/// Makes the `metrics` macros count for this process. Every call gives the same metrics, so several
/// daemons in one test process share them. If somebody else has already installed a recorder, that one
/// keeps what is counted and this half of the page stays empty.
pub fn install() -> ControlMetrics {
    static INSTALLED: OnceLock<ControlMetrics> = OnceLock::new();
    INSTALLED.get_or_init(first_install).clone()
}

impl ControlMetrics {
    /// Looks at the process and renders; append it to what [`super::page::render`] gives.
    pub fn render(&self) -> String {
        self.process.collect();
        self.recorded.run_upkeep();
        self.recorded.render()
    }
}

fn first_install() -> ControlMetrics {
    let builder = PrometheusBuilder::new();
    // It refuses an empty list of bounds only.
    let builder = builder
        .set_buckets_for_metric(Matcher::Full(names::SAVE_DURATION.name.into()), &SAVE_BOUNDS)
        .unwrap_or_default();
    let recorder = builder.build_recorder();
    let recorded = recorder.handle();
    let process = metrics_process::Collector::default();
    if metrics::set_global_recorder(recorder).is_ok() {
        process.describe();
        for metric in names::CONTROL {
            match metric.kind {
                Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
                Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
                Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
            }
        }
    }
    ControlMetrics { recorded, process }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_and_process_metrics_are_on_the_page_however_often_it_is_installed() {
        let (first, second) = (install(), install());
        metrics::counter!(names::COMMITS.name, "kind" => "page-test").increment(2);
        metrics::histogram!(names::SAVE_DURATION.name).record(0.002);
        for page in [first.render(), second.render()] {
            for line in [
                "# TYPE tidegate_commits_total counter",
                "tidegate_commits_total{kind=\"page-test\"} 2",
                "# TYPE tidegate_save_duration_seconds histogram",
                "# TYPE process_resident_memory_bytes gauge",
            ] {
                assert!(page.lines().any(|other| other == line), "{line} is not on the page:\n{page}");
            }
            assert!(page.contains("tidegate_save_duration_seconds_bucket{le=\"0.0025\"}"), "{page}");
        }
    }
}
