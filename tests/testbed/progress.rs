//! Telling a person that something slow goes on, and what went wrong when it fails.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How many lines of a log an error carries.
pub const TAIL_LINES: usize = 30;

const TICK: Duration = Duration::from_secs(15);

/// Writes one line to stderr. Not `eprintln!`, because the test harness swallows that, and a
/// build of several minutes has to be seen.
pub fn say(line: &str) {
    // In one write, so that lines of several threads do not mix. A closed stderr is no reason to
    // fail.
    let _ = std::io::stderr().write_all(format!("testbed: {line}\n").as_bytes());
}

/// One slow step: a line when it starts, the elapsed time every 15 s, and one when it ends.
pub struct Progress {
    label: String,
    started: Instant,
    stop: Option<Sender<()>>,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// Starts the step and says so.
    pub fn start(label: &str) -> Self {
        say(&format!("{label} ..."));
        let started = Instant::now();
        let (stop, stopped) = channel();
        let ticker = {
            let label = label.to_owned();
            std::thread::spawn(move || tick(&label, started, &stopped))
        };
        Self {
            label: label.to_owned(),
            started,
            stop: Some(stop),
            ticker: Some(ticker),
        }
    }

    /// Ends the step well.
    pub fn done(mut self) {
        self.finish("done in");
    }

    fn finish(&mut self, how: &str) {
        if self.stop.take().is_none() {
            return;
        }
        if let Some(ticker) = self.ticker.take() {
            // The ticker only prints; it cannot panic in a way that matters here.
            let _ = ticker.join();
        }
        say(&format!(
            "{}: {how} {:.1} s",
            self.label,
            self.started.elapsed().as_secs_f64()
        ));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish("failed after");
    }
}

fn tick(label: &str, started: Instant, stopped: &Receiver<()>) {
    while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
        say(&format!("{label}: {} s", started.elapsed().as_secs()));
    }
}

/// Runs `command` to its end with output to `log` (made anew) and progress on stderr. The error
/// of a failed command carries the last lines of the log. The command dies with this process.
pub fn run(label: &str, command: &Command, log: &Path) -> Result<()> {
    let out = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let progress = Progress::start(label);
    let mut child = super::process::dying_with_parent(command)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("{label}: cannot run {}", command.get_program().display()))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if let Err(e) = super::process::check_not_interrupted() {
            child.kill()?;
            child.wait()?;
            return Err(e);
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    if !status.success() {
        drop(progress);
        bail!(
            "{label}: {status}; end of {}:\n{}",
            log.display(),
            tail(log, TAIL_LINES)
        );
    }
    progress.done();
    Ok(())
}

/// Runs a short command and returns what it printed; its stderr becomes the error.
pub fn output(command: &mut Command) -> Result<String> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", command.get_program().display()))?;
    if !result.status.success() {
        let error = String::from_utf8_lossy(&result.stderr).trim().to_owned();
        bail!("`{}`: {}: {error}", shown(command), result.status);
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// A command as a person would type it (no quoting; for messages only).
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last `lines` lines of a log, or a remark why there are none.
pub fn tail(log: &Path, lines: usize) -> String {
    match read_end(log) {
        Err(e) => format!("(cannot read {}: {e})", log.display()),
        Ok(text) if text.trim().is_empty() => format!("({} is empty)", log.display()),
        Ok(text) => {
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
    }
}

// Logs grow to megabytes; their end is enough.
fn read_end(log: &Path) -> std::io::Result<String> {
    const END: u64 = 256 * 1024;
    let mut file = File::open(log)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(END)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
