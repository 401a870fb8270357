//! A client, web pods and balancers on one link: the scene in which balancers are loaded.
//!
//! Every balancer has a kernel or a network namespace of its own, is set up before the first value is measured, and
//! rests while another is loaded. So values of one round are seconds apart, and no rule of one is in another's way.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use self::contender::{Contender, Setup};
use self::net::Link;
use self::place::{Machine, Place, Room};
use self::web::Pod;
use crate::scratch::Folder;

pub mod ask;
pub mod contender;
pub mod cpus;
pub mod net;
pub mod place;
pub mod web;

/// Where balancers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Each in a User Mode Linux machine, beside whom client and pods are on this kernel.
    Machines,
    /// Each in a network namespace of this kernel, as client and pods are.
    Namespaces,
}

/// How long a balancer may take until it serves all pods.
const PATIENCE: Duration = Duration::from_secs(40);

/// One of those who are compared.
struct Balancer {
    contender: Contender,
    place: Box<dyn Place>,
    setup: Setup,
}

impl Balancer {
    /// Runs commands where it is.
    fn run(&mut self, commands: &str) -> Result<()> {
        let script = self.setup.folder.join("more.sh");
        std::fs::write(&script, commands)?;
        self.place.run(&script).context(self.contender.name())
    }
}

/// The whole scene; it goes when dropped.
pub struct Site {
    // In the order in which they end.
    balancers: Vec<Balancer>,
    pods: Vec<Pod>,
    link: Link,
    folder: Folder,
}

impl Site {
    /// Makes client, pods and balancers, which serve nothing yet.
    pub fn build(form: Form, contenders: &[Contender], pods: usize) -> Result<Self> {
        Self::with(form, contenders, |link| {
            (0..pods).map(|index| Pod::make(link, index)).collect()
        })
    }

    /// The same with one pod that has as many addresses as if it were so many.
    pub fn crowded(form: Form, contenders: &[Contender], servers: usize) -> Result<Self> {
        let mut site = Self::with(form, contenders, |link| Ok(vec![Pod::crowd(link, servers)?]))?;
        site.everywhere(&format!("ip route add {} via {}\n", net::CROWD, net::pod(0)))?;
        Ok(site)
    }

    fn with(
        form: Form,
        contenders: &[Contender],
        pods: impl FnOnce(&Link) -> Result<Vec<Pod>>,
    ) -> Result<Self> {
        let folder = Folder::create("site")?;
        let link = Link::create()?;
        let mut site = Self {
            balancers: Vec::new(),
            pods: Vec::new(),
            link,
            folder,
        };
        for (index, contender) in contenders.iter().enumerate() {
            site.add(form, index, *contender)?;
        }
        site.pods = pods(&site.link)?;
        for balancer in &mut site.balancers {
            balancer.place.wait().context(balancer.contender.name())?;
            for pod in &site.pods {
                balancer.contender.prepare(pod, &balancer.setup.agent)?;
            }
        }
        Ok(site)
    }

    fn add(&mut self, form: Form, index: usize, contender: Contender) -> Result<()> {
        let folder = self.folder.path().join(contender.name());
        std::fs::create_dir_all(&folder)?;
        let place: Box<dyn Place> = match form {
            Form::Machines => Box::new(Machine::boot(&self.link, &folder, index)?),
            Form::Namespaces => Box::new(Room::make(&self.link, index)?),
        };
        let setup = Setup {
            folder,
            address: net::balancer(index),
            agent: agent()?,
        };
        self.balancers.push(Balancer {
            contender,
            place,
            setup,
        });
        Ok(())
    }

    /// Runs commands where each balancer is.
    pub fn everywhere(&mut self, commands: &str) -> Result<()> {
        let mut all = self.balancers.iter_mut();
        all.try_for_each(|balancer| balancer.run(commands))
    }

