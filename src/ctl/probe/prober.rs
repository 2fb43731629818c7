//! Queries the candidates for their serial, their master and their clock.

use std::thread;
use std::time::{Duration, Instant};

use super::super::exit::CommandError;
use super::super::limits::Limits;
use super::super::options::{Common, ProbeOptions};
use super::super::target::Target;
use super::config_file::{ConfigFile, SETTLE_TIME};
use super::health::Health;
use crate::client::{Candidate, ConfdClient, Coverage, Error, Settings, Skew, WaitFor, question};

/// The default timeout. Monitoring systems allow a plugin about ten seconds in all.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// A candidate with an old configuration is queried again after this time, because the master may
/// be distributing a new one at the moment.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// With `--watch`, the clocks are compared again after this time.
const CLOCKS_AGE_MAX: Duration = Duration::from_secs(30);

/// Queries the candidates.
pub(super) struct Prober {
    client: ConfdClient,
    /// Also keeps the sample cluster of `--demo` running.
    target: Target,
    limits: Limits,
    clocks: Option<Clocks>,
}

/// The last comparison of the clocks.
struct Clocks {
    skews: Vec<(Candidate, Option<Skew>)>,
    compared: Instant,
    /// For each candidate, whether it was up.
    up: Vec<bool>,
}

impl Prober {
    /// # Errors
    ///
    /// As for [`Target::find`] and [`Target::client`].
    pub(super) fn new(common: &Common, options: &ProbeOptions) -> Result<Self, CommandError> {
        let target = Target::find(common)?;
        let settings = Settings {
            coverage: Coverage::All,
            wait_for: WaitFor::All,
            deadline: common.timeout.unwrap_or(TIMEOUT_DEFAULT),
            any_source: options.any_source,
            ..Settings::default()
        };
        let client = target.client()?.with_settings(settings);
        Ok(Self {
            client,
            target,
            limits: Limits::new(options.warning, options.critical),
            clocks: None,
        })
    }

    pub(super) fn client(&self) -> &ConfdClient {
        &self.client
    }

    /// Queries everything once. Candidates with an old configuration are queried again after
    /// [`RETRY_DELAY`], and all are if the file on this node has just changed.
    ///
    /// # Errors
    ///
    /// A socket of this host fails.
    pub(super) fn probe(&self) -> Result<Health, CommandError> {
        let mut health = thread::scope(|scope| {
            let skews = scope.spawn(|| self.client.estimate_skews());
            let health = self.query_all();
            let skews = skews.join().expect("the client does not panic");
            health.and_then(|health| Ok(health.with_clocks(skews.map_err(of_client)?)))
        })?;
        if health.is_any_behind() {
            self.retry_serials(&mut health, RETRY_DELAY)?;
        }
        if let Some(path) = self.target.config_file() {
            health.config_file = ConfigFile::read(&path);
            if health.is_file_different() && !health.is_file_settled() {
                self.retry_serials(&mut health, SETTLE_TIME)?;
                // If it has changed again meanwhile, the difference is not known to last.
                health.config_file =
                    ConfigFile::read(&path).filter(|now| health.config_file_is(now));
            }
        }
        Ok(health)
    }

    /// Queries the serials again after `delay`.
    fn retry_serials(&self, health: &mut Health, delay: Duration) -> Result<(), CommandError> {
        thread::sleep(delay);
        let settings = Settings {
            coverage: Coverage::All,
            wait_for: WaitFor::All,
            deadline: RETRY_DELAY,
            ..Settings::default()
        };
        let again = self
            .client
            .query_all_with(&question::config("/serial_no"), settings);
        health.merge_retry(&again.map_err(of_client)?);
        Ok(())
    }

    /// Queries serial and master, for a caller that polls. The clocks are compared again if the
    /// last comparison is older than [`CLOCKS_AGE_MAX`] or a candidate has gone up or down.
    ///
    /// # Errors
    ///
    /// A socket of this host fails.
    pub(super) fn poll(&mut self) -> Result<Health, CommandError> {
        let mut health = self.query_all()?;
        let file = self.target.config_file();
        // A difference shows in a later poll, when the file has settled.
        health.config_file = file
            .and_then(|path| ConfigFile::read(&path))
            .filter(ConfigFile::is_settled);
        let up = health.up_by_candidate();
        let recent = self
            .clocks
            .take()
            .filter(|it| it.up == up && it.compared.elapsed() < CLOCKS_AGE_MAX);
        let clocks = match recent {
            Some(clocks) => clocks,
            None => Clocks {
                skews: self.client.estimate_skews().map_err(of_client)?,
                compared: Instant::now(),
                up,
            },
        };
        let skews = self.clocks.insert(clocks).skews.clone();
        Ok(health.with_clocks(skews))
    }

    /// Queries serial and master of all candidates at the same time.
    fn query_all(&self) -> Result<Health, CommandError> {
        let (serials, masters) = thread::scope(|scope| {
            let masters = scope.spawn(|| self.client.query_all(&question::cluster_master()));
            let serials = self.client.query_all(&question::config("/serial_no"));
            (serials, masters.join().expect("the client does not panic"))
        });
        let (serials, masters) = (serials.map_err(of_client)?, masters.map_err(of_client)?);
        let candidates = self.client.candidates();
        let mut health = Health::new(&candidates, &serials, &masters, self.limits);
        let thresholds = [self.limits.warning.age, self.limits.critical.age];
        if thresholds.iter().any(Option::is_some) {
            let changed = self.client.query_all(&question::config("/mtime"));
            health.set_changed(&changed.map_err(of_client)?);
        }
        Ok(health)
    }
}

fn of_client(error: Error) -> CommandError {
    CommandError::of_client(&error)
}
