use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use proptest::prelude::*;

use super::{Candidate, Decision, Observed, Timings, TimingsError, decide};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn wall() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn decisions() {
    let observed = |holder, free_at, leading_until: Option<u64>| Observed {
        holder,
        free_at: seconds(free_at),
        leading_until: leading_until.map(seconds),
    };
    let lost = |decision| matches!(decision, Decision::Yield(_));
    let at = |observed: Observed<'_>, now| decide(&observed, seconds(now), "me");

    assert_eq!(at(observed(None, 0, None), 5), Decision::Acquire);
    assert_eq!(
        at(observed(None, 9, None), 5),
        Decision::Wait(seconds(4)),
        "deleted by hand"
    );
    assert_eq!(
        at(observed(Some("you"), 9, None), 5),
        Decision::Wait(seconds(4))
    );
    assert_eq!(
        at(observed(Some("you"), 9, None), 9),
        Decision::Acquire,
        "expired"
    );
    assert_eq!(
        at(observed(Some("me"), 9, None), 5),
        Decision::Acquire,
        "our lost answer"
    );
    assert_eq!(at(observed(Some("me"), 9, Some(7)), 5), Decision::Renew);
    assert_eq!(at(observed(None, 9, Some(7)), 5), Decision::Renew);
    assert!(lost(at(observed(Some("me"), 9, Some(7)), 7)), "late");
    assert!(lost(at(observed(Some("you"), 9, Some(7)), 5)), "taken over");
}

#[test]
fn the_record_is_that_of_client_go() {
    let mut first = Candidate::new("a", Timings::default());
    first.observe(None, SECOND);
    let lease = first.desired("seedbed", wall());
    assert_eq!(lease.metadata.name.as_deref(), Some("seedbed"));
    let spec = lease.spec.clone().unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some("a"));
    assert_eq!(spec.lease_duration_seconds, Some(15));
    assert_eq!(spec.lease_transitions, Some(0));

    first.won(lease, SECOND);
    assert_eq!(first.leading_until(), Some(seconds(11)));
    let renewed = first.desired("seedbed", wall());
    assert_eq!(renewed.spec.unwrap().lease_transitions, Some(0));
    let released = first.released(wall());
    assert_eq!(first.leading_until(), None);
    assert_eq!(
        released.spec.as_ref().unwrap().holder_identity.as_deref(),
        Some("")
    );

    let mut second = Candidate::new("b", Timings::default());
    second.observe(Some(released), SECOND);
    assert_eq!(
        second.decide(SECOND),
        Decision::Acquire,
        "released means free at once"
    );
    let taken = second.desired("seedbed", wall()).spec.unwrap();
    assert_eq!(taken.lease_transitions, Some(1));
}

#[test]
fn only_the_record_itself_prolongs_a_term() {
    let mut holder = Candidate::new("a", Timings::default());
    let mut lease = holder.desired("seedbed", wall());
    holder.won(lease.clone(), Duration::ZERO);
    let mut other = Candidate::new("b", Timings::default());
    other.observe(Some(lease.clone()), seconds(1));
    assert_eq!(other.decide(seconds(2)), Decision::Wait(seconds(14)));
    lease.metadata.labels = Some([("touched".to_owned(), "yes".to_owned())].into());
    other.observe(Some(lease.clone()), seconds(10));
    assert_eq!(other.decide(seconds(16)), Decision::Acquire);

    other.observe(None, seconds(16));
    assert_eq!(
        other.decide(seconds(30)),
        Decision::Wait(seconds(1)),
        "its holder may still run"
    );
    assert_eq!(other.decide(seconds(31)), Decision::Acquire);
}

#[test]
fn a_malformed_duration_counts_as_ours() {
    for malformed in [None, Some(0), Some(-3)] {
        let mut lease = Candidate::new("a", Timings::default()).desired("seedbed", wall());
        lease.spec.as_mut().unwrap().lease_duration_seconds = malformed;
        let mut other = Candidate::new("b", Timings::default());
        other.observe(Some(lease), Duration::ZERO);
        assert_eq!(other.decide(SECOND), Decision::Wait(seconds(14)));
    }
}

#[test]
fn unsafe_timings_are_refused() {
    let good = Timings::default();
    assert_eq!(good.validated(), Ok(good));
    let bad = Timings {
        renew_deadline: good.lease_duration,
        ..good
    };
    assert!(matches!(
        bad.validated(),
        Err(TimingsError::DeadlineTooLong(..))
    ));
}

/// What happens next in a simulated history. Candidates act in any order, each action may be
/// delayed for any time, and answers may get lost.
#[derive(Clone, Debug)]
enum Event {
    Read(usize),
    /// Decides and, if that says so, sends a write; the server handles it after `Deliver`.
    Send(usize),
    Deliver(usize, Answer),
    Release(usize),
    Pass(u64),
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Arrives,
    GetsLost,
}

