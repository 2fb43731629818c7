//! One run of the workers, or a search with several runs.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use super::bottleneck;
use super::error::Error;
use super::interrupt::Interrupt;
use super::machine::Machine;
use super::mix::Workload;
use super::names::Names;
use super::nanos::nanos;
use super::options::Options;
use super::plan::Plan;
use super::progress::Progress;
use super::replay;
use super::report::{Report, Search, Trial};
use super::requirements::Requirements;
use super::results::Results;
use super::search::{RateSearch, TrialResult};
use super::server::Server;
use super::sockets::SEGMENT_BYTES_MAX;
use super::stats::Series;
use super::template::Template;
use super::worker::{Delivery, Role, Worker};
use crate::protocol::{Key, REQUEST_BYTES_MAX};

/// A prepared measurement.
pub(super) struct Bench<'a> {
    options: &'a Options,
    targets: &'a [SocketAddr],
    key: &'a Key,
    workload: Arc<Workload>,
    templates: Arc<[Template]>,
    seed: u64,
    /// Numbers of the lines of the recording that were skipped.
    skipped: Vec<usize>,
    interrupt: Interrupt,
}

impl<'a> Bench<'a> {
    /// Reads or asks for the names and prepares the requests.
    ///
    /// # Errors
    ///
    /// As for [`super::run`].
    pub(super) fn prepare(
        options: &'a Options,
        targets: &'a [SocketAddr],
        key: &'a Key,
    ) -> Result<Self, Error> {
        let Some(&first) = targets.first() else {
            return Err(Error::new("there is no server to load"));
        };
        if !options.is_open() && options.in_flight() < targets.len() {
            return Err(Error::usage(
                "--in-flight must be at least the number of servers, otherwise some get no request",
            ));
        }
        let (workload, skipped) = workload(options, first, key)?;
        let mut templates: Vec<_> = workload
            .queries
            .iter()
            .map(|query| Template::new(query.kind, &query.argument))
            .collect();
        let longest = templates.iter().map(Template::len).max().unwrap_or(0);
        if longest > REQUEST_BYTES_MAX {
            return Err(Error::new(format!(
                "a request has {longest} bytes, but confd answers at most {REQUEST_BYTES_MAX}"
            )));
        }
        if options.segment {
            for template in &mut templates {
                template.pad(longest.min(SEGMENT_BYTES_MAX));
            }
        }
        Ok(Self {
            options,
            targets,
            key,
            workload: workload.into(),
            templates: templates.into(),
            seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
            skipped,
            interrupt: Interrupt::catch()?,
        })
    }

    /// Searches for the highest rate that meets `requirements`. Returns the results at that rate,
    /// or those of the last trial if no rate meets them.
    ///
    /// # Errors
    ///
    /// As for [`Bench::run_once`]; the search was interrupted before the first result.
    pub(super) fn search(&self, requirements: &Requirements) -> Result<(Results, Search), Error> {
        let mut search = match self.options.rate {
            Some(rate) => RateSearch::from_rate(rate),
            None => RateSearch::from_capacity(self.capacity()?),
        };
        let mut trials = Vec::new();
        // The results at the lower bound, and those of the last trial.
        let (mut best, mut last) = (None, None);
        while let Some(rate) = search.next() {
            let results = self.run_once(Some(rate))?;
            if self.interrupt.is_seen() {
                break;
            }
            let is_held = self.outages(&results).is_empty() && requirements.hold(&results);
            let result = match (results.held_rate(), is_held) {
                (false, _) => TrialResult::GeneratorLimited,
                (true, true) => TrialResult::Held,
                (true, false) => TrialResult::Failed,
            };
            search.note(result);
            trials.push(Trial::new(rate, result, &results));
            if !self.options.quiet {
                eprintln!("{}", trials[trials.len() - 1]);
            }
            let (lower, _) = search.bracket();
            // Not the first trials that hold: the others may fail this rate.
            let is_decided = lower.is_some_and(|bound| bound.rate == rate);
            if is_decided && result == TrialResult::Held {
                best = Some(results);
            } else {
                last = Some(results);
            }
        }
        let results = best.or(last);
        let results = results.ok_or_else(|| Error::new("interrupted before the first result"))?;
        let (lower, upper) = search.bracket();
        let search = Search {
            trials,
            lower,
            upper,
        };
        Ok((results, search))
    }

    /// The rate of answers in a closed loop, from which a search starts.
    fn capacity(&self) -> Result<f64, Error> {
        let results = self.run_once(None)?;
        let rate = results.answered_rate();
        if !self.options.quiet {
            eprintln!("{rate:>10.0}/s  answered in a closed loop, where the search starts");
        }
        Ok(rate)
    }

