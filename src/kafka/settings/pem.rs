//! Where is a certificate or a key? In a file, or in the settings themselves, in whatever form it was pasted.

use std::{fs, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use crate::error::{Error, Result};

/// A PEM block: a file's path, or its text with or without the first and last lines.
#[derive(Debug, Clone)]
pub enum Pem {
    File(PathBuf),
    Text(SecretString),
}

impl Pem {
    /// A path if the text looks like one, else the block itself. Reads nothing.
    pub fn of(text: &str) -> Pem {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("file:") {
            return Pem::File(path.into());
        }
        // The base64 of a certificate or key starts with M, so a path can be told from it.
        if !text.contains('\n') && ["/", "./", "../"].iter().any(|start| text.starts_with(start)) {
            return Pem::File(text.into());
        }
        Pem::Text(text.into())
    }

    /// The whole block; a bare body gets the first and last lines of `label` (`CERTIFICATE`, `PRIVATE KEY`). Reads the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(&self, label: &str) -> Result<SecretString> {
        let text = match self {
            Pem::Text(text) => text.clone(),
            Pem::File(path) => fs::read_to_string(path).map(SecretString::from).map_err(|cause| {
                Error::settings(format!("the file {} cannot be read", path.display()))
                    .help("Check that the path is right and that the file may be read by this user.")
                    .because(cause)
            })?,
        };
        let body = text.expose_secret().trim();
        if body.starts_with("-----BEGIN") {
            return Ok(SecretString::from(body));
        }
        Ok(format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----").into())
    }
}
