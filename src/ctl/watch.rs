//! `confdctl probe --watch`: the same again and again, until somebody has seen enough.
//!
//! A thread looks at the candidates; the main thread waits for a key, a signal, the end of standard output or the next picture, so that
//! a silent candidate delays none of them.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::exit::{CommandError, Exit};
use super::options::Common;
use super::probe::{Health, Probe};

/// Moves to the top left corner and clears what is below.
const REDRAW: &str = "\x1b[H\x1b[2J";

/// Why the view ends.
enum End {
    /// By the key q, or because nobody reads any more.
    Quit,
    /// By this signal.
    Signal(u8),
}

/// Shows the candidates' health every `interval` until it is ended: 0 by `q`, 130 by Ctrl-C, 143 by SIGTERM.
///
/// # Errors
///
/// This host's files, sockets or standard output.
pub(super) fn run(common: &Common, interval: Duration) -> Result<ExitCode, CommandError> {
    let local = |error: io::Error| CommandError::new(Exit::Local, format!("cannot watch: {error}"));
    let probe = Probe::new(common)?;
    let signals = [SIGINT, SIGTERM].map(caught);
    let [interrupt, terminate] = signals;
    let (interrupt, terminate) = (interrupt.map_err(local)?, terminate.map_err(local)?);
    let (sender, pictures) = mpsc::channel();
    let (mut wakes, woken) = UnixStream::pair().map_err(local)?;
    // It ends with the process, or when it finds the other end of the channel gone.
    thread::spawn(move || {
        poll_repeatedly(probe, interval, &sender, &mut wakes);
    });
    let keys = Keys::single();
    let view = View {
        common,
        interrupt,
        terminate,
        woken,
        pictures,
        keys,
    };
    Ok(
        match view
            .show()
            .map_err(|error| CommandError::of_output(&error))?
        {
            End::Quit => ExitCode::SUCCESS,
            End::Signal(number) => ExitCode::from(128 + number),
        },
    )
}

/// A stream that gets a byte with every such signal.
fn caught(signal: i32) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal, write)?;
    Ok(read)
}

fn poll_repeatedly(
    mut probe: Probe,
    interval: Duration,
    pictures: &Sender<Result<Health, CommandError>>,
    wakes: &mut UnixStream,
) {
    loop {
        let picture = probe.poll();
        if pictures.send(picture).is_err() || wakes.write_all(&[0]).is_err() {
            return;
        }
        thread::sleep(interval);
    }
}

/// What is waited for.
struct View<'a> {
    common: &'a Common,
    interrupt: UnixStream,
    terminate: UnixStream,
    woken: UnixStream,
    pictures: Receiver<Result<Health, CommandError>>,
    keys: Option<Keys>,
}

impl View<'_> {
    fn show(mut self) -> io::Result<End> {
        if io::stdout().is_terminal() {
            // The first picture takes as long as the most silent candidate.
            io::stdout().write_all(self.frame("Asking ...\n").as_bytes())?;
        }
        loop {
            let stdin = io::stdin();
            let stdout = io::stdout();
            let mut fds = vec![
                PollFd::new(self.interrupt.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.terminate.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
                // Only that nobody reads it any more.
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
                [_, _, _, _, true] if self.is_enough() => return Ok(End::Quit),
                [_, _, true, ..] => self.draw()?,
                _ => {}
            }
        }
    }

    /// Whether what was typed says so.
    fn is_enough(&mut self) -> bool {
        let mut keys = [0; 64];
        match io::stdin().read(&mut keys) {
            Ok(count @ 1..) => keys[..count].iter().any(|key| matches!(key, b'q' | b'Q')),
            // The terminal is gone.
            _ => true,
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        self.woken.read_exact(&mut [0])?;
        let Ok(picture) = self.pictures.recv() else {
            return Ok(());
        };
        let text = match picture {
            Ok(health) if self.common.json => health.json(),
            Ok(health) => self.frame(&health.text()),
            Err(failure) => self.frame(&format!("{failure}\n")),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// A picture on an empty screen, or below the last one and an empty line.
    fn frame(&self, text: &str) -> String {
        if !io::stdout().is_terminal() {
            return format!("{text}\n");
        }
        // Performance data is for monitoring systems.
        let text = text.replacen('|', "\n|", 1);
        let lines = text.lines().filter(|line| !line.starts_with('|'));
        let lines: String = lines.map(|line| format!("{line}\n")).collect();
        let key = if self.keys.is_some() { "q" } else { "Ctrl-C" };
        format!("{REDRAW}{lines}\n{}; {key} ends\n", time_of_day())
    }
}

/// `23:59:59 UTC`.
fn time_of_day() -> String {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seconds = since_epoch.map_or(0, |time| time.as_secs());
    let (hours, minutes) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{hours:02}:{minutes:02}:{:02} UTC", seconds % 60)
}

/// A terminal that gives each key at once, until this is dropped.
struct Keys {
    before: Termios,
}

impl Keys {
    /// If standard input is a terminal.
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
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
