//! Distributes a load over threads and sockets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Barrier, OnceLock};
use std::time::Duration;

use super::error::Error;
use super::mix::Workload;
use super::nanos::nanos;
use super::options::{self, Options};
use super::profile::Profile;
use super::rsalt::RunId;
use super::schedule::{Arrivals, Schedule};
use super::sockets::Channel;
use super::template::Template;
use super::worker::{Job, Pace, Role, Setup};
use crate::protocol::Key;

/// The number of time slices in a run of known length; more would crowd a plot.
const SLICES: u32 = 240;

/// The shortest slice, and the slice of a run of unknown length.
const SLICE_MIN: Duration = Duration::from_millis(100);

/// The default duration of each trial of a search.
const TRIAL_DURATION: Duration = Duration::from_secs(2);

/// What determines the jobs of the workers.
pub(super) struct Plan<'a> {
    pub(super) options: &'a Options,
    pub(super) targets: &'a [SocketAddr],
    pub(super) seed: u64,
}

impl Plan<'_> {
    /// The jobs of the workers: those of the load, then the probe client, if there is one.
    ///
    /// # Errors
    ///
    /// A socket cannot be opened.
    pub(super) fn jobs(&self, rate: Option<f64>) -> Result<Vec<Job>, Error> {
        let in_flight = self.options.in_flight();
        let mut sockets = self.options.sockets(self.targets.len());
        let mut threads = self.options.threads as usize;
        if rate.is_none() {
            // Each socket and thread of a closed loop needs at least one request.
            sockets = sockets.min(in_flight);
            threads = threads.min(in_flight);
        }
        let mut jobs = Vec::new();
        for (index, channels) in self
            .channels(sockets, threads, self.options.stamps_sends(rate))?
            .into_iter()
            .enumerate()
        {
            let pace = match rate {
                Some(rate) => {
                    let seed = self.seed.wrapping_add(index as u64);
                    let arrivals = self.options.arrivals;
                    Pace::Open(Schedule::new(
                        arrivals,
                        self.profile(rate),
                        index,
                        threads,
                        seed,
                    ))
                }
                None => Pace::Closed(part(in_flight as u64, index, threads) as usize),
            };
            let requests = self.options.requests;
            jobs.push(Job {
                index: index as u8,
                cpu: self.cpu(index),
                role: Role::Load,
                pace,
                channels,
                requests: requests.map(|requests| part(requests, index, threads)),
            });
        }
        if let Some(rate) = self.options.probe {
            let stamped = self.options.stamps_sends(Some(rate));
            jobs.push(Job {
                index: threads as u8,
                cpu: self.cpu(threads),
                role: Role::Probe,
                pace: Pace::Open(Schedule::new(
                    Arrivals::Constant,
                    Profile::constant(rate),
                    0,
                    1,
                    self.seed,
                )),
                channels: vec![Channel::open(self.targets[0], 0, stamped)?],
                requests: None,
            });
        }
        Ok(jobs)
    }

    /// The processor of a thread, if they are pinned.
    fn cpu(&self, index: usize) -> Option<usize> {
        self.options.cpus.iter().cycle().nth(index).copied()
    }

    /// The rate over time.
    fn profile(&self, rate: f64) -> Profile {
        match &self.options.stages {
            Some(stages) => Profile::of_stages(stages, self.options.warm_up),
            None => Profile::constant(rate),
        }
    }

    /// Opens the sockets, with the targets in turn, and distributes them over the threads.
    fn channels(
        &self,
        sockets: usize,
        threads: usize,
        stamped: bool,
    ) -> Result<Vec<Vec<Channel>>, Error> {
        let mut channels: Vec<Vec<Channel>> = (0..threads).map(|_| Vec::new()).collect();
        let targets = self.targets.iter().enumerate().cycle();
        for (index, (target, address)) in targets.take(sockets).enumerate() {
            channels[index % threads].push(Channel::open(*address, target, stamped)?);
        }
        Ok(channels)
    }

    /// What the workers share.
    pub(super) fn setup(
        &self,
        key: &Key,
        (workload, templates): (&Arc<Workload>, &Arc<[Template]>),
        jobs: &[Job],
        stop: Arc<AtomicBool>,
    ) -> Setup {
        let options = self.options;
        let end = self.duration().map(|duration| options.warm_up + duration);
        let slice = end.map_or(SLICE_MIN, |end| (end / SLICES).max(SLICE_MIN));
        let loads = jobs.iter().filter(|job| job.role == Role::Load).count();
        Setup {
            key: key.clone(),
            run: RunId(fastrand::u64(..)),
            workload: Arc::clone(workload),
            templates: Arc::clone(templates),
            corrupted_shares: options.corrupted_shares(),
            batch: options.batch as usize,
            segment: options.segment,
            spin: options.spins(jobs.len()),
            verify: options.verify,
            compare: !options.config_changes,
            lost_after: nanos(options.lost_after),
            lost_latency: options
                .lost_in_percentiles()
                .then(|| nanos(options.lost_after)),
            warm_up: nanos(options.warm_up),
            end: end.map(nanos),
            slice: nanos(slice),
            workers: loads,
            targets: self.targets.len(),
            seed: self.seed,
            ready: Barrier::new(jobs.len()),
            start: OnceLock::new(),
            sending: AtomicUsize::new(loads),
            stop,
        }
    }

    /// How long requests are sent after the warm-up; `None` if only their number is limited.
    fn duration(&self) -> Option<Duration> {
        let options = self.options;
        if let Some(stages) = &options.stages {
            return Some(stages.duration());
        }
        match (options.duration, options.requests, &options.search) {
            (Some(duration), ..) => Some(duration),
            (None, Some(_), _) => None,
            (None, None, Some(_)) => Some(TRIAL_DURATION),
            (None, None, None) => Some(options::DURATION_DEFAULT),
        }
    }
}

/// The part of `whole` for one of `threads` threads; the parts differ by at most 1.
fn part(whole: u64, index: usize, threads: usize) -> u64 {
    let threads = threads as u64;
    whole / threads + u64::from((index as u64) < whole % threads)
}
