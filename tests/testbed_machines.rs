//! The machines of the testbed themselves: they boot from user data, reach each other and nothing
//! else, keep their disks, and leave nothing behind.
#[path = "testbed/mod.rs"]
mod testbed;

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use testbed::{
    StateDir,
    machine::Machine,
    network::Network,
    rootfs::{self, Software},
};

const BOOT: Duration = Duration::from_secs(180);

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, last)
}

#[test]
fn machines_boot_from_user_data_and_leave_nothing_behind() -> Result<()> {
    let rootfs = rootfs::prepare(&Software::built()?)?;
    let state = StateDir::for_test("machines")?;
    let network = Network::create(&state)?;
    let mut machines = Vec::new();
    for number in 1..=2_u8 {
        let user_data = format!(
            "#cloud-config\nwrite_files:\n- path: /etc/proof\n  permissions: '0600'\n  \
             content: machine {number}\nruncmd:\n- [touch, /etc/ran]\n"
        );
        let name = format!("m-{number}");
        let address = address(10 + number);
        machines.push(Machine::create(
            &state,
            &network,
            &rootfs,
            &name,
            address,
            user_data.as_bytes(),
        )?);
    }
    let begin = std::time::Instant::now();
    for machine in &machines {
        machine.boot()?;
    }
    for machine in &machines {
        machine.wait_booted(BOOT)?;
        eprintln!("{} booted after {:?}", machine.name(), begin.elapsed());
    }
    ensure!(
        machines[0].exec(&["cat", "/etc/proof"])? == "machine 1",
        "user data was not applied"
    );
    machines[0].exec(&["test", "-e", "/etc/ran"])?;
    machines[0].exec(&["ping", "-c1", "-W5", "198.18.0.12"])?;
    Ok(())
}
