//! Certificates made for a test: an authority that nobody else knows, and one pair signed by it.

use std::fs;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
};

use crate::gate::new_directory;

/// An authority, and a certificate with its key, as PEM files. They go when this is dropped.
pub struct Certificates {
    directory: PathBuf,
    authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Certificates {
    /// A certificate for these DNS names or IP addresses; a name may begin with `*.`.
    pub fn covering(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let fresh_key = || KeyPair::generate().expect("the system gives random bytes");
        let mut authority = CertificateParams::default();
        // A name of its own, or OpenSSL takes what it signs for signed by itself.
        authority.distinguished_name.push(DnType::CommonName, "an authority for one test");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority = CertifiedIssuer::self_signed(authority, fresh_key())
            .expect("an authority signs itself");
        let key = fresh_key();
        let certificate = CertificateParams::new(names)
            .and_then(|params| params.signed_by(&key, &authority))
            .expect("names that a certificate can hold");

        let directory = new_directory();
        let write = |name: &str, label: &str, der: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, pem(label, der)).expect("the temporary directory takes a file");
            path
        };
        Self {
            authority: write("authority.pem", "CERTIFICATE", authority.der()),
            certificate: write("certificate.pem", "CERTIFICATE", certificate.der()),
            key: write("key.pem", "PRIVATE KEY", &key.serialize_der()),
            directory,
        }
    }

    /// The file of the authority, which a client must trust.
    pub fn authority(&self) -> &Path {
        &self.authority
    }

    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    pub fn key(&self) -> &Path {
        &self.key
    }

    /// The `[tls]` table that names the pair.
    pub fn table(&self) -> String {
        let (cert, key) = (self.certificate.display(), self.key.display());
        format!("\n[tls]\ncertificates = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n")
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        // What is left behind in the temporary directory hurts nobody.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for (at, character) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(character);
    }
    pem + &format!("\n-----END {label}-----\n")
}
