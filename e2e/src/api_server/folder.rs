//! Where an API server keeps its certificates, data and logs: a folder under `target/api`.

use anyhow::{Context, Result};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::pki::{self, Authority, Subject};

/// How long logs can be read.
const DAY: Duration = Duration::from_hours(24);

/// etcd's data, by far the largest part.
pub(super) const DATA: &str = "etcd";

/// Makes a folder with all that the processes need, and the kubeconfig of the administrator.
pub(super) fn create(url: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/api");
    fs::create_dir_all(&all).with_context(|| format!("could not make {}", all.display()))?;
    let all = all.canonicalize()?;
    for entry in fs::read_dir(&all)? {
        clean(&entry?)?;
    }
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder = all.join(format!("{}-{number}", std::process::id()));
    remove(&folder)?;
    fs::create_dir(&folder)?;
    store_certificates(&folder, url)?;
    Ok(folder)
}

/// Path of the administrator's kubeconfig.
pub(super) fn kubeconfig(folder: &Path) -> PathBuf {
    folder.join("admin.conf")
}

/// Removes what a program that ended left: its data at once, its logs after a day.
fn clean(entry: &DirEntry) -> Result<()> {
    let name = entry.file_name();
    let process = name
        .to_string_lossy()
        .split('-')
        .next()
        .unwrap_or_default()
        .to_owned();
    if Path::new("/proc").join(process).exists() {
        return Ok(());
    }
    let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > DAY);
    remove(&if old {
        entry.path()
    } else {
        entry.path().join(DATA)
    })
}

/// Two programs may clean up at once.
fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn store_certificates(folder: &Path, url: &str) -> Result<()> {
    let authority = Authority::create("api")?;
    fs::write(folder.join("ca.crt"), authority.certificate())?;
    let server = Subject {
        user: "kube-apiserver",
        group: None,
    };
    authority
        .server(server, &["127.0.0.1", "localhost"])?
        .store(folder, "server")?;
    let (private, public) = pki::service_account_keys()?;
    pki::write_private(&folder.join("tokens.key"), &private)?;
    fs::write(folder.join("tokens.pub"), public)?;
    let admin = authority.client(Subject {
        user: "admin",
        group: Some("system:masters"),
    })?;
    pki::write_private(
        &kubeconfig(folder),
        &pki::kubeconfig(url, authority.certificate(), &admin),
    )
}
