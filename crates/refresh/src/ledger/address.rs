//! Where a ledger is: `refresh.ledger`, parsed.
//!
//! ```text
//! memory
//! file:/var/lib/foregate/ledger.redb
//! redis://[user:password@]host[:6379][/database]
//! redis+sentinel://[user:password@]host[:26379][,host…]/master[/database]
//! redis+cluster://[user:password@]host[:6379][,host…]
//! ```
//!
//! `rediss` in the place of `redis` asks for TLS. Name and password stand percent-encoded; they are
//! those of Redis itself, not of the sentinels.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use foregate_session::Secret;

/// The value of `refresh.ledger`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerAddress {
    Memory,
    /// Absolute.
    File(PathBuf),
    Redis(RedisAddress),
}

/// One Redis, however many servers it is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    pub(super) form: RedisForm,
    pub(super) tls: bool,
    /// At least one; without brackets.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) database: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RedisForm {
    Single,
    /// The hosts are sentinels, and know the master by this name.
    Sentinel(String),
    Cluster,
}

impl LedgerAddress {
    /// The error completes a sentence that begins with the key, and quotes nothing of `text`, which
    /// may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "memory" {
            return Ok(Self::Memory);
        }
        let (scheme, rest) = text.split_once(':').ok_or(EXPECTED)?;
        if scheme == "file" {
            let path = PathBuf::from(rest.strip_prefix("//").unwrap_or(rest));
            return if path.is_absolute() && path.file_name().is_some() {
                Ok(Self::File(path))
            } else {
                Err("expected an absolute path behind \"file:\"")
            };
        }
        let rest = rest.strip_prefix("//").ok_or(EXPECTED)?;
        RedisAddress::parse(scheme, rest).map(Self::Redis)
    }
}

impl RedisAddress {
    fn parse(scheme: &str, rest: &str) -> Result<Self, &'static str> {
        let (transport, form) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match transport {
            "redis" => false,
            "rediss" => true,
            _ => return Err(EXPECTED),
        };
        if rest.contains(['?', '#']) {
            return Err("a Redis URL has neither a query nor a fragment here");
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (form, database) = match form {
            "" => (RedisForm::Single, path),
            "cluster" if path.is_empty() => (RedisForm::Cluster, ""),
            "cluster" => return Err("a Redis Cluster has no databases"),
            "sentinel" => {
                let (master, database) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err("expected the name of the master behind the sentinels");
                }
                (RedisForm::Sentinel(decoded(master)?), database)
            }
            _ => return Err(EXPECTED),
        };
        let port = if matches!(form, RedisForm::Sentinel(_)) { 26_379 } else { 6_379 };
        let hosts = hosts.split(',').map(|it| host(it, port)).collect::<Result<Vec<_>, _>>()?;
        if form == RedisForm::Single && hosts.len() > 1 {
            return Err("several hosts are \"redis+sentinel\" or \"redis+cluster\"");
        }
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| "expected the number of a database")?,
        };
        let (user, password) = match credentials.map(|it| it.split_once(':').unwrap_or((it, ""))) {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => Default::default(),
        };
        let user = Some(user).filter(|user| !user.is_empty());
        let password = Some(password).filter(|it| !it.is_empty()).map(Secret::new);
        Ok(Self { form, tls, hosts, user, password, database })
    }
}

fn host(text: &str, port: u16) -> Result<(String, u16), &'static str> {
    const WRONG: &str = "expected host:port behind \"redis://\"";
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(WRONG)?;
            match rest.strip_prefix(':') {
                Some(port) => (host, port.parse().map_err(|_| WRONG)?),
                None if rest.is_empty() => (host, port),
                None => return Err(WRONG),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| WRONG)?),
            None => (text, port),
        },
    };
    let is_sound = |letter: char| letter.is_ascii_alphanumeric() || ".-_:".contains(letter);
    if host.is_empty() || port == 0 || !host.chars().all(is_sound) {
        return Err(WRONG);
    }
    Ok((host.to_owned(), port))
}

fn decoded(text: &str) -> Result<String, &'static str> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().map(Cow::into_owned);
    decoded.map_err(|_| "a Redis URL holds bytes that are no text")
}

/// Without name and password.
impl fmt::Display for LedgerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Redis(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, master) = match &self.form {
            RedisForm::Single => ("", None),
            RedisForm::Sentinel(master) => ("+sentinel", Some(master)),
            RedisForm::Cluster => ("+cluster", None),
        };
        write!(f, "redis{}{form}://", if self.tls { "s" } else { "" })?;
        for (index, (host, port)) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        if let Some(master) = master {
            write!(f, "/{master}")?;
        }
        if self.database > 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

const EXPECTED: &str = "expected \"memory\", \"file:/…\", or a \"redis://…\" URL (rediss, redis+sentinel, redis+cluster)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_their_passwords() {
        let check = |text: &str, expected: &str| {
            assert_eq!(LedgerAddress::parse(text).unwrap().to_string(), expected, "{text}");
        };
        check("memory", "memory");
        check("file:/var/lib/x.redb", "file:/var/lib/x.redb");
        check("file:///var/lib/x.redb", "file:/var/lib/x.redb");
        check("file:/var/x:/y.redb+sentinel://a,b/0.", "file:/var/x:/y.redb+sentinel://a,b/0.");
        check("redis://h", "redis://h:6379");
        check("redis://u:p%40@h:7/3", "redis://h:7/3");
        check("rediss://:p@[::1]:7", "rediss://[::1]:7");
        check("redis+sentinel://a,b:5/main", "redis+sentinel://a:26379,b:5/main");
        check("rediss+sentinel://a/main/2", "rediss+sentinel://a:26379/main/2");
        check("redis+cluster://a,b:5", "redis+cluster://a:6379,b:5");
    }

    #[test]
    fn name_and_password_are_decoded_and_not_shown() {
        let LedgerAddress::Redis(address) = LedgerAddress::parse("redis://an:p%40s:s@h").unwrap()
        else {
            panic!("a Redis URL")
        };
        assert_eq!(address.user.as_deref(), Some("an"));
        assert_eq!(address.password, Some(Secret::new("p@s:s")));
        assert!(!format!("{address:?}").contains("p@s"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "disk",
            "file:",
            "file:relative.redb",
            "file:/",
            "redis:h",
            "redis://",
            "redis://h:x",
            "redis://h:0",
            "redis://h/x",
            "redis://a,b",
            "redis://h?db=1",
            "redis://h y",
            "redis+sentinel://h",
            "redis+cluster://h/1",
            "redis+unix://h",
            "valkey://h",
            "redis://%ff@h",
        ] {
            assert!(LedgerAddress::parse(text).is_err(), "{text}");
        }
    }
}
