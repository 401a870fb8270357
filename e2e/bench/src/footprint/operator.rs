//! What the operator takes, and how large the images are. The operator is the program of its image, on this machine,
//! with an API server that nobody else uses: no cluster of three small nodes could run the agents of 1,000 balancers.
//! What controllers, kubelets and agents would write is written here.
#![allow(clippy::disallowed_methods, reason = "a rest is measured by resting")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, anyhow, ensure};
use e2e::api_server::ApiServer;
use nix::sched::{CloneFlags, unshare};

use super::calls::{Call, Calls};
use super::{CALLS, IMAGE, LOAD, Measured, OPERATOR, Point, RESTARTED, SIZE, WRITES, note, push};
use crate::plan::Plan;
use crate::record::{OURS, Records};
use crate::scratch::{Folder, Running};
use crate::stage::eyes::usage;
use crate::stage::wire::Usage;

mod balancers;

/// Changes a second under load.
const PER_SECOND: u32 = 100;
/// Kinds that an operator deals with. The API server itself calls for leases and the like.
const KINDS: [&str; 9] = [
    "portableloadbalancers",
    "replicasets",
    "pods",
    "services",
    "poddisruptionbudgets",
    "serviceaccounts",
    "rolebindings",
    "nodes",
    "events",
];

/// The archives, layers compressed as they are sent.
pub(super) fn images(records: &mut Records) -> Result<()> {
    for name in ["agent", "operator"] {
        let size = fs::metadata(archive(name))
            .with_context(|| format!("no image {name}: make images"))?
            .len();
        let point = Point {
            setting: IMAGE,
            contender: name,
            x: 0,
        };
        #[allow(clippy::cast_precision_loss, reason = "images are small")]
        push(records, &point, SIZE, (size as f64 / f64::from(1 << 20), "MiB"));
    }
    Ok(())
}

fn archive(name: &str) -> PathBuf {
    e2e::cluster::root().join(format!("target/images/{name}.tar"))
}

/// Everything that is measured of the operator.
pub(super) fn measure(plan: Plan, records: &mut Records) -> Result<()> {
    // A network namespace of its own: the operator's port may be in use here.
    let measured = thread::scope(|scope| {
        let work = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
            ensure!(up.success(), "ip: {up}");
            alone(plan, records)
        });
        work.join().map_err(|_| anyhow!("the thread panicked"))
    });
    measured?
}

fn alone(plan: Plan, records: &mut Records) -> Result<()> {
    let server = ApiServer::start_with_chart()?;
    let folder = Folder::create("operator")?;
    let operator = Operator::start(&server, folder.path())?;
    let stage = balancers::Stage::new(&server)?;
    let mut most = 0;
    for count in plan.pick(&[1, 100, 1000][..], &[1, 10]) {
        most = *count;
        stage.grow(most).with_context(|| format!("{count} balancers"))?;
        let point = Point {
            setting: OPERATOR,
            contender: OURS,
            x: most,
        };
        operator.wait_for_rest()?;
        rest(&server, &operator, plan, (&point, records))?;
        let (before, begin) = (operator.usage()?, Instant::now());
        let rate = stage.report_steadily(PER_SECOND, plan.pick(10, 4))?;
        let measured = Measured::under_load(before, operator.usage()?, begin.elapsed());
        note(records, &point, &measured);
        push(records, &point, LOAD, (rate, "changes/s"));
    }
    drop(operator);
    // It reads all at once.
    let operator = Operator::start(&server, folder.path())?;
    operator.wait_for_rest()?;
    let point = Point {
        setting: OPERATOR,
        contender: RESTARTED,
        x: most,
    };
    rest(&server, &operator, plan, (&point, records))
}

fn rest(
    server: &ApiServer,
    operator: &Operator,
    plan: Plan,
    (point, records): (&Point<'_>, &mut Records),
) -> Result<()> {
    let calls = || anyhow::Ok(Calls::parse(&server.kubectl(&["get", "--raw", "/metrics"])?.out));
    let (earlier, before, begin) = (calls()?, operator.usage()?, Instant::now());
    thread::sleep(Duration::from_secs(plan.pick(12, 4)));
    let took = begin.elapsed();
    let (after, now) = (operator.usage()?, calls()?);
    note(records, point, &Measured::at_rest(before, after, took));
    let is_of_operator = |call: &Call| KINDS.contains(&call.resource.as_str());
    let a_minute = 60.0 / took.as_secs_f64();
    push(
        records,
        point,
        CALLS,
        (now.since(&earlier, is_of_operator) * a_minute, "calls/min"),
    );
    let writes = now.since(&earlier, |call| is_of_operator(call) && call.is_write());
    push(records, point, WRITES, (writes * a_minute, "calls/min"));
    Ok(())
}

/// The operator's process.
struct Operator(Running);

impl Operator {
    fn start(server: &ApiServer, folder: &Path) -> Result<Self> {
        let config = ["get", "configmap", "portable-lb-operator", "-n", "portable-lb"];
        let config = [&config[..], &["-o", r"jsonpath={.data.config\.yaml}"]].concat();
        let path = folder.join("config.yaml");
        fs::write(&path, server.kubectl(&config)?.out)?;
        let program = extract(&archive("operator"), folder)?;
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg("run")
            .arg("--config")
            .arg(path)
            .env("KUBECONFIG", server.kubeconfig())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the operator")?;
        Ok(Self(Running(child)))
    }

    fn usage(&self) -> Result<Usage> {
        usage(i32::try_from(self.0.0.id())?).context("the operator ended")
    }

    /// Until it has taken no time for two seconds.
    fn wait_for_rest(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(2);
        loop {
            let before = self.usage()?.busy;
            thread::sleep(Duration::from_secs(2));
            if self.usage()?.busy <= before + 10 {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the operator never rests");
        }
    }
}

/// The program of the image, from the archive's only layer.
fn extract(archive: &Path, folder: &Path) -> Result<PathBuf> {
    tar(archive, folder)?;
    let read = |path: PathBuf| -> Result<serde_json::Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let blob = |digest: &serde_json::Value| {
        let digest = digest.as_str().unwrap_or_default().trim_start_matches("sha256:");
        folder.join("blobs/sha256").join(digest)
    };
    let index = read(folder.join("index.json"))?;
    let manifest = read(blob(&index["manifests"][0]["digest"]))?;
    for layer in manifest["layers"].as_array().context("an image without layers")? {
        tar(&blob(&layer["digest"]), folder)?;
    }
    let program = folder.join("usr/bin/portable-lb-operator");
    ensure!(program.exists(), "the image has no {}", program.display());
    Ok(program)
}

fn tar(archive: &Path, folder: &Path) -> Result<()> {
    let done = Command::new("tar")
        .arg("-xf")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .status()?;
    ensure!(done.success(), "tar -xf {}: {done}", archive.display());
    Ok(())
}
