//! A private certificate authority, as an installation has one for its brokers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::install::run_quietly;

/// No run lasts as long.
const DAYS: &str = "30";

/// An authority in a folder.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Authority {
    /// Makes an authority in this folder.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let authority = Self { folder: folder.to_owned() };
        let mut openssl = authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes");
        openssl.args(["-keyout", "authority.key", "-out", "authority.pem", "-days", DAYS]);
        openssl.args(["-subj", "/CN=Flowmeter's private authority"]);
        openssl.args(["-addext", "keyUsage=critical,keyCertSign"]);
        run_quietly(&mut openssl).context("cannot make a certificate authority")?;
        Ok(authority)
    }

    /// The file with its certificate, which clients trust.
    pub fn file(&self) -> PathBuf {
        self.folder.join("authority.pem")
    }

    /// Makes a certificate for a server at these addresses, for its clients and its peers.
    pub fn certify(&self, name: &str, addresses: &[String]) -> Result<Certificate> {
        let (key, request, certificate) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let mut ask = self.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes");
        ask.args(["-keyout", &key, "-out", &request, "-subj", &format!("/CN={name}")]);
        run_quietly(&mut ask).context("cannot request a certificate")?;

        let names: String = addresses.iter().map(|address| format!(",IP:{address}")).collect();
        let extensions = format!(
            "basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:{name}{names}\n"
        );
        let extensions_file = self.folder.join(format!("{name}.ext"));
        fs::write(&extensions_file, extensions).context("cannot write a certificate's extensions")?;
        let mut sign = self.openssl("x509 -req -CA authority.pem -CAkey authority.key -CAcreateserial");
        sign.args(["-in", &request, "-out", &certificate, "-days", DAYS, "-extfile"]).arg(&extensions_file);
        run_quietly(&mut sign).context("cannot sign a certificate")?;
        Ok(Certificate { certificate: self.folder.join(certificate), key: self.folder.join(key) })
    }

    fn openssl(&self, words: &str) -> Command {
        let mut openssl = Command::new("openssl");
        openssl.args(words.split(' ')).current_dir(&self.folder);
        openssl
    }
}
