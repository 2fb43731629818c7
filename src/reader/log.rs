//! What the reader logs, and records in its status.

use std::time::{Duration, Instant, SystemTime};

use super::Reader;
use super::key::KeyError;
use super::policy::Decision;
use crate::snapshot::Snapshot;

impl Reader {
    /// Logs a successful load and records it in the status.
    pub(super) fn log_loaded(&self, snapshot: &Snapshot, took: Duration) {
        let summary = snapshot.summary();
        match &summary {
            Some(s) => tracing::info!(
                "Loaded new config, serial {} ({}: {} nodes, {} instances, {} disks; {} bytes of memory, {:.1} ms)",
                s.serial_no,
                s.cluster_name,
                s.nodes,
                s.instances,
                s.disks,
                s.bytes,
                took.as_secs_f64() * 1e3,
            ),
            None => tracing::info!("Loaded new config"),
        }
        self.status.update(|status| {
            status.summary = summary;
            status.unavailable = None;
            status.loaded_at = Some(SystemTime::now());
            status.load_time = took;
            status.last_error = None;
        });
    }

    /// Logs the warnings and the error of a decision and records them in the status.
    pub(super) fn log_decision(&self, decision: &Decision) {
        for warning in &decision.warnings {
            tracing::warn!("{warning}");
        }
        if let Some(error) = &decision.error {
            tracing::error!("{error}");
        }
        let (now, wall) = (Instant::now(), SystemTime::now());
        let keeping = self.policy.keeping();
        self.status.update(|status| {
            if let Some(failure) = &decision.failure {
                status.failures += 1;
                status.last_error = Some(failure.clone());
            }
            status.kept_since = keeping.map(|kept| wall - now.duration_since(kept.since));
            status.kept_until = keeping.and_then(|kept| wall.checked_add(kept.until? - now));
            if let Some(answer) = &decision.unavailable {
                status.unavailable = Some(answer.clone());
                status.summary = None;
            }
        });
    }

    /// Logs and records a usable key, if it changed or was unusable before.
    pub(super) fn log_key(&self, changed: bool) {
        let repaired = self.status.update(|status| {
            status.key_changes += u64::from(changed);
            status.key_error.take().is_some()
        });
        let path = self.files.key.display();
        if changed {
            tracing::info!("HMAC key {path} changed; the new key is in use");
        } else if repaired {
            tracing::info!("HMAC key {path} is usable again and is the key in use");
        }
    }

    /// Logs and records an unusable key. An error is logged once until it changes.
    pub(super) fn log_bad_key(&self, error: &KeyError) {
        let error = error.to_string();
        let before = self
            .status
            .update(|status| status.key_error.replace(error.clone()));
        if before.as_ref() != Some(&error) {
            tracing::error!("{error}; the old key stays in use");
        }
    }
}
