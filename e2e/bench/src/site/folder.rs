//! A folder of this run, shared with its machines.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// It goes when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it anew.
    pub fn create(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("plb-{name}-{}", std::process::id()));
        let _: std::io::Result<()> = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Where it is: the same path here and in machines.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _: std::io::Result<()> = fs::remove_dir_all(&self.0);
    }
}
