//! The rivals that run in pods: what makes each of them send requests on to given servers.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The port that all contenders but kube-proxy answer on.
pub const PORT: u16 = 80;
/// The port of the web servers.
pub const SERVER_PORT: u16 = 8080;

/// A rival in a pod of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// An IPVS table and rules, as one would type them.
    Ipvsadm,
    /// An IPVS table made by keepalived, which checks the servers too; and the same rules.
    Keepalived,
    /// Rules that choose by `statistic` and rewrite the address.
    Dnat,
    /// A proxy of connections.
    NginxStream,
    /// A proxy of requests, which keeps connections to servers.
    NginxHttp,
    /// A proxy of connections.
    Haproxy,
}

impl Rival {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Ipvsadm,
        Self::Dnat,
        Self::Keepalived,
        Self::NginxStream,
        Self::NginxHttp,
        Self::Haproxy,
    ];

    /// The name of its pod and in the values.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipvsadm => "ipvsadm",
            Self::Keepalived => "keepalived",
            Self::Dnat => "dnat",
            Self::NginxStream => "nginx-stream",
            Self::NginxHttp => "nginx-http",
            Self::Haproxy => "haproxy",
        }
    }

    /// Whether it is a program that passes on what it reads, and not the kernel.
    #[must_use]
    pub fn is_proxy(self) -> bool {
        matches!(self, Self::NginxStream | Self::NginxHttp | Self::Haproxy)
    }

    /// A shell script that makes it balance to just these servers, whatever it did before.
    #[must_use]
    pub fn script(self, servers: &[Ipv4Addr]) -> String {
        match self {
            Self::Ipvsadm => ipvsadm(servers),
            Self::Dnat => dnat(servers),
            Self::Keepalived => {
                let rules = marked();
                let program = restart(&keepalived(servers), KEEPALIVED);
                format!("{IPVS}{rules}{program}")
            }
            Self::NginxStream => restart(&nginx_stream(servers), NGINX),
            Self::NginxHttp => restart(&nginx_http(servers), NGINX),
            Self::Haproxy => restart(&haproxy(servers), "haproxy -db -f $config"),
        }
    }
}

/// What a rival's pod does all its life: runs the program of `/tmp/program`, and again each time it ends.
pub const LIFE: &str = "while :; do if [ -f /tmp/program ]; then sh /tmp/program; fi; sleep 0.1; done";

const NGINX: &str = "nginx -p /tmp -e /tmp/error.log -c $config";

const KEEPALIVED: &str =
    "keepalived --dont-fork --check --pid=/tmp/parent.pid --checkers_pid=/tmp/checkers.pid -f $config";

/// A shell script that makes a pod a web server that answers with the pod's own address, at most so often a second:
/// more than that has to wait, as it has for a pod whose share of a processor is used up.
#[must_use]
pub fn server(address: Ipv4Addr, limit: Option<u32>) -> String {
    let (zone, limit) = limit.map_or_else(Default::default, |rate| {
        let delay = (rate / 20).max(1);
        (
            format!("limit_req_zone $server_port zone=pod:32k rate={rate}r/s;"),
            format!("limit_req zone=pod burst=10000 delay={delay};"),
        )
    });
    // `return` comes before any limit, so the answer is a file.
    let http = format!(
        "{NGINX_HEAD}http {{\n{NGINX_HTTP}{zone}\nopen_file_cache max=4; open_file_cache_valid 1h; root /tmp/www;\n\
         server {{ listen {SERVER_PORT}; location / {{ {limit} try_files /ip =404; }} }}\n}}\n"
    );
    format!(
        "mkdir -p /tmp/www\necho {address} >/tmp/www/ip\n{}",
        restart(&http, NGINX)
    )
}

/// Writes a configuration, and ends the program, which then starts again with it.
fn restart(configuration: &str, command: &str) -> String {
    format!(
        "config=/tmp/config\ncat >$config <<'END'\n{configuration}END\n\
         echo \"echo \\$\\$ >/tmp/pid; exec {command}\" >/tmp/program\n\
         if [ -f /tmp/pid ]; then kill $(cat /tmp/pid) || true; fi\n"
    )
}

/// Opening the family loads the module, which brings the settings.
const IPVS: &str = "ipvsadm -C
echo 1 >/proc/sys/net/ipv4/ip_forward
for it in conntrack expire_nodest_conn; do echo 1 >/proc/sys/net/ipv4/vs/$it; done
";

/// Rules that mark what is to be balanced, and bring answers back through here.
fn marked() -> String {
    format!(
        "iptables-legacy-restore <<'END'\n*mangle\n-A PREROUTING -p tcp --dport {PORT} -j MARK --set-mark 1\nCOMMIT\n\
         *nat\n-A POSTROUTING -m mark --mark 1 -j MASQUERADE\nCOMMIT\nEND\n"
    )
}

