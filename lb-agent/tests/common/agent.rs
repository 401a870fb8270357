//! An agent that serves a file in one of the namespaces.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::thread;
use std::time::Duration;

use super::places::{Places, within};
use super::run;

/// How long its server may be silent.
const PATIENCE: Duration = Duration::from_secs(20);
const PROGRAM: &str = env!("CARGO_BIN_EXE_lb-agent");

pub(crate) struct Agent {
    namespace: String,
    path: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
    /// Seconds between two looks of the agent at everything.
    pub(crate) resync: u32,
}

impl Agent {
    /// One that will run at a place.
    pub(crate) fn new(places: &Places, place: &str) -> Self {
        Self {
            namespace: places.name(place),
            path: places.path(place),
            folder: places.folder(place),
            child: None,
            resync: 60,
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("plb.yaml")
    }

    /// Writes its file whole at once, as an editor does it.
    pub(crate) fn write(&self, text: &str) {
        let new = self.folder.join("new");
        fs::write(&new, text).expect("can be written");
        fs::rename(&new, self.file()).expect("can be renamed");
    }

    pub(crate) fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace, PROGRAM, "serve", "--file"])
            .arg(self.file())
            .args(["--resync-seconds", &self.resync.to_string()])
            .env("NO_COLOR", "1")
            .stderr(log.expect("can be opened"))
            .spawn()
            .expect("can be run");
        self.child = Some(child);
    }

    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Its process; `ip netns exec` becomes the program it runs.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it runs")
    }

    /// Ends it with a signal, and waits for it.
    pub(crate) fn stop(&mut self, signal: &str) {
        if let Some(mut child) = self.child.take() {
            run("kill", &[signal, &child.id().to_string()]);
            child.wait().expect("can be waited for");
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Empties its log.
    pub(crate) fn forget_log(&self) {
        fs::write(self.folder.join("log"), "").expect("can be written");
    }

    /// Whether it attracts traffic.
    pub(crate) fn is_ready(&self) -> bool {
        self.admin("/readyz").starts_with("HTTP/1.1 200")
    }

    /// Asks its own server.
    pub(crate) fn admin(&self, path: &str) -> String {
        let path = path.to_owned();
        within(self.path.clone(), move || get(&path))
    }

    /// What another command of the program prints at the agent's place; FILE stands for its file.
    pub(crate) fn command(&self, arguments: &str) -> String {
        let arguments = arguments.replace("FILE", &self.file().display().to_string());
        let output = command(&self.namespace, &arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {stderr}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop("-KILL");
        if thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
    }
}

/// Asks the server of the agent in this namespace.
pub(crate) fn get(path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", 9913)) {
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

/// Runs a command of the program in the namespace of this name.
pub(crate) fn command(namespace: &str, arguments: &str) -> Output {
    Command::new("ip")
        .args(["netns", "exec", namespace, PROGRAM])
        .args(arguments.split(' '))
        .env("NO_COLOR", "1")
        .output()
        .expect("can be run")
}
