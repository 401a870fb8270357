//! The rounds: the same balancer with its packets spread, and with all of them where they come in.

use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context as _, Result, ensure};

use super::FIGURE;
use crate::calm::calmly;
use crate::plan::Plan;
use crate::record::{Record, Records};
use crate::site::contender::Contender;
use crate::site::{Form, Site};
use crate::throughput::wrk;

const PODS: usize = 4;

/// Whether packets are spread.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packets {
    Spread,
    Where,
}

impl Packets {
    const ALL: [Self; 2] = [Self::Spread, Self::Where];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Spread => "rps-all",
            Self::Where => "rps-off",
        }
    }

    /// The mask of processors.
    fn mask(self, processors: usize) -> String {
        match self {
            // The kernel wants groups of 32 bits.
            Self::Spread => format!("{:x}", (1_u64 << processors.min(32)) - 1),
            Self::Where => "0".to_owned(),
        }
    }
}

/// Measures a balancer on the kernel that this program runs on.
pub(super) fn measure(
    setting: &str,
    contender: Contender,
    (plan, rounds): (Plan, u32),
    records: &mut Records,
) -> Result<()> {
    let processors = available_parallelism()?.get();
    if processors < 2 {
        println!("one processor: nothing to spread over");
        return Ok(());
    }
    let mut site = Site::build(Form::Namespaces, &[contender], PODS)?;
    site.serve(None)?;
    site.balance(PODS)?;
    let load = wrk::Load {
        connections: 64,
        seconds: plan.pick(2, 1),
        is_fresh: false,
    };
    for round in 0..rounds {
        let mut order = Packets::ALL;
        order.rotate_left(usize::from(round % 2 == 1));
        for packets in order {
            steer(&packets.mask(processors))?;
            println!("{}", packets.name());
            let answered = calmly(|| wrk::run(&site, contender, load))?;
            records.0.push(Record {
                figure: FIGURE.to_owned(),
                setting: setting.to_owned(),
                contender: packets.name().to_owned(),
                x: f64::from(u32::try_from(processors)?),
                round,
                value: answered.requests,
                unit: "requests/s".to_owned(),
            });
        }
    }
    Ok(())
}

/// Sets where packets are handled that come to the balancer.
fn steer(mask: &str) -> Result<()> {
    // `ip netns exec` mounts the namespace's own /sys, which alone shows its interfaces.
    let path = "/sys/class/net/eth0/queues/rx-0/rps_cpus";
    let set = format!("echo {mask} >{path} && cat {path}");
    let output = Command::new("ip")
        .args(["netns", "exec", "plb-bench-lb0", "sh", "-c", &set])
        .output()
        .context("could not run ip")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "could not set {path}: {said}");
    let number = |text: &str| u64::from_str_radix(&text.trim().replace(',', ""), 16);
    let got = String::from_utf8_lossy(&output.stdout);
    ensure!(
        number(&got)? == number(mask)?,
        "{path} is {got} instead of {mask}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_a_bit_for_each_processor() {
        assert_eq!(
            (Packets::Spread.mask(2), Packets::Where.mask(2)),
            ("3".into(), "0".into())
        );
        assert_eq!(Packets::Spread.mask(64), "ffffffff");
    }
}
