//! Ways to speak to an API server.

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::ApiServer;
use crate::tools::{self, Tool};

/// What a program printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// On standard output.
    pub out: String,
    /// On standard error: for kubectl, the API server's warnings too.
    pub err: String,
}

impl ApiServer {
    /// A client with all rights.
    pub async fn client(&self) -> Result<Client> {
        Ok(Client::try_from(self.config().await?)?)
    }

    /// A client with the rights of a user, who need not exist.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.config().await?;
        config.headers.push(("impersonate-user".parse()?, user.parse()?));
        for group in groups {
            config
                .headers
                .push(("impersonate-group".parse()?, group.parse()?));
        }
        Ok(Client::try_from(config)?)
    }

    /// A client with a `ServiceAccount`'s token.
    pub async fn client_with(&self, token: &str) -> Result<Client> {
        let mut config = self.config().await?;
        config.auth_info = kube::config::AuthInfo {
            token: Some(token.to_owned().into()),
            ..Default::default()
        };
        Ok(Client::try_from(config)?)
    }

    /// Makes a namespace whose name nobody else has.
    pub async fn namespace(&self, client: &Client) -> Result<String> {
        let metadata = ObjectMeta {
            generate_name: Some("test-".to_owned()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let made = Api::all(client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        made.metadata.name.context("the namespace got no name")
    }

    /// Runs kubectl as the administrator, and fails where it does.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Output> {
        self.kubectl_with(arguments, "")
    }

    /// Runs kubectl as the administrator with `input`, for `-f -`.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Output> {
        kubectl(&self.kubeconfig(), arguments, input)
    }

    async fn config(&self) -> Result<Config> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }
}

pub(super) fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(tools::path(Tool::Kubectl))
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not start kubectl")?;
    // Dropped at once, which ends the input. A program that reads none may be gone already.
    let _: io::Result<()> = child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(input.as_bytes());
    let output = child.wait_with_output()?;
    let (out, err) = (
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    );
    if !output.status.success() {
        bail!("kubectl {}: {err}{out}", arguments.join(" "));
    }
    Ok(Output { out, err })
}
