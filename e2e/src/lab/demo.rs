//! The first look at the product: the chart is installed, an example applied, and requests are sent through it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::kubectl::{kubectl, wait_for};
use super::paths::{Paths, checkout, images};
use super::progress::Progress;
use super::{cli, process, session};
use crate::pod::client::{Tally, get_many};

const RELEASE: &str = "portable-lb";
const EXAMPLE: &str = "web";
const REQUESTS: usize = 60;
const PATIENCE: Duration = Duration::from_mins(3);

/// Runs the demonstration; it may be repeated.
pub fn run(paths: &Paths) -> Result<()> {
    let progress = Progress::start();
    if images().is_empty() {
        bail!("no image archives in target/images; `make images` builds them");
    }
    cli::load(paths, Vec::new())?;
    session::enter()?;
    progress.say("every node has the images");
    install(paths)?;
    progress.say("the chart is installed: charts/portable-lb, release portable-lb");
    apply_example(paths)?;
    progress.say("examples/web.yaml is Ready");
    let url = format!("http://{}/", agent_address(paths)?);
    let tally = get_many(&url, REQUESTS, Duration::ZERO)?;
    progress.say(&format!(
        "{REQUESTS} requests from outside the cluster to the balancer's pod, {url}"
    ));
    println!("\n{}", summary(&tally));
    println!("$ kubectl get plb\n{}", kubectl(paths, &["get", "plb"])?);
    println!(
        "The lab goes on. Look around with `make lab-shell` (kubectl, helm, curl {url}),\n\
         see how it is with `make lab-status`, and stop it with `make lab-down`."
    );
    if !tally.failures.is_empty() {
        bail!("{} requests failed: {}", tally.failures.len(), tally.failures[0]);
    }
    Ok(())
}

fn install(paths: &Paths) -> Result<()> {
    let chart = checkout().join("charts/portable-lb");
    let mut helm = session::command(paths, "helm")?;
    helm.args(["upgrade", "--install", RELEASE]).arg(chart).args([
        "--namespace",
        RELEASE,
        "--create-namespace",
    ]);
    process::run(helm.args(["--wait", "--timeout", "3m"])).map(drop)
}

fn apply_example(paths: &Paths) -> Result<()> {
    let file = checkout()
        .join(format!("examples/{EXAMPLE}.yaml"))
        .display()
        .to_string();
    kubectl(paths, &["apply", "--server-side", "-f", &file])?;
    let deployment = format!("deployment/{EXAMPLE}");
    let balancer = format!("plb/{EXAMPLE}");
    kubectl(paths, &["rollout", "status", &deployment, "--timeout=180s"])?;
    kubectl(
        paths,
        &["wait", &balancer, "--for=condition=Ready", "--timeout=180s"],
    )?;
    for summary in ["backends}=3/3", "agents}=2/2"] {
        let condition = format!("--for=jsonpath={{.status.summary.{summary}");
        kubectl(paths, &["wait", &balancer, &condition, "--timeout=120s"])?;
    }
    Ok(())
}

/// The address of one of the balancer's pods.
fn agent_address(paths: &Paths) -> Result<String> {
    let labels = format!("-l=portablelb.io/plb-name={EXAMPLE},portablelb.io/plb-namespace=default");
    let output =
        "-o=jsonpath={range .items[?(@.status.containerStatuses[0].ready==true)]}{.status.podIP} {end}";
    wait_for("a ready balancer's pod", PATIENCE, || {
        let addresses = kubectl(paths, &["get", "pods", "--all-namespaces", &labels, output])?;
        addresses
            .split_whitespace()
            .next()
            .map(str::to_owned)
            .context("there is none")
    })
}

/// Who answered how often, by node and pod.
fn summary(tally: &Tally) -> String {
    let mut lines = BTreeMap::new();
    for (answer, count) in &tally.answers {
        let word = |name: &str| {
            let value = answer
                .split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or("?").to_owned()
        };
        *lines.entry((word("node"), word("pod"))).or_insert(0) += count;
    }
    let rows = lines
        .iter()
        .map(|((node, pod), count)| format!("  {node}  {pod}  answered {count}\n"));
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_by_node() {
        let answers = [
            ("pod=web-b node=node2 ip=10.244.1.2", 2),
            ("pod=web-a node=node1 ip=10.244.0.2", 3),
        ];
        let mut tally = Tally::default();
        tally.answers = answers.map(|(line, count)| (line.to_owned(), count)).into();
        assert_eq!(
            summary(&tally),
            "  node1  web-a  answered 3\n  node2  web-b  answered 2\n"
        );
    }
}
