//! Runs scenarios beside each other: they mostly wait.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::catalogue::{Case, all};
use crate::table::{self, Row};
use crate::testbed::progress::say;
use crate::testbed::{netns, packages};
use crate::trial::{Field, Trial, Version};
use crate::walks;

/// How many run at the same time, unless `SEEDBED_LIVE_PARALLEL` says otherwise: with their
/// members, about 30 etcd processes.
const PARALLEL: u32 = 8;
const STAGGER: Duration = Duration::from_secs(3);
/// Characters of a failure's report that are printed.
const REPORT: usize = 24_000;

/// Something to run.
enum Job {
    Case(Case),
    Walk(u64),
}

/// What became of it.
struct Ended {
    row: Row,
    walk: bool,
    report: String,
}

/// Runs the whole catalogue and the walks; panics with what failed.
pub fn catalogue() {
    packages::ensure(&packages::MACHINES).expect("packages");
    packages::ensure(&packages::CLOUD_INIT).expect("packages");
    let numbers = std::env::var("SEEDBED_LIVE").ok();
    let wanted = |number: &str| {
        let numbers = numbers.as_deref();
        numbers.is_none_or(|text| text.split(',').any(|part| part == number))
    };
    let mut jobs: VecDeque<Job> = all()
        .into_iter()
        .filter(|case| wanted(case.number))
        .map(Job::Case)
        .collect();
    if numbers.as_deref().is_none_or(|text| text.contains("walk")) {
        jobs.extend(walks::seeds().into_iter().map(Job::Walk));
    }
    assert!(!jobs.is_empty(), "SEEDBED_LIVE names nothing");
    let complete = numbers.is_none();
    let ended = run(jobs).expect("a stage");
    let (walks, mut cases): (Vec<Ended>, Vec<Ended>) =
        ended.into_iter().partition(|ended| ended.walk);
    cases.sort_by_key(|ended| {
        let number = ended.row.number;
        let digits = number.trim_end_matches(|c: char| c.is_ascii_lowercase());
        (digits.parse().unwrap_or(u8::MAX), number)
    });
    let failed: Vec<&Ended> = cases
        .iter()
        .chain(&walks)
        .filter(|e| e.row.seen.is_err())
        .collect();
    let names: Vec<String> = failed
        .iter()
        .map(|ended| format!("{} {}", ended.row.number, ended.row.fault))
        .collect();
    if complete && std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        let summary = walks::summary(walks.iter().map(|ended| &ended.row));
        let rows: Vec<Row> = cases.into_iter().map(|ended| ended.row).collect();
        table::write(&table::section(&rows, Some(&summary))).expect("docs/reliability.md");
    }
    assert!(names.is_empty(), "{} failed: {names:#?}", names.len());
}

fn run(jobs: VecDeque<Job>) -> Result<Vec<Ended>> {
    let parallel = std::env::var("SEEDBED_LIVE_PARALLEL").ok();
    let parallel = parallel
        .and_then(|text| text.parse().ok())
        .unwrap_or(PARALLEL);
    let field = &Field::new()?;
    let began = Instant::now();
    let (jobs, ended) = (Mutex::new(jobs), Mutex::new(Vec::new()));
    let next = || {
        jobs.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop_front()
    };
    std::thread::scope(|scope| {
        for place in 0..parallel {
            let (jobs_ended, next) = (&ended, &next);
            scope.spawn(move || {
                // Not all clusters are founded at once.
                std::thread::sleep(place * STAGGER);
                while let Some(job) = next() {
                    let one = play(field, &job);
                    let verdict = match &one.row.seen {
                        Ok(seen) => format!("pass: {seen}"),
                        Err(why) => format!("FAIL: {why}\n{}", one.report),
                    };
                    say(&format!(
                        "live [{:4} s] {} {} ({} s, etcd {}, {} writes): {verdict}",
                        began.elapsed().as_secs(),
                        one.row.number,
                        one.row.fault,
                        one.row.took.as_secs(),
                        one.row.version,
                        one.row.writes
                    ));
                    jobs_ended
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(one);
                }
            });
        }
    });
    say(&format!("live: all in {} s", began.elapsed().as_secs()));
    Ok(ended.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn play(field: &Field, job: &Job) -> Ended {
    let (number, fault, expected, version, quorum, id) = match job {
        Job::Case(case) => (
            case.number,
            case.fault.to_owned(),
            case.expected.to_owned(),
            case.version,
            case.quorum,
            format!("n{}", case.number),
        ),
        Job::Walk(seed) => {
            let version = if seed % 2 == 0 {
                Version::V36
            } else {
                Version::V37
            };
            let fault = format!("random walk {seed}");
            (
                "",
                fault,
                "three healthy voters".to_owned(),
                version,
                true,
                format!("w{seed}"),
            )
        }
    };
    let began = Instant::now();
    let mut report = String::new();
    let mut writes = 0;
    let played = inside(field, async || {
        let mut trial = Trial::new(field, &id, version).await?;
        let played = match job {
            Job::Case(case) => (case.play)(&mut trial).await,
            Job::Walk(seed) => walks::walk(&mut trial, *seed).await,
        };
        let ended = match played {
            Ok(seen) => trial.end(quorum).await.map(|count| (seen, count)),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            report = trial.report();
        }
        tokio::task::block_in_place(|| trial.clear());
        ended
    });
    let seen = match played {
        Ok((seen, count)) => {
            writes = count;
            Ok(seen)
        }
        Err(error) => Err(format!("{error:#}")),
    };
    if report.len() > REPORT {
        // The beginning and the end: what was done, and how it ended.
        let half = REPORT / 2;
        let (head, tail) = (cut(&report, half), cut_front(&report, half));
        report = format!("{head}\n  ...\n{tail}");
    }
    Ended {
        walk: matches!(job, Job::Walk(_)),
        report,
        row: Row {
            number,
            fault,
            expected,
            version: version.minor(),
            seen,
            writes,
            took: began.elapsed(),
        },
    }
}

fn cut(text: &str, length: usize) -> &str {
    let end = (0..=length).rev().find(|at| text.is_char_boundary(*at));
    &text[..end.unwrap_or(0)]
}

fn cut_front(text: &str, length: usize) -> &str {
    let begin = (text.len() - length..text.len()).find(|at| text.is_char_boundary(*at));
    &text[begin.unwrap_or(text.len())..]
}

fn inside<T: Send>(field: &Field, work: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
    let netns = field.ground.seed.netns().context("the seed has a netns")?;
    netns::inside(netns, || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(work())
    })
}
