//! `confdctl probe --watch`: repeats the probe until it is interrupted.
//!
//! A thread polls the candidates. The main thread waits for a key, a signal, the closing of
//! standard output or the next result, so that a candidate that does not answer delays none of
//! these.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::super::exit::{CommandError, Exit};
use super::super::options::{Common, ProbeOptions};
use super::super::terminal::CLEAR;
use super::health::Health;
use super::people::{self, Look};
use super::prober::Prober;
use super::{json, plugin};
use crate::clock;

/// Why the view ended.
enum End {
    /// The key `q`, or standard output was closed.
    Quit,
    /// This signal.
    Signal(u8),
}

/// Shows the health of the candidates every `interval`. Returns 0 after `q`, 130 after Ctrl-C, 143
/// after SIGTERM.
///
/// # Errors
///
/// A file, a socket or standard output of this host fails.
pub(super) fn run(
    common: &Common,
    options: &ProbeOptions,
    interval: Duration,
) -> Result<ExitCode, CommandError> {
    let local = |error: io::Error| CommandError::new(Exit::Local, format!("cannot watch: {error}"));
    let prober = Prober::new(common, options)?;
    let signals = [SIGINT, SIGTERM].map(signal_stream);
    let [interrupt, terminate] = signals;
    let (interrupt, terminate) = (interrupt.map_err(local)?, terminate.map_err(local)?);
    let (sender, results) = mpsc::channel();
    let (mut wakes, woken) = UnixStream::pair().map_err(local)?;
    // The thread ends with the process, or when the receiver is dropped.
    thread::spawn(move || {
        poll_repeatedly(prober, interval, &sender, &mut wakes);
    });
    let keys = Keys::single();
    let view = View {
        common,
        interrupt,
        terminate,
        woken,
        results,
        keys,
    };
    let end = view.show();
    Ok(
        match end.map_err(|error| CommandError::of_output(&error))? {
            End::Quit => ExitCode::SUCCESS,
            End::Signal(number) => ExitCode::from(128 + number),
        },
    )
}

/// A stream that receives one byte per signal.
fn signal_stream(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn poll_repeatedly(
    mut prober: Prober,
    interval: Duration,
    results: &Sender<Result<Health, CommandError>>,
    wakes: &mut UnixStream,
) {
    loop {
        if results.send(prober.poll()).is_err() || wakes.write_all(&[0]).is_err() {
            return;
        }
        thread::sleep(interval);
    }
}

/// The event sources of the main thread, and what it shows.
struct View<'a> {
    common: &'a Common,
    interrupt: UnixStream,
    terminate: UnixStream,
    woken: UnixStream,
    results: Receiver<Result<Health, CommandError>>,
    keys: Option<Keys>,
}

impl View<'_> {
    fn show(mut self) -> io::Result<End> {
        if io::stdout().is_terminal() {
            // The first result takes up to the timeout if a candidate does not answer.
            io::stdout().write_all(self.frame("Probing ...\n").as_bytes())?;
        }
        loop {
            let stdin = io::stdin();
            let stdout = io::stdout();
            let mut fds = vec![
                PollFd::new(self.interrupt.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.terminate.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
                // Reports only that it was closed.
                PollFd::new(stdout.as_fd(), PollFlags::empty()),
            ];
            if self.keys.is_some() {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or_default()).collect();
            match ready[..] {
                [true, ..] => return Ok(End::Signal(SIGINT as u8)),
                [_, true, ..] => return Ok(End::Signal(SIGTERM as u8)),
                [_, _, _, true, ..] => return Ok(End::Quit),
                [_, _, _, _, true] if self.is_quit_typed() => return Ok(End::Quit),
                [_, _, true, ..] => self.draw()?,
                _ => {}
            }
        }
    }

    /// Reads what was typed; whether it is `q`, or the terminal is gone.
    fn is_quit_typed(&mut self) -> bool {
        let mut keys = [0; 64];
        match io::stdin().read(&mut keys) {
            Ok(count @ 1..) => keys[..count].iter().any(|key| matches!(key, b'q' | b'Q')),
            _ => true,
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        self.woken.read_exact(&mut [0])?;
        let Ok(result) = self.results.recv() else {
            return Ok(());
        };
        let text = match result {
            Ok(health) if self.common.json => json::document(&health),
            Ok(health) if io::stdout().is_terminal() => {
                self.frame(&people::text(&health, Look::of_stdout(self.common)))
            }
            Ok(health) => self.frame(&plugin::text(&health)),
            Err(error) => self.frame(&format!("{error}\n")),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The text on a cleared screen, or followed by an empty line if this is not a terminal.
    fn frame(&self, text: &str) -> String {
        if !io::stdout().is_terminal() {
            return format!("{text}\n");
        }
        let key = if self.keys.is_some() { "q" } else { "Ctrl-C" };
        format!("{CLEAR}{text}\n{}; {key} to quit\n", time_of_day())
    }
}

/// The time of day, such as `23:59:59 UTC`.
fn time_of_day() -> String {
    let seconds = clock::unix_seconds();
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
}

/// Disables line buffering and echo of the terminal until dropped.
struct Keys {
    before: Termios,
}

impl Keys {
    /// `None` if standard input is not a terminal.
    fn single() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut single = before.clone();
        single
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Now, &single).ok()?;
        Some(Self { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Fails if the terminal is gone; then there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
