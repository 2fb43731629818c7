//! The load generator: `confdctl bench`.
//!
//! It loads any confd with signed queries over UDP, and measures throughput, latency and every way in which an answer can fail to be
//! one. It speaks to the servers by the protocol alone and knows nothing of how they work.
//!
//! ```text
//! options    what was asked for
//! names      what can be asked about, from a file or the servers    replay    recorded questions
//! mix        which question is next
//! template   a question as a datagram, but for salts and signature   rsalt    how its reply finds back
//! schedule   when it is to be sent, in an open loop
//! worker     a thread: sends, receives
//!   sockets    in batches
//!   flight     what is in flight, and what becomes of it
//!   check      whether a reply is right
//! stats      what was counted           usage, bottleneck   whether the generator was the limit
//! search     the highest rate           verdict             whether requirements hold
//! progress, report                      what is shown
//! ```
//!
//! Invariants: latency of an open loop counts from the intended time; every request that counts ends as answered, wrong or lost; memory
//! is bounded, whatever comes back. Plain threads, no async runtime. The clock is monotonic (`Instant`), but for the salt.
//!
//! What it does not do: it changes nothing on the servers, and it does not measure their CPU time.
#![forbid(unsafe_code)]

mod bottleneck;
mod check;
mod in_flight;
mod machine;
mod mix;
mod names;
mod options;
mod progress;
mod replay;
mod report;
mod requirements;
mod results;
mod rsalt;
mod schedule;
mod search;
mod sockets;
mod stats;
mod template;
mod usage;
mod worker;

use std::collections::HashSet;
use std::fmt;
use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, OnceLock, mpsc};
use std::time::{Duration, SystemTime};

pub use mix::Mix;
pub use options::{EXAMPLES, Options};
pub use requirements::Requirements;
pub use schedule::Arrivals;

use crate::protocol::{Key, REQUEST_BYTES_MAX, SKEW_SECONDS_MAX};
use machine::Machine;
use mix::Questions;
use names::Names;
use progress::Progress;
use report::{Report, Trial};
use results::{Results, ThreadUse};
use rsalt::Run;
use schedule::Schedule;
use search::RateSearch;
use sockets::{Channel, SEGMENT_BYTES_MAX};
use stats::{Series, Stats};
use template::Template;
use worker::{Job, Pace, Role, Setup, Worker, WorkerResult};

/// Nanoseconds, usually since the start of a run.
type Nanos = u64;

/// Slices of time in a run of known length; more would crowd a plot.
const SLICES: u32 = 240;
/// The shortest slice, and the slice of a run of unknown length.
const SLICE_MIN: Duration = Duration::from_millis(100);

/// How long each rate of a search is tried, unless it is said.
const TRIAL_DURATION: Duration = Duration::from_secs(2);

/// The possible causes of silence: confd sends no negative replies.
fn silence_causes() -> String {
    format!(
        "confd does not answer what it cannot verify: another key (all bytes of hmac.key count, \
         including a newline), or clocks more than {SKEW_SECONDS_MAX} s apart; otherwise no confd \
         is running there, or a firewall drops the datagrams"
    )
}

/// What `--require` or `--search` asks for does not hold.
const EXIT_NOT_HELD: u8 = 3;

/// Why there was no measurement, for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

fn nanos(time: Duration) -> Nanos {
    Nanos::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}