fn ipvsadm(servers: &[Ipv4Addr]) -> String {
    let mut script = format!("{IPVS}{}ipvsadm -A -f 1 -s rr\n", marked());
    for server in servers {
        let _ = writeln!(script, "ipvsadm -a -f 1 -r {server}:{SERVER_PORT} -m");
    }
    script
}

/// Each in turn: of those that are left every nth connection goes to the next server.
fn dnat(servers: &[Ipv4Addr]) -> String {
    let mut rules = format!("*nat\n:BALANCE - [0:0]\n-A PREROUTING -p tcp --dport {PORT} -j BALANCE\n");
    for (server, left) in servers.iter().zip((1..=servers.len()).rev()) {
        let turn = if left > 1 {
            format!("-m statistic --mode nth --every {left} --packet 0 ")
        } else {
            String::new()
        };
        let _ = writeln!(
            rules,
            "-A BALANCE -p tcp {turn}-j DNAT --to-destination {server}:{SERVER_PORT}"
        );
    }
    format!(
        "echo 1 >/proc/sys/net/ipv4/ip_forward\niptables-legacy-restore <<'END'\n{rules}\
         -A POSTROUTING -p tcp --dport {SERVER_PORT} -j MASQUERADE\nCOMMIT\nEND\n"
    )
}

fn keepalived(servers: &[Ipv4Addr]) -> String {
    let mut text =
        "virtual_server fwmark 1 {\n  delay_loop 5\n  lvs_sched rr\n  lvs_method NAT\n  protocol TCP\n"
            .to_owned();
    for server in servers {
        let check = "TCP_CHECK { connect_timeout 2 }";
        let _ = writeln!(
            text,
            "  real_server {server} {SERVER_PORT} {{\n    weight 1\n    {check}\n  }}"
        );
    }
    text + "}\n"
}

/// One worker, as there is one processor.
const NGINX_HEAD: &str = "daemon off; worker_processes 1; pid /tmp/nginx.pid; error_log /tmp/error.log;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events { worker_connections 4096; }
";

const NGINX_HTTP: &str = "access_log off; keepalive_requests 1000000;
client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
";

fn upstream(servers: &[Ipv4Addr], more: &str) -> String {
    let mut text = "upstream web {\n".to_owned();
    for server in servers {
        let _ = writeln!(text, "  server {server}:{SERVER_PORT};");
    }
    text + more + "}\n"
}

fn nginx_stream(servers: &[Ipv4Addr]) -> String {
    let upstream = upstream(servers, "");
    format!("{NGINX_HEAD}stream {{\n{upstream}server {{ listen {PORT}; proxy_pass web; }}\n}}\n")
}

fn nginx_http(servers: &[Ipv4Addr]) -> String {
    let upstream = upstream(servers, "  keepalive 128; keepalive_requests 1000000;\n");
    format!(
        "{NGINX_HEAD}http {{\n{NGINX_HTTP}{upstream}\
         server {{ listen {PORT}; location / {{ proxy_pass http://web; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }} }}\n}}\n"
    )
}

fn haproxy(servers: &[Ipv4Addr]) -> String {
    let mut text = format!(
        "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
         listen web\n  bind :{PORT}\n  balance roundrobin\n"
    );
    for (number, server) in servers.iter().enumerate() {
        let _ = writeln!(text, "  server web{number} {server}:{SERVER_PORT} check inter 5s");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: [Ipv4Addr; 3] = [
        Ipv4Addr::new(10, 244, 1, 5),
        Ipv4Addr::new(10, 244, 2, 7),
        Ipv4Addr::new(10, 244, 1, 6),
    ];

    #[test]
    fn every_rival_is_told_all_servers_and_the_port() {
        for rival in Rival::ALL {
            let script = rival.script(&SERVERS);
            for server in SERVERS {
                assert_eq!(
                    script.matches(&server.to_string()).count(),
                    1,
                    "{}: {script}",
                    rival.name()
                );
            }
            assert!(script.contains("80"), "{script}");
        }
    }

    #[test]
    fn a_server_is_limited_only_if_told() {
        assert!(!server(SERVERS[0], None).contains("limit_req"));
        let script = server(SERVERS[0], Some(400));
        assert!(
            script.contains("rate=400r/s") && script.contains("delay=20;"),
            "{script}"
        );
    }

    #[test]
    fn rules_give_each_server_its_turn() {
        let script = dnat(&SERVERS);
        let every: Vec<&str> = script.lines().filter(|line| line.contains("DNAT")).collect();
        assert!(
            every[0].contains("--every 3") && every[1].contains("--every 2"),
            "{script}"
        );
        assert!(!every[2].contains("--every"), "{script}");
    }
}
