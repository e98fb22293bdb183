//! The archive: a tar with the manifest, the dumps, and the files beside them.
use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rapport_kernel::BoxError;

use super::Manifest;

/// Writes what is in `work`, and those of the `kept` that are in `data`, to a new file; whole or not at all.
pub(super) fn write(file: &Path, work: &Path, data: &Path, kept: &[&str]) -> Result<(), BoxError> {
    let failed = |error: std::io::Error| format!("{} cannot be written: {error}", file.display());
    if file.exists() {
        return Err(format!("{} is there already; name a new file", file.display()).into());
    }
    let new = file.with_extension("part");
    let out =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    let mut tar = tar::Builder::new(BufWriter::new(out));
    tar.append_dir_all("databases", work).map_err(failed)?;
    for name in kept {
        let path = data.join(name);
        if path.is_dir() {
            tar.append_dir_all(format!("data/{name}"), &path).map_err(failed)?;
        } else if path.exists() {
            tar.append_path_with_name(&path, format!("data/{name}")).map_err(failed)?;
        }
    }
    let mut out = tar.into_inner().map_err(failed)?;
    out.flush().map_err(failed)?;
    out.get_ref().sync_all().map_err(failed)?;
    fs::rename(&new, file).map_err(failed)?;
    Ok(())
}

/// Unpacks the dumps to `work` and the `kept` to `data`; says what the archive says of itself.
pub(super) fn read(file: &Path, work: &Path, data: &Path, kept: &[&str]) -> Result<Manifest, BoxError> {
    let open = || File::open(file).map_err(|error| format!("{} cannot be read: {error}", file.display()));
    let not_ours = |error: std::io::Error| format!("{} is not a backup of Rapport: {error}", file.display());
    let mut tar = tar::Archive::new(BufReader::new(open()?));
    for entry in tar.entries().map_err(not_ours)? {
        let mut entry = entry.map_err(not_ours)?;
        let path = entry.path().map_err(not_ours)?.into_owned();
        let mut parts = path.components();
        let top = parts.next().and_then(|part| part.as_os_str().to_str());
        let rest = parts.as_path();
        match top {
            Some("databases") => unpack(&mut entry, work, rest).map_err(not_ours)?,
            Some("data") if kept.iter().any(|name| rest.starts_with(name)) => {
                unpack(&mut entry, data, rest).map_err(not_ours)?;
            }
            _ => {
                return Err(format!(
                    "{} is not a backup of Rapport: it has {}",
                    file.display(),
                    path.display()
                )
                .into());
            }
        }
    }
    let manifest = fs::read(work.join("manifest.json")).map_err(not_ours)?;
    Ok(serde_json::from_slice(&manifest)?)
}

fn unpack(entry: &mut tar::Entry<'_, impl std::io::Read>, folder: &Path, rest: &Path) -> std::io::Result<()> {
    if rest.components().any(|part| !matches!(part, std::path::Component::Normal(_))) {
        return Err(std::io::Error::other("a path leads out of it"));
    }
    let to = folder.join(rest);
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    match entry.header().entry_type() {
        tar::EntryType::Directory => fs::create_dir_all(to),
        tar::EntryType::Regular => entry.unpack(to).map(drop),
        _ => Err(std::io::Error::other("it has something that is neither file nor folder")),
    }
}