/// Loads `targets` as `options` say, and prints what came of it: as text, or as one JSON document if `json`.
///
/// The exit status is 0, 1 if nothing was answered, or 3 if a requirement does not hold. The first SIGINT ends the measurement early
/// and orderly, the second one the process.
///
/// # Errors
///
/// The options contradict each other, a file cannot be read or written, the names cannot be found out, or there are no
/// more sockets or threads.
pub fn run(
    options: &Options,
    targets: &[SocketAddr],
    key: &Key,
    json: bool,
) -> Result<ExitCode, Error> {
    options.check().map_err(Error::new)?;
    if let Some(file) = &options.report {
        // Better now than after the measurement.
        let open = OpenOptions::new().append(true).create(true).open(file);
        open.map_err(|error| unwritable(file, &error))?;
    }
    let bench = Bench::prepare(options, targets, key)?;
    let started = SystemTime::now();
    let (results, trials) = match &options.search {
        None => (bench.measure(options.rate)?, Vec::new()),
        Some(bounds) => bench.search(bounds)?,
    };
    let report = bench.report(started, results, trials);
    if let Some(file) = &options.report {
        std::fs::write(file, report.html()?).map_err(|error| unwritable(file, &error))?;
    }
    let text = if json { report.json()? } else { report.text() };
    // Whoever closes the pipe has read enough.
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    Ok(report.exit_code())
}

fn unwritable(file: &Path, error: &std::io::Error) -> Error {
    Error::new(format!("{} cannot be written: {error}", file.display()))
}

/// A measurement, prepared.
struct Bench<'a> {
    options: &'a Options,
    targets: &'a [SocketAddr],
    key: &'a Key,
    questions: Arc<Questions>,
    templates: Arc<[Template]>,
    seed: u64,
    /// Lines of the recording that were no requests.
    skipped: usize,
    interrupt: Interrupt,
}

impl<'a> Bench<'a> {
    fn prepare(
        options: &'a Options,
        targets: &'a [SocketAddr],
        key: &'a Key,
    ) -> Result<Self, Error> {
        let Some(&first) = targets.first() else {
            return Err(Error::new("no server to load"));
        };
        if !options.is_open() && in_flight(options) < targets.len() {
            return Err(Error::new(
                "--in-flight must be at least the number of servers, or some are never asked",
            ));
        }
        let (questions, skipped) = questions(options, first, key)?;
        let mut templates: Vec<_> = questions
            .queries
            .iter()
            .map(|query| Template::new(query.kind, &query.argument))
            .collect();
        let longest = templates.iter().map(Template::len).max().unwrap_or(0);
        if longest > REQUEST_BYTES_MAX {
            return Err(Error::new(format!(
                "a request of {longest} bytes; {REQUEST_BYTES_MAX} are the most that is answered"
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
            questions: questions.into(),
            templates: templates.into(),
            seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
            skipped,
            interrupt: Interrupt::catch()?,
        })
    }

    /// Tries rates until the highest one that holds is known. Gives the results at that rate, or of the last trial if none holds.
    fn search(&self, bounds: &Requirements) -> Result<(Results, Vec<Trial>), Error> {
        let first = self.options.rate.unwrap_or(options::SEARCH_RATE_DEFAULT);
        let mut search = RateSearch::from(first);
        let mut trials = Vec::new();
        let mut best: Option<(bool, Results)> = None;
        while let Some(rate) = search.next() {
            let results = self.measure(Some(rate))?;
            if self.interrupt.seen() {
                break;
            }
            let held = results.held_rate() && bounds.hold(&results);
            search.note(held);
            trials.push(Trial::new(rate, held, &results));
            if !self.options.quiet {
                eprintln!("{}", trials[trials.len() - 1]);
            }
            let better = match &best {
                None | Some((false, _)) => true,
                Some((true, before)) => held && before.offered < results.offered,
            };
            if better {
                best = Some((held, results));
            }
        }
        let (_, results) = best.ok_or_else(|| Error::new("interrupted before the first result"))?;
        Ok((results, trials))
    }

    /// One run, at this rate or in a closed loop.
    fn measure(&self, rate: Option<f64>) -> Result<Results, Error> {
        let (setup, jobs) = self.plan(rate)?;
        let whole = setup.end.map(Duration::from_nanos);
        let progress = Progress::new(whole, self.options.quiet);
        let seconds = setup.slice as f64 / 1e9;
        let loads = jobs.iter().filter(|job| job.role == Role::Load).count();
        let mut series = Series::new(seconds, loads);
        let mut measure_series = Series::new(seconds, 1);
        let (slices, delivered) = mpsc::channel();
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = jobs
                .into_iter()
                .map(|job| {
                    let (setup, slices) = (&setup, slices.clone());
                    scope.spawn(move || {
                        let worker = Worker::new(setup, job, slices);
                        // Also if it failed: the others wait.
                        setup.ready.wait();
                        worker.map(Worker::run)
                    })
                })
                .collect();
            drop(slices);
            for (role, index, slice) in delivered {
                match role {
                    Role::Measure => _ = measure_series.add(index, &slice),
                    Role::Load => {
                        if let Some(point) = series.add(index, &slice) {
                            progress.show(&point);
                        }
                    }
                }
            }
            threads
                .into_iter()
                .map(|thread| thread.join().expect("workers do not panic"))
                .collect::<Result<Vec<_>, _>>()
        })?;
        progress.finish();
        let mut results = sum(outcomes);
        results.offered = rate;
        results.series = series.finish();
        results.measure_series = measure_series.finish();
        Ok(results)
    }

