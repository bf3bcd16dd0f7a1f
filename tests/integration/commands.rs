//! The commands, as scripts use them: their JSON and their exit codes.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use foregate_stage::{SECRET, cookie_header, random, seal_v4, seal_v5};
use foregate_tests::program;
use serde_json::{Value, json};

const NOW: &str = "1767225600";
const V4: &str = "next-auth.session-token";

/// A configuration file that goes with this value.
struct Config(PathBuf);

impl Config {
    fn new(name: &str, session: &str) -> Self {
        let text = format!(
            "[session]\nsecrets = [\"{SECRET}\"]\n{session}\n[[app]]\nhost = \"app.example.com\"\n\
             upstream = \"http://127.0.0.1:1\"\n"
        );
        let file = format!("foregate-commands-{name}-{}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn run(&self, arguments: &[&str], stdin: &str) -> Output {
        let mut child = Command::new(program())
            .args(arguments)
            .arg("--config")
            .arg(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn json(&self, arguments: &[&str], stdin: &str) -> (Option<i32>, Value) {
        let output = self.run(arguments, stdin);
        let value = serde_json::from_slice(&output.stdout);
        let value = value.unwrap_or_else(|why| panic!("{why}: {output:?}"));
        (output.status.code(), value)
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn decode_shows_the_session_whole_and_the_others_by_name() {
    let config = Config::new("decode", "");
    let claims = json!({
        "sub": "1", "accessToken": "opaque", "accessTokenExpiry": 1_767_225_630_000_u64,
        "refreshToken": "r", "exp": 1_767_229_200, "unknown": { "deep": [1, null] },
    });
    let sealed = seal_v4(SECRET, &claims.to_string(), random());
    let header = format!("authjs.session-token=junk; {}; a=b", cookie_header(V4, &sealed));
    let decode = ["session", "decode", "--json", "--now", NOW];
    let (code, decoded) = config.json(&decode, &header);
    assert_eq!(code, Some(0));
    assert_eq!(
        decoded,
        json!({
            "opened": true, "name": V4, "format": "next-auth-v4", "secret": 0, "claims": claims,
            "expires_at": 1_767_229_200, "access_expires_at": 1_767_225_630, "freshness": "due",
            "others": [{ "name": "authjs.session-token", "reason": "invalid" }],
        })
    );

    let bare = ["session", "decode", "--json", "--now", NOW, "--name", "authjs.session-token"];
    let token = seal_v5(SECRET, "authjs.session-token", r#"{"sub":"2"}"#, random());
    let (code, decoded) = config.json(&bare, &format!("{token}\n"));
    assert_eq!((code, &decoded["format"]), (Some(0), &json!("authjs-v5")));
    assert_eq!((&decoded["claims"]["sub"], &decoded["freshness"]), (&json!("2"), &json!("fresh")));
}

#[test]
fn decode_tells_apart_why_nothing_opened() {
    let config = Config::new("reasons", "");
    let check = |header: &str, reason: &str| {
        let decode = ["session", "decode", "--json", "--now", NOW];
        let (code, decoded) = config.json(&decode, header);
        let expected = (Some(1), &json!(false), &json!(reason));
        assert_eq!((code, &decoded["opened"], &decoded["reason"]), expected, "{header}");
    };
    let sealed = |claims: &str| cookie_header(V4, &seal_v4(SECRET, claims, random()));
    check("", "absent");
    check("a=b", "absent");
    check(&format!("{V4}=junk"), "invalid");
    check(&sealed(r#"{"sub":"1","exp":1767225585}"#), "expired");
    check(&sealed(r#"{"sub":"1","nbf":1767225616}"#), "not_yet_valid");
}

#[test]
fn what_mint_writes_decode_opens() {
    let claims = r#"{"sub":"1","email":"ada@example.com","n":12345678901234567890}"#;
    for (session, format, name) in [
        ("secure = false", "next-auth-v4", V4),
        ("secure = false", "authjs-v5", "authjs.session-token"),
        ("", "next-auth-v4", "__Secure-next-auth.session-token"),
        ("", "authjs-v5", "__Secure-authjs.session-token"),
        ("cookie = \"acme.sso\"", "authjs-v5", "acme.sso"),
    ] {
        let config = Config::new("mint", session);
        let mint = ["session", "mint", "--claims", "-", "--format", format, "--now", NOW];
        let minted = config.run(&mint, claims);
        assert!(minted.status.success(), "{minted:?}");
        let header = String::from_utf8(minted.stdout).unwrap();
        assert!(header.starts_with(&format!("{name}=")), "{header}");
        let decode = ["session", "decode", "--json", "--now", NOW];
        let (_, decoded) = config.json(&decode, &header);
        assert_eq!((&decoded["name"], &decoded["format"]), (&json!(name), &json!(format)));
        let opened = &decoded["claims"];
        assert_eq!(opened["n"].to_string(), "12345678901234567890");
        assert_eq!(opened["exp"].as_u64(), Some(1_767_225_600 + 30 * 24 * 3600));

        let lines = config.run(&[&mint[..], &["--set-cookie"]].concat(), claims);
        let lines = String::from_utf8(lines.stdout).unwrap();
        assert!(lines.starts_with(&format!("Set-Cookie: {name}=")), "{lines}");
        assert!(lines.contains("; HttpOnly") && lines.contains("; SameSite=Lax"), "{lines}");
    }
}

#[test]
fn check_lists_every_problem_and_says_by_its_code_whether_it_can_be_used() {
    let good = Config::new("good", "secure = false\ndomain = \".example.com\"");
    let (code, checked) = good.json(&["check", "--json"], "");
    assert_eq!((code, &checked["ok"]), (Some(0), &json!(true)));
    let severities: Vec<_> =
        checked["problems"].as_array().unwrap().iter().map(|p| &p["severity"]).collect();
    assert!(severities.iter().all(|severity| **severity == "warning"), "{checked}");

    let bad = Config::new("bad", "domian = \"x\"\nmax_age = \"soon\"");
    let (code, checked) = bad.json(&["check", "--json"], "");
    assert_eq!((code, &checked["ok"]), (Some(2), &json!(false)));
    let problems = checked["problems"].as_array().unwrap();
    let of = |key: &str| problems.iter().find(|problem| problem["key"] == key).unwrap();
    let unknown = of("session.domian");
    assert_eq!((&unknown["severity"], &unknown["line"]), (&json!("error"), &json!(3)));
    assert!(unknown["hint"].as_str().unwrap().contains("domain"), "{unknown}");
    assert_eq!(
        (&of("session.max_age")["line"], &of("session.max_age")["column"]),
        (&json!(4), &json!(11))
    );
}

#[test]
fn a_bad_configuration_starts_nothing() {
    let bad = Config::new("start", "format = \"v3\"");
    let output = bad.run(&["run"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("session.format"), "{output:?}");
    let usage = Command::new(program()).arg("--nonsense").output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn a_port_that_is_taken_is_a_clear_failure() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = Config::new("taken", &format!("[server]\nhttp = \"{address}\""));
    let output = config.run(&["run"], "");
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains(&format!("cannot listen on {address}")), "{stderr}");
}

/// A JSON value as TOML writes it on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| format!("{name} = {}", toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

#[test]
fn every_matcher_that_nextjs_rejects_is_refused_with_words() {
    let vectors = include_str!("../vectors/path-matcher.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let rejected = vectors["rejected"].as_array().unwrap();
    for vector in rejected {
        let config = Config::new("rejected", "");
        let text = std::fs::read_to_string(&config.0).unwrap();
        let matcher = format!("{text}matcher = {}\n", toml(&vector["matcher"]));
        std::fs::write(&config.0, matcher).unwrap();
        let (code, checked) = config.json(&["check", "--json"], "");
        assert_eq!(code, Some(2), "{vector}");
        let about = |problem: &&Value| {
            let key = problem["key"].as_str().unwrap_or_default();
            problem["severity"] == "error" && key.starts_with("app[0].matcher")
        };
        let problem = checked["problems"].as_array().unwrap().iter().find(about);
        let problem = problem.unwrap_or_else(|| panic!("{vector}: {checked}"));
        assert!(problem["line"].is_u64() && problem["message"].is_string(), "{problem}");
    }
    assert_eq!(rejected.len(), 24);
}
