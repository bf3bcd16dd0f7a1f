//! Why no TLS came about with an app or a backend, in words that say what to change.

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// A failed handshake. `own_roots`: the server was held against the authorities of `upstream_ca`,
/// not against the system's.
pub(crate) fn in_words(error: &Error, own_roots: bool) -> String {
    match error {
        Error::InvalidCertificate(fault) => certificate(fault, own_roots),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => "what answers there is no TLS: http:// instead of https:// may be meant".to_owned(),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        )
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            "the server speaks neither TLS 1.2 nor TLS 1.3".to_owned()
        }
        Error::PeerIncompatible(_) | Error::AlertReceived(AlertDescription::HandshakeFailure) => {
            format!("the server and Foregate have no TLS cipher in common ({error})")
        }
        Error::AlertReceived(AlertDescription::UnrecognisedName) => {
            "the server has no certificate for this name".to_owned()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate, and Foregate has none".to_owned()
        }
        Error::NoApplicationProtocol
        | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server speaks neither HTTP/2 nor HTTP/1.1 over TLS".to_owned()
        }
        other => format!("TLS failed: {other}"),
    }
}

fn certificate(fault: &CertificateError, own_roots: bool) -> String {
    match fault {
        CertificateError::UnknownIssuer if own_roots => {
            "no authority in upstream_ca has signed the server's certificate".to_owned()
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by an authority that this machine does not know"
                .to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("the server's certificate ended {} ago", apart(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let away = apart(*time, *not_before);
            format!("the server's certificate begins in {away}: is the clock right?")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let name = match expected {
                ServerName::DnsName(name) => name.as_ref().to_owned(),
                ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
                other => format!("{other:?}"),
            };
            format!("the server's certificate is not for {name}, but for {}", names(presented))
        }
        CertificateError::Other(other) if is_authority(other) => {
            "the server's certificate is that of an authority (CA:TRUE), which vouches for others: \
             the server needs one of its own"
                .to_owned()
        }
        CertificateError::BadSignature => {
            let known = if own_roots { "upstream_ca has" } else { "this machine knows" };
            format!(
                "the server's certificate is not signed by the authority of its name that {known}"
            )
        }
        CertificateError::Revoked => "the server's certificate is revoked".to_owned(),
        other => format!("the server's certificate cannot be used: {other}"),
    }
}

fn is_authority(error: &rustls::OtherError) -> bool {
    error.0.downcast_ref() == Some(&webpki::Error::CaUsedAsEndEntity)
}

/// `DnsName("a.example.com")` as `a.example.com`, and no more of them than a line takes.
fn names(presented: &[String]) -> String {
    let bare = presented.iter().map(|name| {
        let inner = name.split_once('(').map_or(name.as_str(), |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"')
    });
    let shown: Vec<&str> = bare.take(MOST_NAMES).collect();
    match presented.len().saturating_sub(MOST_NAMES) {
        _ if shown.is_empty() => "no name at all".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

const MOST_NAMES: usize = 3;

fn apart(earlier: UnixTime, later: UnixTime) -> String {
    let seconds = later.as_secs().saturating_sub(earlier.as_secs());
    match seconds {
        0..7_200 => format!("{seconds} seconds"),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_fault_is_told_in_words_that_say_what_to_change() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let invalid = Error::InvalidCertificate;
        let check = |error: Error, words: &str| {
            let told = in_words(&error, false);
            assert!(told.contains(words), "{error:?}: {told}");
        };
        check(invalid(CertificateError::UnknownIssuer), "that this machine does not know");
        let own = in_words(&invalid(CertificateError::UnknownIssuer), true);
        assert_eq!(own, "no authority in upstream_ca has signed the server's certificate");
        let ended = CertificateError::ExpiredContext { time: at(864_000), not_after: at(0) };
        check(invalid(ended), "certificate ended 10 days ago");
        let early = CertificateError::NotValidYetContext { time: at(0), not_before: at(7_200) };
        check(invalid(early), "begins in 2 hours: is the clock right?");
        let wrong = |presented: &[&str]| {
            let expected = ServerName::try_from("app.internal").unwrap();
            let presented = presented.iter().map(ToString::to_string).collect();
            invalid(CertificateError::NotValidForNameContext { expected, presented })
        };
        check(wrong(&["DnsName(\"a.test\")"]), "is not for app.internal, but for a.test");
        check(wrong(&[]), "but for no name at all");
        let many = ["DnsName(\"a\")", "IpAddress(10.0.0.1)", "DnsName(\"*.c\")", "d", "e"];
        check(wrong(&many), "but for a, 10.0.0.1, *.c and 2 more");
        let authority = rustls::OtherError(Arc::new(webpki::Error::CaUsedAsEndEntity));
        check(invalid(CertificateError::Other(authority)), "that of an authority (CA:TRUE)");
        check(invalid(CertificateError::BadSignature), "of its name that this machine knows");
        check(invalid(CertificateError::Revoked), "is revoked");
        check(invalid(CertificateError::BadEncoding), "certificate cannot be used: ");
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "http:// instead of");
        check(Error::AlertReceived(AlertDescription::ProtocolVersion), "nor TLS 1.3");
        check(Error::AlertReceived(AlertDescription::HandshakeFailure), "no TLS cipher in common");
        check(Error::AlertReceived(AlertDescription::UnrecognisedName), "for this name");
        check(Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate");
        check(Error::NoApplicationProtocol, "neither HTTP/2 nor HTTP/1.1");
        check(Error::DecryptError, "TLS failed: ");
    }
}