    /// What the threads share, and what each of them does.
    fn plan(&self, rate: Option<f64>) -> Result<(Setup, Vec<Job>), Error> {
        let options = self.options;
        let in_flight = in_flight(options);
        let mut sockets = options.sockets(self.targets.len());
        let mut threads = options.threads as usize;
        if rate.is_none() {
            // None of them without work.
            sockets = sockets.min(in_flight);
            threads = threads.min(in_flight);
        }
        let mut channels: Vec<Vec<Channel>> = (0..threads).map(|_| Vec::new()).collect();
        let targets = self.targets.iter().enumerate().cycle();
        for (index, (target, address)) in targets.take(sockets).enumerate() {
            channels[index % threads].push(Channel::open(*address, target)?);
        }
        let mut jobs = Vec::new();
        for (index, channels) in channels.into_iter().enumerate() {
            let part = |whole: u64| {
                let threads = threads as u64;
                whole / threads + u64::from((index as u64) < whole % threads)
            };
            let pace = match rate {
                Some(rate) => {
                    let seed = self.seed.wrapping_add(index as u64);
                    Pace::Open(Schedule::new(options.arrivals, rate, index, threads, seed))
                }
                None => Pace::Closed(part(in_flight as u64) as usize),
            };
            jobs.push(Job {
                index: index as u8,
                role: Role::Load,
                pace,
                channels,
                requests: options.requests.map(part),
            });
        }
        if let Some(rate) = options.measure {
            jobs.push(Job {
                index: threads as u8,
                role: Role::Measure,
                pace: Pace::Open(Schedule::new(Arrivals::Constant, rate, 0, 1, self.seed)),
                channels: vec![Channel::open(self.targets[0], 0)?],
                requests: None,
            });
        }
        Ok((self.setup(&jobs), jobs))
    }

    fn setup(&self, jobs: &[Job]) -> Setup {
        let options = self.options;
        let warm_up = options.warm_up;
        let duration = match (options.duration, options.requests, &options.search) {
            (Some(duration), ..) => Some(duration),
            (None, Some(_), _) => None,
            (None, None, Some(_)) => Some(TRIAL_DURATION),
            (None, None, None) => Some(options::DURATION_DEFAULT),
        };
        let end = duration.map(|duration| warm_up + duration);
        let slice = end.map_or(SLICE_MIN, |end| (end / SLICES).max(SLICE_MIN));
        let loads = jobs.iter().filter(|job| job.role == Role::Load).count();
        Setup {
            key: self.key.clone(),
            run: Run(fastrand::u64(..)),
            questions: Arc::clone(&self.questions),
            templates: Arc::clone(&self.templates),
            damage: options.damage(),
            batch: options.batch as usize,
            segment: options.segment,
            verify: options.verify,
            compare: !options.config_changes,
            patience: nanos(options.lost_after),
            warm_up: nanos(warm_up),
            end: end.map(nanos),
            slice: nanos(slice),
            workers: loads,
            targets: self.targets.len(),
            seed: self.seed,
            ready: Barrier::new(jobs.len()),
            start: OnceLock::new(),
            sending: AtomicUsize::new(loads),
            stop: Arc::clone(&self.interrupt.seen),
        }
    }

