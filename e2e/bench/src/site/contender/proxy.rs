//! Files for those who balance in a process. Pure.
//!
//! A machine has one processor, so each has one worker. All keep clients' connections; nginx for HTTP keeps those to
//! servers too. None writes a log of requests.

use std::fmt::Write as _;
use std::path::Path;

fn nginx_servers(servers: &[&str]) -> String {
    servers.iter().fold(String::new(), |mut text, server| {
        let _ = write!(text, " server {server}:80;");
        text
    })
}

pub(super) fn nginx_stream(folder: &Path, servers: &[&str]) -> String {
    format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n{}\
         stream {{ upstream pods {{{} }}\n server {{ listen 80 backlog=1024; proxy_pass pods; }} }}\n",
        nginx_head(folder),
        nginx_servers(servers)
    )
}

pub(super) fn nginx_http(folder: &Path, servers: &[&str]) -> String {
    format!(
        "{}http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n\
         upstream pods {{{} keepalive 128; keepalive_requests 1000000000; keepalive_timeout 1h; }}\n\
         server {{ listen 80 backlog=1024; location / {{ proxy_pass http://pods; proxy_http_version 1.1; \
         proxy_set_header Connection \"\"; }} }} }}\n",
        nginx_head(folder),
        nginx_servers(servers)
    )
}

fn nginx_head(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "user root;\nworker_processes 1; error_log {folder}/error.log; pid {folder}/pid;\n\
         events {{ worker_connections 4096; }}\n"
    )
}

pub(super) fn haproxy(servers: &[&str]) -> String {
    let mut text = "global\n nbthread 1\n maxconn 4096\ndefaults\n mode tcp\n timeout connect 5s\n \
                    timeout client 1h\n timeout server 1h\nlisten web\n bind :80\n balance roundrobin\n"
        .to_owned();
    for (index, server) in servers.iter().enumerate() {
        let _ = writeln!(text, " server pod{index} {server}:80");
    }
    text
}
