//! The commands of the program `lab`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

use super::cluster::{Backend, Cluster, Ipvs, Node};
use super::kubectl::{api_is_ready, wait_for};
use super::node::Remains;
use super::paths::{Paths, images};
use super::queue::Request;
use super::service::ServiceFolder;
use super::up::Wish;
use super::{control_plane, demo, down, flannel, guest, machine, node, session, status, supervisor, up};

const PATIENCE: Duration = Duration::from_mins(2);

/// A Kubernetes cluster on this machine, for trying and testing.
#[derive(Debug, Parser)]
#[command(name = "lab", version)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the lab, or mend it.
    Up {
        /// How many nodes at least; a new lab has 3.
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..=99))]
        nodes: Option<u8>,
        /// The pod network; a new lab uses vxlan.
        #[arg(long)]
        flannel: Option<Backend>,
    },
    /// Stop the lab and remove it, except for its logs.
    Down,
    /// Tell how the lab is.
    Status,
    /// Change the pod network of the running lab.
    Flannel {
        /// The new backend.
        backend: Backend,
    },
    /// Give image archives to all nodes; without names, those of `make images`.
    Load {
        /// OCI or Docker archives.
        archives: Vec<PathBuf>,
    },
    /// Start, stop or look into single nodes.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Stop or start the API server.
    #[command(subcommand)]
    Apiserver(ApiserverCommand),
    /// Install the chart, apply an example and send requests through it.
    Demo,
    /// Open a shell with kubectl and helm, outside the cluster but in its network.
    Shell,
    /// Run kubectl.
    Kubectl(External),
    /// Run helm.
    Helm(External),
    /// Run any command as `shell` would.
    Exec(External),
    /// Keep the services of a folder running (used by the lab itself).
    #[command(hide = true)]
    Supervise {
        #[arg(long)]
        folder: PathBuf,
    },
    /// Turn this machine into a node (used by the lab itself).
    #[command(hide = true)]
    Agent {
        #[arg(long)]
        state: PathBuf,
        #[arg(long)]
        node: Node,
    },
}

#[derive(Debug, Subcommand)]
enum NodeCommand {
    /// Start a node, new or stopped before.
    Start {
        /// node1 to node99
        name: Node,
        /// Give it a kernel that cannot load IPVS.
        #[arg(long)]
        without_ipvs: bool,
    },
    /// End a node's machine at once, as if its plug were pulled.
    Stop {
        /// node1 to node99
        name: Node,
        /// Delete its Node object too.
        #[arg(long)]
        delete: bool,
    },
    /// Run a command on a node.
    Exec {
        /// node1 to node99
        name: Node,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum ApiserverCommand {
    /// End it, with controllers and scheduler, and keep them from being started again.
    Stop,
    /// Start it again, wait until it is ready, and start the others.
    Start,
}

#[derive(Debug, clap::Args)]
struct External {
    /// Arguments, handed on as they are.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Command {
    fn changes_the_lab(&self) -> bool {
        let node = |command: &NodeCommand| !matches!(command, NodeCommand::Exec { .. });
        match self {
            Self::Up { .. } | Self::Down | Self::Flannel { .. } | Self::Apiserver(_) => true,
            Self::Node(command) => node(command),
            _ => false,
        }
    }
}

/// Runs one command.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Supervise { folder } => supervisor::run(ServiceFolder::new(folder)),
        Command::Agent { state, node } => guest::run(Paths::new(state), node),
        command => run_in(&Paths::of_checkout()?, command),
    }
}

