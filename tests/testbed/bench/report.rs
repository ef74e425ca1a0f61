//! The figures of a run, and what they were measured on.

use std::fmt::Display;
use std::time::Duration;

use super::super::progress::say;

/// One line of the table.
struct Row {
    what: String,
    goal: String,
    measured: String,
    met: Option<bool>,
}

/// Everything that was measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// A figure with a goal.
    pub fn goal(
        &mut self,
        what: impl Display,
        goal: impl Display,
        measured: impl Display,
        met: bool,
    ) {
        self.row(
            what.to_string(),
            goal.to_string(),
            measured.to_string(),
            Some(met),
        );
    }

    /// A figure without one.
    pub fn figure(&mut self, what: impl Display, measured: impl Display) {
        self.row(what.to_string(), "-".to_owned(), measured.to_string(), None);
    }

    fn row(&mut self, what: String, goal: String, measured: String, met: Option<bool>) {
        // A later failure must not cost what is known by now.
        say(&format!(
            "{what}: {measured} (goal: {goal}); load {}",
            load()
        ));
        self.rows.push(Row {
            what,
            goal,
            measured,
            met,
        });
    }

    /// Prints the table, as Markdown.
    pub fn print(&self) {
        println!("\n{}\n", machine());
        println!("| What | Goal | Measured | Met |\n|---|---|---|---|");
        for row in &self.rows {
            let met = match row.met {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "-",
            };
            println!("| {} | {} | {} | {met} |", row.what, row.goal, row.measured);
        }
    }
}

/// The machine that this runs on, and how busy it is.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name").unwrap_or_default();
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let profile = if cfg!(debug_assertions) {
        "DEBUG build (figures mean nothing)"
    } else {
        "release build"
    };
    format!(
        "{cpus} CPUs ({model}), memory {memory}, kernel {}, {profile}, load at the end {}",
        read("/proc/sys/kernel/osrelease").trim(),
        load()
    )
}

/// Load averages over 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The middle of these (the upper one of two); `None` of nothing.
pub fn median<T: Copy + PartialOrd>(values: &[T]) -> Option<T> {
    percentile(values, 50)
}

/// The value that `percent` of these do not exceed.
pub fn percentile<T: Copy + PartialOrd>(values: &[T], percent: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied()
}

/// Seconds with one decimal.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Milliseconds.
pub fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}

/// Kibibytes as MiB.
pub fn mebibytes(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

/// A count as a divisor.
pub fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
