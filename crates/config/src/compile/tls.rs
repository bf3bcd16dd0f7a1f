//! `[tls]` and `upstream_ca`: PEM files (RFC 7468) into certificates and authorities. No problem
//! quotes what is in a file.

use std::sync::Arc;
use std::time::Duration;

use foregate_session::{Secret, UnixSeconds};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use webpki::EndEntityCert;

use crate::environment::Environment;
use crate::key::Key;
use crate::problem::{Fault, unread};
use crate::raw;
use crate::report::Report;
use crate::tls::{Certificate, LAST_WEEKS, Tls};

/// `None` without https, whose certificates nobody needs to have then.
pub(super) fn tls(file: &raw::File, environment: &Environment, report: &mut Report) -> Option<Tls> {
    let raw = &file.tls.certificates;
    if file.server.https.is_empty() {
        if !raw.is_empty() {
            let fault = Fault::new("nobody asks for a certificate: server.https is not set");
            report.warning(&Key::of("tls"), fault.hint("for example https = \"0.0.0.0:8443\""));
        }
        return None;
    }
    let key = Key::of("tls.certificates");
    if raw.is_empty() {
        let hint = "server.https needs certificates = [{ cert = \"/etc/tls/tls.crt\", key = \
                    \"/etc/tls/tls.key\" }]";
        report.missing(&key, hint);
    }
    let certificates: Vec<Arc<Certificate>> = raw
        .iter()
        .enumerate()
        .filter_map(|(index, files)| certificate(files, &key.index(index), environment, report))
        .map(Arc::new)
        .collect();
    if !raw.is_empty() && certificates.len() == raw.len() {
        warn_of_uncovered(&file.app, &certificates, report);
    }
    Tls::new(certificates)
}

fn certificate(
    files: &raw::CertificateFiles,
    key: &Key,
    environment: &Environment,
    report: &mut Report,
) -> Option<Certificate> {
    let (cert_key, key_key) = (key.name("cert"), key.name("key"));
    let chain = match &files.cert {
        Some(path) => {
            let chain = chain(path, environment, report);
            report.accept(&cert_key, chain)
        }
        None => {
            report.missing(
                &cert_key,
                "a PEM file: the certificate, then those that lead to its authority",
            );
            None
        }
    };
    let private = match &files.key {
        Some(path) => {
            let private = private_key(path, environment, report);
            report.accept(&key_key, private)
        }
        None => {
            report.missing(&key_key, "a PEM file: the private key of the certificate");
            None
        }
    };
    let (chain, private) = (chain?, private?);
    let first = chain.first()?.clone();
    let unusable = || Fault::new("the first certificate of the file cannot be read").hint(PEM_CERT);
    let parsed =
        report.accept(&cert_key, EndEntityCert::try_from(&first).map_err(|_| unusable()))?;
    let signing = default_provider().key_provider.load_private_key(private).map_err(|_| {
        Fault::new("the private key is of a kind that TLS cannot use")
            .hint("RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519")
    });
    let pair = CertifiedKey::new(chain, report.accept(&key_key, signing)?);
    if pair.keys_match().is_err() {
        let fault = Fault::new("the private key belongs to another certificate");
        let hint = "the certificate itself comes first in its file, before those of its authority";
        report.error(&key_key, fault.hint(hint));
        return None;
    }
    let certificate = Certificate::new(pair, parsed.valid_dns_names());
    if let (Some(ends), Some(now)) = (certificate.ends(), environment.now())
        && let Some(message) = near_its_end(ends, now)
    {
        let hint = "renew it: Foregate reads the files again when they change";
        report.warning(&cert_key, Fault::new(message).hint(hint));
    }
    Some(certificate)
}

/// What to say of a certificate that has ended, or will soon.
fn near_its_end(ends: UnixSeconds, now: UnixSeconds) -> Option<String> {
    let left = ends.since(now);
    if left.is_zero() {
        Some(format!("the certificate ended {} ago", roughly(now.since(ends))))
    } else {
        (left < LAST_WEEKS).then(|| format!("the certificate ends in {}", roughly(left)))
    }
}

fn roughly(span: Duration) -> String {
    match span.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// At least one certificate.
fn chain(
    path: &str,
    environment: &Environment,
    report: &mut Report,
) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let text = text(path, environment, report)?;
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(text.expose().as_bytes()).collect();
    let chain = chain.map_err(|error| not_pem(path, &error))?;
    if chain.is_empty() {
        let fault = Fault::new(format!("the file {path} has no certificate"));
        return Err(fault.hint(PEM_CERT));
    }
    Ok(chain)
}

const PEM_CERT: &str = "expected PEM: lines between -----BEGIN CERTIFICATE----- and END";

fn private_key(
    path: &str,
    environment: &Environment,
    report: &mut Report,
) -> Result<PrivateKeyDer<'static>, Fault> {
    let text = text(path, environment, report)?;
    PrivateKeyDer::from_pem_slice(text.expose().as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound if text.expose().contains("ENCRYPTED PRIVATE KEY") => {
            Fault::new(format!("the private key in the file {path} is locked with a password"))
                .hint("unlock it with `openssl pkey`, and let Foregate alone read the file")
        }
        pem::Error::NoItemsFound => Fault::new(format!("the file {path} has no private key"))
            .hint("expected PEM: lines between -----BEGIN PRIVATE KEY----- and END"),
        error => not_pem(path, &error),
    })
}

/// The authorities that an https upstream is checked against.
pub(super) fn authorities(
    path: &str,
    environment: &Environment,
    report: &mut Report,
) -> Result<Arc<RootCertStore>, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path, environment, report)? {
        roots.add(certificate).map_err(|_| {
            Fault::new(format!("a certificate in the file {path} cannot be an authority"))
                .hint("it must be an X.509 certificate of version 3")
        })?;
    }
    Ok(Arc::new(roots))
}

fn text(path: &str, environment: &Environment, report: &mut Report) -> Result<Secret, Fault> {
    report
        .read(path, environment)
        .map_err(|error| Fault::new(format!("the file {path}: {}", unread(&error))))
}

/// Without the parser's own words, which may quote a line of the file.
fn not_pem(path: &str, error: &pem::Error) -> Fault {
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section without its end",
        pem::Error::Base64Decode(_) => "a section that is not base64",
        _ => "a line that begins no section",
    };
    Fault::new(format!("the file {path} is not PEM: {what}")).hint("copy it again, whole")
}

/// A browser refuses the connection, and one that comes over another host's gets a 421.
fn warn_of_uncovered(apps: &[raw::App], certificates: &[Arc<Certificate>], report: &mut Report) {
    for (index, app) in apps.iter().enumerate() {
        let Some(host) = &app.host else { continue };
        if !certificates.iter().any(|certificate| certificate.covers(host)) {
            let fault = Fault::new("no certificate in [tls] names this host");
            let key = Key::of("app").index(index).name("host");
            report.warning(&key, fault.hint("browsers refuse to open it over https"));
        }
    }
}