fn run_in(paths: &Paths, command: Command) -> Result<()> {
    let _lock = if command.changes_the_lab() {
        Some(paths.lock()?)
    } else {
        None
    };
    match command {
        Command::Up { nodes, flannel } => up::up(paths, Wish { nodes, flannel }),
        Command::Down => down::down(paths),
        Command::Status => status::print(paths),
        Command::Flannel { backend } => {
            session::enter()?;
            flannel::change(paths, backend)
        }
        Command::Load { archives } => load(paths, archives),
        Command::Node(command) => run_node(paths, command),
        Command::Apiserver(command) => run_apiserver(paths, command),
        Command::Demo => demo::run(paths),
        Command::Shell => session::become_shell(paths),
        Command::Kubectl(external) => session::become_command(paths, "kubectl", &external.arguments),
        Command::Helm(external) => session::become_command(paths, "helm", &external.arguments),
        Command::Exec(external) => match external.arguments.split_first() {
            Some((program, arguments)) => {
                session::become_command(paths, &program.to_string_lossy(), arguments)
            }
            None => bail!("which command?"),
        },
        Command::Supervise { .. } | Command::Agent { .. } => Ok(()),
    }
}

/// Gives archives to all nodes and waits until they have them.
pub fn load(paths: &Paths, archives: Vec<PathBuf>) -> Result<()> {
    let archives = if archives.is_empty() { images() } else { archives };
    let aliases: Vec<Alias> = archives
        .iter()
        .map(|archive| Alias::of(archive))
        .collect::<Result<_>>()?;
    let request = Request::Import(aliases.iter().map(|alias| alias.0.clone()).collect());
    machine::ask_all(paths, &Cluster::running(paths)?.nodes, &request)
}

/// Another name of a file, for as long as it is needed. Machines remember what was in a file that they have read, even
/// when another file has taken its name.
struct Alias(PathBuf);

impl Alias {
    fn of(file: &Path) -> Result<Self> {
        let file = file
            .canonicalize()
            .with_context(|| format!("no archive {}", file.display()))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let alias = file.with_file_name(format!(".{}-{name}", now.as_nanos()));
        fs::hard_link(&file, &alias).with_context(|| format!("could not make {}", alias.display()))?;
        Ok(Self(alias))
    }
}

impl Drop for Alias {
    fn drop(&mut self) {
        // What is left is a second name, and costs nothing.
        let _ = fs::remove_file(&self.0);
    }
}

fn run_node(paths: &Paths, command: NodeCommand) -> Result<()> {
    session::enter()?;
    match command {
        NodeCommand::Start {
            mut name,
            without_ipvs,
        } => {
            if without_ipvs {
                name.ipvs = Ipvs::Missing;
            }
            node::start(paths, name)
        }
        NodeCommand::Stop { name, delete } => {
            node::stop(paths, name, if delete { Remains::Delete } else { Remains::Keep })
        }
        NodeCommand::Exec { name, command } => {
            let answer = machine::queue(paths, name)
                .ask(&Request::Run(command))?
                .wait(PATIENCE)?;
            print!("{}", answer.output);
            eprint!("{}", answer.error);
            if answer.code != 0 {
                bail!("exit code {}", answer.code);
            }
            Ok(())
        }
    }
}

/// Controllers and scheduler go and come with the API server, as they do where an election makes the leader: who can't
/// renew its lease ends. Left running, the controllers would blame the nodes for the time in which nobody heard of them.
fn run_apiserver(paths: &Paths, command: ApiserverCommand) -> Result<()> {
    session::enter()?;
    let api_server = control_plane::api_server(paths);
    let leaders = control_plane::leaders(paths);
    let services = paths.services();
    match command {
        ApiserverCommand::Stop => {
            let ending: Vec<&str> = leaders
                .iter()
                .chain([&api_server])
                .map(|it| it.name.as_str())
                .collect();
            ending.iter().try_for_each(|name| services.remove(name))?;
            wait_for("the API server ends", PATIENCE, || {
                match ending.iter().find(|name| services.state(name).is_some()) {
                    Some(name) => bail!("the supervisor still has {name}"),
                    None => Ok(()),
                }
            })
        }
        ApiserverCommand::Start => {
            services.put(&api_server)?;
            wait_for("the API server is ready", PATIENCE, || api_is_ready(paths))?;
            leaders.iter().try_for_each(|service| services.put(service))
        }
    }
}