    /// Starts the pods' servers anew, each answering at most so many requests a second.
    pub fn serve(&mut self, limit: Option<u32>) -> Result<()> {
        let folder = self.folder.path();
        self.pods.iter_mut().try_for_each(|pod| pod.serve(folder, limit))
    }

    /// Lets every balancer balance over the first servers, and waits until each does. They may only become more.
    pub fn balance(&mut self, servers: usize) -> Result<()> {
        let addresses = self.pods.iter().flat_map(|pod| &pod.addresses);
        let servers: Vec<&str> = addresses.take(servers).map(String::as_str).collect();
        for balancer in &mut self.balancers {
            let name = balancer.contender.name();
            let script = balancer.contender.write(&balancer.setup, &servers)?;
            balancer.place.run(&script).context(name)?;
        }
        if servers.len() > self.pods.len() {
            // Too many to be asked one after the other.
            let mut all = self.balancers.iter_mut();
            return all.try_for_each(|one| one.run(&one.contender.until_listed(servers.len())));
        }
        let wanted: BTreeSet<&str> = servers.into_iter().collect();
        for balancer in &self.balancers {
            let address = balancer.contender.asked(&balancer.setup.address);
            let answered = ask::until_all(&self.link, &address, &wanted, PATIENCE);
            answered.with_context(|| balancer.contender.name())?;
        }
        Ok(())
    }

    /// The contenders in the order of a round: each round begins with another one.
    #[must_use]
    pub fn order(&self, round: u32) -> Vec<Contender> {
        let mut order: Vec<Contender> = self.balancers.iter().map(|one| one.contender).collect();
        let turn = usize::try_from(round).unwrap_or_default() % order.len().max(1);
        order.rotate_left(turn);
        if round % 2 == 1 {
            order.reverse();
        }
        order
    }

    /// What the client asks to reach a contender's pods.
    pub fn address(&self, contender: Contender) -> Result<String> {
        let one = self.find(contender);
        let one = one.with_context(|| format!("{} is not here", contender.name()))?;
        Ok(one.contender.asked(&one.setup.address))
    }

    /// Processor time that a contender's machine has taken; none if it is not a machine of its own.
    #[must_use]
    pub fn processor_time(&self, contender: Contender) -> Option<Duration> {
        let processes = self.processes(contender);
        let times = || processes.iter().copied().flat_map(place::times_of_threads);
        (!processes.is_empty()).then(|| times().sum())
    }

    /// The processes that a contender's machine is to this kernel; none if it is not a machine of its own.
    #[must_use]
    pub fn processes(&self, contender: Contender) -> Vec<u32> {
        self.find(contender)
            .map_or_else(Vec::new, |one| one.place.processes())
    }

    /// The functions of a contender's kernel, as it lists them.
    pub fn symbols(&mut self, contender: Contender) -> Result<String> {
        let mut balancers = self.balancers.iter_mut();
        let one = balancers.find(|one| one.contender == contender);
        let one = one.with_context(|| format!("{} is not here", contender.name()))?;
        let (script, list) = (
            one.setup.folder.join("symbols.sh"),
            one.setup.folder.join("symbols"),
        );
        std::fs::write(&script, format!("cat /proc/kallsyms >{}\n", list.display()))?;
        one.place.run(&script)?;
        Ok(std::fs::read_to_string(list)?)
    }

    fn find(&self, contender: Contender) -> Option<&Balancer> {
        self.balancers.iter().find(|one| one.contender == contender)
    }

    /// The link, with the client at it.
    #[must_use]
    pub fn link(&self) -> &Link {
        &self.link
    }
}

/// The agent's program, which cargo built beside this one.
pub(crate) fn agent() -> Result<std::path::PathBuf> {
    let program = std::env::current_exe()?;
    let agent = program.parent().unwrap_or(Path::new("/")).join("lb-agent");
    anyhow::ensure!(
        agent.exists(),
        "{} is missing: cargo build --release --bin lb-agent",
        agent.display()
    );
    Ok(agent)
}
