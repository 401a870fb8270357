//! Writes the `CustomResourceDefinition` into the folder given, or prints it.

use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = crd::schema::file()?;
    match env::args_os().nth(1).map(PathBuf::from) {
        None => print!("{text}"),
        Some(folder) => {
            fs::create_dir_all(&folder)?;
            fs::write(folder.join(crd::schema::FILE), text)?;
        }
    }
    Ok(())
}