fn event() -> impl Strategy<Value = Event> {
    let who = 0..3_usize;
    prop_oneof![
        4 => who.clone().prop_map(Event::Read),
        4 => who.clone().prop_map(Event::Send),
        4 => who.clone().prop_map(|who| Event::Deliver(who, Answer::Arrives)),
        1 => who.clone().prop_map(|who| Event::Deliver(who, Answer::GetsLost)),
        1 => who.prop_map(Event::Release),
        6 => (1..9_000_u64).prop_map(Event::Pass),
    ]
}

/// The API server: one object, compare-and-swap by version.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn write(&mut self, mut lease: Lease) -> Option<Lease> {
        let current = self.lease.as_ref();
        if lease.metadata.resource_version
            != current.and_then(|lease| lease.metadata.resource_version.clone())
        {
            return None;
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Some(lease)
    }
}

struct Process {
    candidate: Candidate,
    /// Its monotonic clock began at another time, and runs this much too fast, in per mille.
    origin: Duration,
    skew: u32,
    in_flight: Option<(Lease, Duration)>,
}

impl Process {
    fn now(&self, true_time: Duration) -> Duration {
        self.origin + true_time * (1000 + self.skew) / 1000
    }

    fn leads(&self, true_time: Duration) -> bool {
        self.candidate
            .leading_until()
            .is_some_and(|until| self.now(true_time) < until)
    }
}

fn step(event: &Event, processes: &mut [Process], server: &mut Server, time: &mut Duration) {
    match *event {
        Event::Pass(millis) => *time += Duration::from_millis(millis),
        Event::Read(who) => {
            let now = processes[who].now(*time);
            processes[who].candidate.observe(server.lease.clone(), now);
        }
        Event::Send(who) => {
            let process = &mut processes[who];
            let now = process.now(*time);
            match process.candidate.decide(now) {
                Decision::Acquire | Decision::Renew => {
                    let wall = wall() + jiff::SignedDuration::try_from(*time).unwrap();
                    let desired = process.candidate.desired("seedbed", wall);
                    process.in_flight = Some((desired, now));
                }
                Decision::Wait(_) => {}
                Decision::Yield(_) => restart(process),
            }
        }
        Event::Deliver(who, answer) => {
            if let Some((lease, sent_at)) = processes[who].in_flight.take() {
                let written = server.write(lease);
                if let (Some(lease), Answer::Arrives) = (written, answer) {
                    processes[who].candidate.won(lease, sent_at);
                }
            }
        }
        Event::Release(who) => {
            let process = &mut processes[who];
            if process.leads(*time) {
                let released = process.candidate.released(wall());
                server.write(released);
                restart(process);
            }
        }
    }
}

/// A process that lost or gave up leadership ends; its successor has another identity.
fn restart(process: &mut Process) {
    let name = format!("{}+", process.candidate.identity());
    process.candidate = Candidate::new(&name, process.candidate.timings());
    process.in_flight = None;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    /// However reads, writes, delays, lost answers and releases fall, and with clocks that differ
    /// by up to 10 %, there are never two leaders.
    #[test]
    fn never_two_leaders(
        events in prop::collection::vec(event(), 1..120),
        skews in prop::array::uniform3(0..100_u32),
        origins in prop::array::uniform3(0..1_000_u64),
    ) {
        let mut server = Server::default();
        let mut time = Duration::ZERO;
        let mut processes: Vec<Process> = (0..3)
            .map(|n| Process {
                candidate: Candidate::new(&format!("p{n}"), Timings::default()),
                origin: seconds(origins[n]),
                skew: skews[n],
                in_flight: None,
            })
            .collect();
        for event in &events {
            step(event, &mut processes, &mut server, &mut time);
            let leaders = processes.iter().filter(|process| process.leads(time)).count();
            prop_assert!(leaders <= 1, "{leaders} leaders after {event:?} at {time:?}");
        }
    }

    /// From any history, a candidate left alone leads in the end.
    #[test]
    fn a_candidate_left_alone_leads(events in prop::collection::vec(event(), 1..80)) {
        let mut server = Server::default();
        let mut time = Duration::ZERO;
        let mut processes: Vec<Process> = (0..3)
            .map(|n| Process {
                candidate: Candidate::new(&format!("p{n}"), Timings::default()),
                origin: Duration::ZERO,
                skew: 0,
                in_flight: None,
            })
            .collect();
        for event in &events {
            step(event, &mut processes, &mut server, &mut time);
        }
        for _ in 0..12 {
            step(&Event::Read(0), &mut processes, &mut server, &mut time);
            step(&Event::Send(0), &mut processes, &mut server, &mut time);
            step(&Event::Deliver(0, Answer::Arrives), &mut processes, &mut server, &mut time);
            step(&Event::Pass(2_000), &mut processes, &mut server, &mut time);
        }
        prop_assert!(processes[0].leads(time));
    }
}