    /// One run, at this rate or as a closed loop.
    ///
    /// # Errors
    ///
    /// A socket or a thread's resources cannot be had.
    pub(super) fn run_once(&self, rate: Option<f64>) -> Result<Results, Error> {
        let plan = Plan {
            options: self.options,
            targets: self.targets,
            seed: self.seed,
        };
        let jobs = plan.jobs(rate)?;
        let setup = plan.setup(
            self.key,
            (&self.workload, &self.templates),
            &jobs,
            self.interrupt.flag(),
        );
        let mut progress = Progress::new(setup.end.map(Duration::from_nanos), self.options.quiet);
        let seconds = setup.slice as f64 / 1e9;
        let mut series = Series::new(seconds, setup.workers);
        let mut probe_series = Series::new(seconds, 1);
        let servers = Server::find(self.targets, self.options.server_pid);
        let (slices, delivered) = mpsc::channel();
        let workers = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs
                .into_iter()
                .map(|job| {
                    let (setup, slices) = (&setup, slices.clone());
                    scope.spawn(move || {
                        let worker = Worker::new(setup, job, slices);
                        // A worker that failed passes the barrier as well, as the others wait.
                        setup.ready.wait();
                        worker.map(Worker::run)
                    })
                })
                .collect();
            drop(slices);
            for delivery in delivered {
                match delivery {
                    Delivery::Slice { role, index, slice } => {
                        let series = of_role(role, &mut series, &mut probe_series);
                        let point = series.add(index, &slice);
                        if let Some(point) = point.filter(|_| role == Role::Load) {
                            progress.show(&point);
                        }
                    }
                    Delivery::Lost { role, index } => {
                        of_role(role, &mut series, &mut probe_series).add_lost(index, 1);
                    }
                }
            }
            threads
                .into_iter()
                .map(|thread| thread.join().expect("workers do not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        progress.finish();
        let mut results = Results::sum(workers);
        results.offered = rate;
        results.servers = servers.iter().map(Server::used).collect();
        results.series = series.finish();
        results.probe_series = probe_series.finish();
        Ok(results)
    }

    /// The report on these results.
    pub(super) fn report(
        &self,
        started: SystemTime,
        results: Results,
        search: Option<Search>,
    ) -> Report<'a> {
        let machine = Machine::this();
        let notes = self.notes(&results, &machine);
        Report {
            options: self.options,
            targets: self.targets,
            machine,
            started,
            seed: self.seed,
            queries: self.workload.queries.len(),
            outages: self.outages(&results),
            results,
            search,
            notes,
        }
    }

    /// The targets that never answered or stopped answering.
    fn outages(&self, results: &Results) -> Vec<String> {
        let lost_after = nanos(self.options.lost_after);
        let load = &results.load;
        let targets = self.targets.iter().zip(&load.by_target).zip(&load.gaps);
        targets
            .filter_map(|((target, tally), gaps)| {
                if tally.sent > 0 && tally.answered == 0 {
                    return Some(format!("{target} never answered"));
                }
                let length = gaps.stopped_for(results.seconds, lost_after)?;
                let seconds = length as f64 / 1e9;
                Some(format!(
                    "{target} stopped answering: no answer in the last {seconds:.1} s"
                ))
            })
            .collect()
    }

    fn notes(&self, results: &Results, machine: &Machine) -> Vec<String> {
        let mut notes = bottleneck::notes(results);
        if !notes.is_empty() {
            notes.insert(
                0,
                "the generator or this machine was at its limit: the figures do not describe the \
                 server alone"
                    .into(),
            );
        }
        if !self.skipped.is_empty() {
            notes.push(format!(
                "{} lines of the recording were skipped, because they are not requests or get no \
                 reply: {}",
                self.skipped.len(),
                replay::shortened(&self.skipped)
            ));
        }
        if self.interrupt.is_seen() {
            notes.push("the run was interrupted; these are the results until then".into());
        }
        if !machine.optimized {
            notes.push("the generator was built without optimization, so it is slow".into());
        }
        notes
    }
}

fn of_role<'s>(role: Role, load: &'s mut Series, probe: &'s mut Series) -> &'s mut Series {
    match role {
        Role::Load => load,
        Role::Probe => probe,
    }
}

/// The workload, and the numbers of the lines of a recording that were skipped.
fn workload(
    options: &Options,
    server: SocketAddr,
    key: &Key,
) -> Result<(Workload, Vec<usize>), Error> {
    if let Some(file) = &options.replay {
        let (queries, skipped) = replay::read(file)?;
        return Ok((Workload::in_turn(queries), skipped));
    }
    let names = match &options.names_from {
        Some(file) => Names::of_file(file)?,
        None => Names::ask(server, key, &options.mix.types())?,
    };
    let workload = Workload::of_mix(&options.mix, &names).map_err(Error::new)?;
    Ok((workload, Vec::new()))
}
