//! What is wrong with Redis, for the operator. Never in the server's own words: one that does not
//! know a command repeats it, the password of `HELLO` and `AUTH` included.

use redis::{ErrorKind, RedisError};

pub(super) fn in_words(error: &RedisError) -> String {
    let text = error.to_string();
    match error.kind() {
        ErrorKind::Io if text.contains("InvalidContentType") => {
            "it does not speak TLS: redis:// may be meant".to_owned()
        }
        // Of the connection, and written on this side of it.
        ErrorKind::Io => text,
        // So is this, with its kind behind it.
        ErrorKind::Client if error.detail().is_none() => {
            text.split(" - ").next().unwrap_or_default().to_owned()
        }
        ErrorKind::Parse => "what answers there is no Redis, or wants TLS: rediss://".to_owned(),
        ErrorKind::MasterNameNotFoundBySentinel => {
            "the sentinels know no master of this name".to_owned()
        }
        ErrorKind::RESP3NotSupported => TOO_OLD.to_owned(),
        _ if text.contains("unknown command") && text.contains("HELLO") => TOO_OLD.to_owned(),
        _ => {
            let is = |code: &str| error.code() == Some(code) || has_word(&text, code);
            match CODES.iter().find(|(code, _)| is(code)) {
                Some((code, meaning)) => format!("{code}: {meaning}"),
                None => format!("it refuses a command: {}", error.category()),
            }
        }
    }
}

const TOO_OLD: &str = "it does not know HELLO: Redis 6 or newer is needed";

/// What Redis calls an error in its first word, and what that comes to.
const CODES: [(&str, &str); 11] = [
    ("WRONGPASS", "the name or the password is wrong"),
    ("NOAUTH", "it wants a password"),
    ("NOPERM", "the user lacks a right"),
    ("OOM", "its memory is full"),
    ("NOREPLICAS", "too few replicas are there"),
    ("MISCONF", "it cannot save, and takes nothing new"),
    ("READONLY", "it is a replica"),
    ("LOADING", "it is loading"),
    ("MASTERDOWN", "its master is away"),
    ("CLUSTERDOWN", "a part of the cluster is away"),
    ("BUSY", "it is busy with a script"),
];

fn has_word(text: &str, word: &str) -> bool {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|it| it == word)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn said(line: &str) -> String {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .and_then(redis::Value::extract_error)
            .unwrap_err();
        in_words(&error)
    }

    #[test]
    fn a_server_that_repeats_the_password_is_not_repeated() {
        let line = "ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'u' 'PW'";
        assert_eq!(said(line), TOO_OLD);
        for line in ["ERR unknown command 'AUTH', with args beginning with: 'u' 'PW'", "PW PW"] {
            assert!(!said(line).contains("PW"), "{line}: {}", said(line));
        }
        assert_eq!(said("ERR something 'PW'"), "it refuses a command: response error");
    }

    #[test]
    fn what_operators_look_up_is_named() {
        assert_eq!(
            said("WRONGPASS invalid username-password pair or user is disabled."),
            "WRONGPASS: the name or the password is wrong"
        );
        assert_eq!(said("OOM command not allowed"), "OOM: its memory is full");
        assert_eq!(said("LOADING Redis is loading"), "LOADING: it is loading");
        let refused = RedisError::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(in_words(&refused), "connection refused");
        let replica = RedisError::from((ErrorKind::Client, "the server is a replica"));
        assert_eq!(in_words(&replica), "the server is a replica");
    }
}
