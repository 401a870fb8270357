//! Files for those who balance in the kernel. Pure.

use std::fmt::Write as _;

use crate::slices;

/// Our object and what it names: NAT, unless more is said of its spec.
pub(super) fn object(more: &str, servers: &[&str]) -> String {
    format!(
        "apiVersion: portablelb.io/v1alpha1\nkind: PortableLoadBalancer\nmetadata: {{name: web}}\nspec:\n  \
         backends: {{service: {{name: web}}}}\n  ports: [{{name: http, port: 80}}]\n  \
         scheduler: {{name: rr}}\n{more}{}",
        slices::documents(servers, 80)
    )
}

/// Input of `ipvsadm -R`.
pub(super) fn ipvs(service: &str, servers: &[&str]) -> String {
    let mut text = format!("-A {service} -s rr\n");
    for server in servers {
        let _ = writeln!(text, "-a {service} -r {server}:80 -m -w 1");
    }
    text
}

/// The rule that full NAT needs, and more before it. Input of `iptables-restore`.
pub(super) fn masquerade(more: &str) -> String {
    format!("{more}*nat\n-A POSTROUTING -p tcp -m tcp --dport 80 -j MASQUERADE\nCOMMIT\n")
}

/// Marks what comes to an address.
pub(super) fn mark(address: &str) -> String {
    format!("*mangle\n-A PREROUTING -d {address}/32 -p tcp -m tcp --dport 80 -j MARK --set-mark 1\nCOMMIT\n")
}

/// A rule a server, chosen by chance as kube-proxy does it.
pub(super) fn dnat(address: &str, servers: &[&str]) -> String {
    let mut text = "*nat\n:PLB-DNAT - [0:0]\n".to_owned();
    let _ = writeln!(
        text,
        "-A PREROUTING -d {address}/32 -p tcp -m tcp --dport 80 -j PLB-DNAT"
    );
    for (index, server) in servers.iter().enumerate() {
        let left = servers.len() - index;
        let chance = match left {
            1 => String::new(),
            _ => format!("-m statistic --mode random --probability 0{} ", part(left)),
        };
        let _ = writeln!(
            text,
            "-A PLB-DNAT -p tcp {chance}-j DNAT --to-destination {server}:80"
        );
    }
    text + "-A POSTROUTING -p tcp -m tcp --dport 80 -j MASQUERADE\nCOMMIT\n"
}

/// `1 / count` without its 0: `.33333`.
fn part(count: usize) -> String {
    format!(
        ".{:010}",
        10_000_000_000_u64 / u64::try_from(count).unwrap_or(u64::MAX)
    )
}

/// keepalived with the checks it is used for.
pub(super) fn keepalived(address: &str, servers: &[&str]) -> String {
    let mut text =
        format!("virtual_server {address} 80 {{\n delay_loop 5\n lb_algo rr\n lb_kind NAT\n protocol TCP\n");
    for server in servers {
        let _ = writeln!(
            text,
            " real_server {server} 80 {{\n weight 1\n TCP_CHECK {{ connect_timeout 3 }}\n }}"
        );
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_has_the_same_chance() {
        let text = dnat("10.97.0.101", &["10.97.0.11", "10.97.0.12", "10.97.0.13"]);
        let chances: Vec<&str> = text
            .lines()
            .filter_map(|line| line.split_once("--probability ")?.1.split(' ').next())
            .collect();
        assert_eq!(chances, ["0.3333333333", "0.5000000000"]);
        assert!(
            text.contains("-A PLB-DNAT -p tcp -j DNAT --to-destination 10.97.0.13:80"),
            "{text}"
        );
    }

    #[test]
    fn a_table_names_each_server() {
        let text = ipvs("-f 1", &["10.97.0.11", "10.97.0.12"]);
        assert_eq!(
            text,
            "-A -f 1 -s rr\n-a -f 1 -r 10.97.0.11:80 -m -w 1\n-a -f 1 -r 10.97.0.12:80 -m -w 1\n"
        );
    }
}
