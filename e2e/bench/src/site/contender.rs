//! Who is compared: what each is told, as files and a script that starts it or changes its servers. Pure but for
//! [`Contender::write`] and [`Contender::prepare`].

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use super::net;
use super::web::Pod;
use crate::record::OURS;

mod proxy;
mod table;

/// Ours and the rivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// Our agent with NAT.
    Ours,
    /// Our agent with direct return.
    OursDr,
    /// Our agent with a tunnel (IPIP).
    OursTun,
    /// `ipvsadm` by hand, for an address.
    Ipvsadm,
    /// `ipvsadm` by hand, for a mark that iptables sets, as in the papers.
    IpvsadmMark,
    /// IPVS that keepalived made.
    Keepalived,
    /// iptables alone, with a rule a server.
    Dnat,
    /// nginx for TCP.
    NginxStream,
    /// nginx for HTTP, with connections kept to the servers.
    NginxHttp,
    /// haproxy for TCP.
    Haproxy,
}

/// What a balancer has.
pub struct Setup {
    /// A folder of its own.
    pub folder: PathBuf,
    /// Its address.
    pub address: String,
    /// Our agent's program.
    pub agent: PathBuf,
}

/// A file's name and its content.
type File = (&'static str, String);

impl Contender {
    /// Its name in the values.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => OURS,
            Self::OursDr => "ours-dr",
            Self::OursTun => "ours-tun",
            Self::Ipvsadm => "ipvsadm",
            Self::IpvsadmMark => "ipvsadm-fwmark",
            Self::Keepalived => "keepalived",
            Self::Dnat => "iptables-dnat",
            Self::NginxStream => "nginx-stream",
            Self::NginxHttp => "nginx-http",
            Self::Haproxy => "haproxy-tcp",
        }
    }

    /// What the client asks: the balancer's own address, or one that its servers have too.
    #[must_use]
    pub fn asked(self, own: &str) -> String {
        match self {
            Self::OursDr => net::shared(0),
            Self::OursTun => net::shared(1),
            _ => own.to_owned(),
        }
    }

    /// Whether it takes about as long as the kernel's other ways of NAT do, so that only many rounds tell them apart.
    #[must_use]
    pub fn is_close(self) -> bool {
        matches!(
            self,
            Self::Ours | Self::Ipvsadm | Self::IpvsadmMark | Self::Keepalived | Self::Dnat
        )
    }

    /// The mode of `lb-agent backend`, if servers need their half.
    fn mode(self) -> Option<&'static str> {
        match self {
            Self::OursDr => Some("DR"),
            Self::OursTun => Some("IPIP"),
            _ => None,
        }
    }

    /// Prepares a pod.
    pub fn prepare(self, pod: &Pod, agent: &Path) -> Result<()> {
        let Some(mode) = self.mode() else {
            return Ok(());
        };
        let mut command = pod.command(agent);
        command.args(["backend", "--mode", mode, "--vip", &self.asked("")]);
        let output = command.env("NO_COLOR", "1").output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "lb-agent backend --mode {mode}: {said}");
        Ok(())
    }

    /// Commands that end when its kernel lists so many servers, if they are in IPVS.
    #[must_use]
    pub fn until_listed(self, servers: usize) -> String {
        match self {
            Self::Ours
            | Self::OursDr
            | Self::OursTun
            | Self::Ipvsadm
            | Self::IpvsadmMark
            | Self::Keepalived => {
                format!(
                    "end=$(($(date +%s) + 30))\n\
                     while [ \"$(grep -c -- '-> [0-9A-F]*:' /proc/net/ip_vs)\" -lt {servers} ]; do\n\
                     [ \"$(date +%s)\" -lt $end ]\nsleep 0.2\ndone\n"
                )
            }
            Self::Dnat | Self::NginxStream | Self::NginxHttp | Self::Haproxy => String::new(),
        }
    }

    /// Writes its files, and a script that makes it balance over these servers.
    pub fn write(self, setup: &Setup, servers: &[&str]) -> Result<PathBuf> {
        for (name, text) in self.files(setup, servers) {
            fs::write(setup.folder.join(name), text)?;
        }
        let script = setup.folder.join("balance.sh");
        fs::write(&script, self.script(setup))?;
        Ok(script)
    }

    fn files(self, setup: &Setup, servers: &[&str]) -> Vec<File> {
        let Setup { address, folder, .. } = setup;
        match self {
            Self::Ours => vec![("plb.yaml", table::object("", servers))],
            Self::OursDr => {
                let more = format!(
                    "  forwarding: {{type: DR}}\n  exposure: {{type: VirtualIP, virtualIP: {{addresses: [{}]}}}}\n",
                    self.asked(address)
                );
                vec![("plb.yaml", table::object(&more, servers))]
            }
            Self::OursTun => {
                let more = format!(
                    "  forwarding: {{type: TUN, tunnel: {{type: IPIP}}}}\n  \
                     exposure: {{type: VirtualIP, virtualIP: {{addresses: [{}]}}}}\n",
                    self.asked(address)
                );
                vec![("plb.yaml", table::object(&more, servers))]
            }
            Self::Ipvsadm => vec![
                ("ipvs", table::ipvs(&format!("-t {address}:80"), servers)),
                ("rules", table::masquerade("")),
            ],
            Self::IpvsadmMark => vec![
                ("ipvs", table::ipvs("-f 1", servers)),
                ("rules", table::masquerade(&table::mark(address))),
            ],
            Self::Keepalived => vec![
                ("keepalived.conf", table::keepalived(address, servers)),
                ("rules", table::masquerade("")),
            ],
            Self::Dnat => vec![("rules", table::dnat(address, servers))],
            Self::NginxStream => vec![("nginx.conf", proxy::nginx_stream(folder, servers))],
            Self::NginxHttp => vec![("nginx.conf", proxy::nginx_http(folder, servers))],
            Self::Haproxy => vec![("haproxy.cfg", proxy::haproxy(servers))],
        }
    }

    /// Starts it, or lets it change. Forwarding is on for all who need it.
    fn script(self, setup: &Setup) -> String {
        const FORWARD: &str = "echo 1 >/proc/sys/net/ipv4/ip_forward\n";
        const IPVS: &str = "modprobe ip_vs\necho 1 >/proc/sys/net/ipv4/vs/conntrack\n";
        const RULES: &str = "iptables-legacy-restore <rules\n";
        let start = match self {
            Self::Ours | Self::OursDr | Self::OursTun => {
                let agent = setup.agent.display();
                format!(
                    "if [ ! -e started ]; then NO_COLOR=1 {agent} serve --file plb.yaml >agent.log 2>&1 & fi\n\
                     :>started\n"
                )
            }
            Self::Ipvsadm | Self::IpvsadmMark => {
                format!("{FORWARD}{IPVS}ipvsadm -C\nipvsadm -R <ipvs\n{RULES}")
            }
            Self::Keepalived => format!(
                "{FORWARD}{IPVS}{RULES}if [ -e started ]; then kill -HUP $(cat keepalived.pid); else\n\
                 keepalived --check -f $PWD/keepalived.conf -p $PWD/keepalived.pid -c $PWD/checkers.pid\n\
                 fi\n:>started\n"
            ),
            Self::Dnat => format!("{FORWARD}{RULES}"),
            Self::NginxStream | Self::NginxHttp => {
                "if [ -e started ]; then kill -HUP $(cat pid); else nginx -c $PWD/nginx.conf; fi\n:>started\n"
                    .to_owned()
            }
            Self::Haproxy => {
                "old=$(cat pid 2>/dev/null || :)\nhaproxy -D -f haproxy.cfg -p pid ${old:+-sf $old}\n"
                    .to_owned()
            }
        };
        format!("cd {}\n{start}", setup.folder.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_needs_a_shared_address_is_asked_at_it() {
        assert_eq!(Contender::Ours.asked("10.97.0.101"), "10.97.0.101");
        assert_eq!(Contender::OursDr.asked("10.97.0.101"), net::shared(0));
        assert_ne!(Contender::OursDr.asked(""), Contender::OursTun.asked(""));
    }

    #[test]
    fn our_agent_takes_its_files() {
        let setup = Setup {
            folder: PathBuf::new(),
            address: "10.97.0.101".to_owned(),
            agent: PathBuf::new(),
        };
        for contender in [Contender::Ours, Contender::OursDr, Contender::OursTun] {
            for (_, text) in contender.files(&setup, &["10.97.0.11"]) {
                lb_agent::file::parse(&text).unwrap();
            }
        }
    }
}
