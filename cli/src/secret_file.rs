//! Secrets that are mounted as files.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

/// A file of a secret cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}")]
pub struct SecretFileError {
    path: PathBuf,
    source: io::Error,
}

/// The secret itself, or else the first line of the file. An empty one counts as unset, as does an empty path.
pub fn either(
    secret: Option<SecretString>,
    file: Option<&Path>,
) -> Result<Option<SecretString>, SecretFileError> {
    let set = |secret: &SecretString| !secret.expose_secret().is_empty();
    if let Some(secret) = secret.filter(set) {
        return Ok(Some(secret));
    }
    let Some(path) = file.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let text = fs::read_to_string(path)
        .map_err(|source| SecretFileError { path: path.to_owned(), source })
        .map(SecretString::from)?;
    let line = text.expose_secret().lines().next().unwrap_or_default();
    Ok(Some(SecretString::from(line)).filter(set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_itself_comes_before_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "of the file\n").unwrap();
        let read = |secret: Option<&str>, file: Option<&Path>| {
            either(secret.map(SecretString::from), file)
                .unwrap()
                .map(|secret| secret.expose_secret().to_owned())
        };
        assert_eq!(read(Some("itself"), Some(&file)).as_deref(), Some("itself"));
        assert_eq!(read(Some(""), Some(&file)).as_deref(), Some("of the file"));
        assert_eq!(read(None, Some(Path::new(""))), None);
        assert!(either(None, Some(&folder.path().join("none"))).unwrap_err().to_string().contains("none"));
    }
}