    fn report(&self, started: SystemTime, results: Results, trials: Vec<Trial>) -> Report<'a> {
        let mut notes = bottleneck::notes(&results);
        if !notes.is_empty() {
            notes.insert(
                0,
                "the generator, or this machine, was at its limit: the figures are not about the server alone".into(),
            );
        }
        for (target, tally) in self.targets.iter().zip(&results.load.by_target) {
            if tally.sent > 0 && tally.answered == 0 && results.load.counts.answered > 0 {
                notes.push(format!("{target} answered nothing"));
            }
        }
        if self.skipped > 0 {
            notes.push(format!(
                "{} lines of the recording are no requests, or such as get no reply, and were skipped",
                self.skipped
            ));
        }
        if self.interrupt.seen() {
            notes.push("interrupted: this is what there was until then".into());
        }
        let machine = Machine::this();
        if !machine.optimised {
            notes.push("the generator was built without optimisation: it is slow".into());
        }
        Report {
            options: self.options,
            targets: self.targets,
            machine,
            started,
            seed: self.seed,
            queries: self.questions.queries.len(),
            results,
            trials,
            notes,
        }
    }
}

fn in_flight(options: &Options) -> usize {
    options.in_flight.unwrap_or(options::IN_FLIGHT_DEFAULT)
}

/// What is asked, and how many lines of a recording were skipped.
fn questions(
    options: &Options,
    server: SocketAddr,
    key: &Key,
) -> Result<(Questions, usize), Error> {
    if let Some(file) = &options.replay {
        let (queries, skipped) = replay::read(file)?;
        return Ok((Questions::in_turn(queries), skipped));
    }
    let names = match &options.names_from {
        Some(file) => Names::of_file(file)?,
        None => Names::ask(server, key, &options.mix)?,
    };
    let questions = Questions::of_mix(&options.mix, &names).map_err(Error)?;
    Ok((questions, 0))
}

/// Puts together what the threads have done.
fn sum(outcomes: Vec<WorkerResult>) -> Results {
    let mut results = Results::default();
    for outcome in outcomes {
        match outcome.role {
            Role::Load => {
                results.load.add(&outcome.stats);
                results.seconds = results.seconds.max(outcome.sending as f64 / 1e9);
            }
            Role::Measure => {
                let sum = results.measure.get_or_insert_with(Stats::default);
                sum.add(&outcome.stats);
            }
        }
        results.dropped += outcome.dropped;
        results.threads.push(ThreadUse {
            role: outcome.role,
            sending: outcome.sending,
            usage: outcome.usage,
        });
    }
    results
}

/// SIGINT, for as long as this lives.
struct Interrupt {
    seen: Arc<AtomicBool>,
    handlers: [signal_hook::SigId; 2],
}

impl Interrupt {
    fn catch() -> Result<Self, Error> {
        let seen = Arc::new(AtomicBool::new(false));
        let try_catch = || {
            use signal_hook::consts::SIGINT;
            use signal_hook::flag;
            // In this order: the first signal sets the flag that makes the second one end the process, as a shell reports it.
            let second = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&seen))?;
            Ok([second, flag::register(SIGINT, Arc::clone(&seen))?])
        };
        let handlers = try_catch().map_err(|error: std::io::Error| {
            Error::new(format!("cannot catch signals: {error}"))
        })?;
        Ok(Self { seen, handlers })
    }

    fn seen(&self) -> bool {
        self.seen.load(Ordering::Relaxed)
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        for handler in self.handlers {
            signal_hook::low_level::unregister(handler);
        }
    }
}

/// Replies dropped before these channels.
fn dropped(channels: &[Channel]) -> u64 {
    let inodes: HashSet<_> = channels.iter().map(|channel| channel.inode).collect();
    sockets::dropped(&inodes)
}
