//! Machines may boot in any order and late: the founding was complete before the first of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::cluster::{Cluster, soon};
use crate::site::{self, MACHINES_LIMIT, Site, soak, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{condition_of, wait};
use crate::{converged, etcd};

/// Between two machines that boot one after the other.
const GAP: Duration = Duration::from_secs(4);
const LATE: Duration = Duration::from_secs(60);

/// The order in which machines are switched on, by index, and which of them is late.
struct Order {
    name: &'static str,
    machines: [usize; 3],
    /// Index into `machines`: 2 is late behind a quorum, 1 keeps the first one waiting for it.
    late: Option<usize>,
}

const fn order(name: &'static str, machines: [usize; 3], late: Option<usize>) -> Order {
    Order {
        name,
        machines,
        late,
    }
}

#[test]
fn machines_may_boot_in_any_order_and_late() {
    site::run(|site| {
        // Each machine is first once and last once.
        let mut orders = vec![
            order("order-312", [2, 0, 1], Some(2)),
            order("order-231", [1, 2, 0], None),
        ];
        if soak() {
            orders.extend([
                order("order-123", [0, 1, 2], Some(1)),
                order("order-132", [0, 2, 1], Some(2)),
                order("order-213", [1, 0, 2], Some(1)),
                order("order-321", [2, 1, 0], Some(2)),
                order("order-231-late", [1, 2, 0], Some(1)),
            ]);
        }
        orders.iter().try_for_each(|order| boot_in(site, order))
    });
}

fn boot_in(site: &Site, order: &Order) -> Result<()> {
    site.clear()?;
    let operator = site.stage.operator("seedbed-0")?;
    let cluster = site.apply(order.name)?;
    let machines = cluster.machines()?;
    let began = Instant::now();
    let mut listed = None;
    for (place, index) in order.machines.into_iter().enumerate() {
        if order.late == Some(place) {
            let booted: Vec<_> = order.machines[..place]
                .iter()
                .map(|index| Arc::clone(&machines[*index]))
                .collect();
            listed = while_one_is_late(&cluster, &booted, began)?;
        } else if place > 0 {
            // Real time passes between two people who press two buttons.
            std::thread::sleep(GAP);
        }
        machines[index].boot()?;
    }
    cluster.wait_ready()?;
    soon(|| etcd::check_three_voters(&cluster, &machines).map(drop))?;
    if let Some(listed) = listed {
        let now = etcd::listed(&machines[0])?;
        ensure!(now == listed, "members were {listed:?} and are {now:?}");
    }
    converged::settle(&cluster, &operator)?;
    let removed = cluster.seed_writes()?;
    ensure!(
        !removed.iter().any(|write| write.verb.starts_with("delete")),
        "{removed:#?}"
    );
    tell(
        order.name,
        &format!(
            "Ready {:.1} s after the first",
            began.elapsed().as_secs_f64()
        ),
    );
    operator.process().stop()
}

/// Until 60 s have passed: the control plane is never Ready; with two machines it has a quorum and
/// serves. Returns the members as etcd lists them, the one that has not started included.
fn while_one_is_late(
    cluster: &Cluster<'_>,
    booted: &[Arc<Machine>],
    began: Instant,
) -> Result<Option<Vec<(String, String)>>> {
    while began.elapsed() < LATE {
        let object = cluster.site.stage.get("controlplane", &cluster.name)?;
        if condition_of(&object, "Ready") == Some("True") {
            bail!("Ready without all machines: {:#}", object["status"]);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    if booted.len() < 2 {
        return Ok(None);
    }
    wait(MACHINES_LIMIT, || {
        let object = cluster.site.stage.get("controlplane", &cluster.name)?;
        let serves = condition_of(&object, "Available") == Some("True");
        ensure!(serves, "two of three do not serve: {:#}", object["status"]);
        Ok(())
    })?;
    let listed = etcd::listed(&booted[0])?;
    ensure!(listed.len() == 3, "a member was removed: {listed:?}");
    Ok(Some(listed))
}
