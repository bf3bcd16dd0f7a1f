//! The commands, as scripts use them: their JSON and their exit codes.

mod help;
mod slips;

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
            "issued_at": null,
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
fn decode_tells_a_person_what_opened_until_when_and_why_another_does_not_count() {
    let config = Config::new("person", "");
    let claims = r#"{"sub":"1","accessToken":"a","accessTokenExpiry":1767225500,"exp":1767398400}"#;
    let sealed = cookie_header(V4, &seal_v4(SECRET, claims, random()));
    let header = format!("{sealed}; next-auth.session-token-x=1; authjs.session-token=junk");
    let told = config.run(&["session", "decode", "--now", NOW], &header);
    let told = String::from_utf8(told.stdout).unwrap();
    let lines = [
        "next-auth.session-token opens: next-auth-v4, secret 0",
        "session ends      1767398400, in 2 days",
        "access token ends 1767225500, 100 seconds ago: ended",
        "not taken: authjs.session-token: not a compact JWE with a direct key",
        "not taken: next-auth.session-token-x: its name only resembles that of a session cookie",
    ];
    for line in lines {
        assert!(told.lines().any(|told| told == line), "{line}\n{told}");
    }
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
fn a_warning_stops_a_deployment_that_asks_for_it() {
    let check = |session: &str, code: i32, ok: bool| {
        let config = Config::new("deny", session);
        let (found, checked) = config.json(&["check", "--json", "--deny-warnings"], "");
        assert_eq!((found, &checked["ok"]), (Some(code), &json!(ok)), "{checked}");
    };
    // The literal secret is warned of.
    check("", 2, true);
    check("domian = 1", 2, false);
    let sound = Config::new("deny", "");
    std::fs::write(&sound.0, WITHOUT_A_WARNING).unwrap();
    let checked = sound.run(&["check", "--deny-warnings"], "");
    assert!(checked.status.success(), "{checked:?}");
}

/// `PATH` is as good a variable as any other that is there.
const WITHOUT_A_WARNING: &str = r#"
session.secrets = [{ env = "PATH" }]
session.allow_weak_secret = false
login.url = "https://app.example.com/login"
server.trusted_proxies = ["10.0.0.0/8"]
[[app]]
host = "app.example.com"
upstream = "http://127.0.0.1:1"
access = "public"
"#;

#[test]
fn a_ledger_that_could_not_be_written_is_told_before_the_start() {
    let folder = std::env::temp_dir().join(format!("foregate-ledger-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("inside")).unwrap();
    let config = Config::new("ledger", "");
    let text = std::fs::read_to_string(&config.0).unwrap();
    let check = |file: &str, expected: Option<&str>| {
        let path = folder.join(file);
        let ledger = format!("[refresh]\nledger = \"file:{}\"\n{text}", path.display());
        std::fs::write(&config.0, ledger).unwrap();
        let (code, checked) = config.json(&["check", "--json"], "");
        let mut problems = checked["problems"].as_array().unwrap().iter();
        let told = problems.find(|problem| problem["key"] == "refresh.ledger");
        assert_eq!((code, told.is_some()), (Some(0), expected.is_some()), "{file}: {checked}");
        let Some((told, expected)) = told.zip(expected) else { return };
        assert!(told["severity"] == "warning" && told["message"].as_str() == Some(expected));
        assert!(told["hint"].as_str().unwrap().contains("another one than who runs `check`"));
    };
    check("ledger.redb", None);
    std::fs::write(folder.join("there.redb"), "as it is").unwrap();
    check("there.redb", None);
    check("inside", Some("this is a directory, and a file is expected"));
    let none = format!("there is no directory {}", folder.join("nowhere").display());
    check("nowhere/ledger.redb", Some(&none));
    // Not even root makes files there.
    let message = "whoever asks here may not write it: permission denied";
    check("/sys/ledger.redb", Some(message));
    let left = std::fs::read_dir(&folder).unwrap().count();
    let kept = std::fs::read_to_string(folder.join("there.redb")).unwrap();
    assert_eq!((left, &*kept), (2, "as it is"), "the check leaves nothing behind");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_probe_takes_nothing_but_the_admin_listener_s_own_word_for_ready() {
    let check = |answer: &'static str, code: i32, expected: &str| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let (found, told) = alone(&["health", "--admin", &address]);
        answering.join().unwrap();
        assert!(found == Some(code) && told.contains(expected), "{answer}: {found:?} {told}");
    };
    let stranger = "is no admin listener of Foregate";
    check("HTTP/1.1 200 OK\r\n\r\nready\n", 0, "ready");
    check("HTTP/1.1 200 OK\r\n\r\n[+] listener http\nready\n", 0, "[+] listener http");
    check("HTTP/1.1 200 OK\r\n\r\n<h1>It works!</h1>", 1, stranger);
    check("HTTP/1.1 200 OK\r\n\r\nalready", 1, stranger);
    check("HTTP/1.1 200 OK\r\n\r\n", 1, stranger);
    check("HTTP/1.1 503 No\r\n\r\nnot ready: stopping\n", 1, "not ready: stopping");
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

/// Runs the program without a configuration.
fn alone(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program()).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The names of an object's members.
fn members(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn scripts_find_every_member_that_the_contract_names_and_null_where_it_says_so() {
    let has = |value: &Value, names: &[&str]| {
        let found = members(value);
        for name in names {
            assert!(found.contains(name), "{name} is missing: {value}");
        }
    };
    let config = Config::new("members", "secure = false\nsame_site = \"strictly\"");
    let (_, checked) = config.json(&["check", "--json"], "");
    assert_eq!(members(&checked), ["ok", "problems"]);
    let problem = ["column", "file", "hint", "key", "line", "message", "severity"];
    assert_eq!(members(&checked["problems"][0]), problem);

    let config = Config::new("members", "[login]\nurl = \"https://login.example.com/\"");
    let of_explain = [
        "app", "rule", "access", "roles", "decision", "reason", "status", "location", "path",
        "session", "upstream", "notes",
    ];
    let url = "https://app.example.com/a";
    let (code, refused) = config.json(&["explain", "--json", url], "");
    has(&refused, &of_explain);
    assert_eq!(
        (code, &refused["decision"]),
        (Some(0), &json!("refuse")),
        "saying no is no failure"
    );
    let nothing = [&refused["rule"], &refused["session"], &refused["upstream"]];
    assert_eq!(nothing, [&Value::Null; 3]);
    assert_eq!((&refused["location"], &refused["access"]), (&Value::Null, &json!("session")));
    let (_, lost) = config.json(&["explain", "--json", "https://elsewhere.example/"], "");
    has(&lost, &of_explain);
    assert_eq!((&lost["app"], &lost["access"]), (&Value::Null, &Value::Null));

    let claims = json!({ "sub": "1", "accessToken": "opaque", "exp": 1_767_229_200 });
    let cookie = cookie_header(V4, &seal_v4(SECRET, &claims.to_string(), random()));
    let asked = ["explain", "--json", "--now", NOW, "--cookie", &cookie, url];
    let (_, passed) = config.json(&asked, "");
    has(&passed, &of_explain);
    has(&passed["upstream"], &["url", "set", "remove"]);
    let session = [
        "name",
        "format",
        "secret",
        "subject",
        "roles",
        "expires_at",
        "access_expires_at",
        "freshness",
    ];
    has(&passed["session"], &session);
    assert_eq!(passed["session"]["access_expires_at"], Value::Null, "nothing tells it");

    let decode = ["session", "decode", "--json", "--now", NOW];
    let (_, opened) = config.json(&decode, &cookie);
    let of_opened = [
        "opened",
        "name",
        "format",
        "secret",
        "claims",
        "expires_at",
        "access_expires_at",
        "freshness",
        "others",
    ];
    has(&opened, &of_opened);
    let (_, closed) = config.json(&decode, "");
    has(&closed, &["opened", "reason", "others"]);
}

#[test]
fn an_upstream_behind_a_socket_is_told_apart_from_the_path() {
    let config = Config::new("socket", "[login]\nurl = \"https://login.example.com/\"");
    let text = std::fs::read_to_string(&config.0).unwrap();
    std::fs::write(&config.0, text.replace("http://127.0.0.1:1", "unix:/run/app.sock")).unwrap();
    let asked = ["explain", "--json", "--role", "a", "https://app.example.com/a/b?c=1"];
    let (_, told) = config.json(&asked, "");
    assert_eq!(told["upstream"]["url"], "unix:/run/app.sock:/a/b?c=1");
}

#[test]
fn bash_completes_commands_flags_and_words() {
    let (code, script) = alone(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    if Command::new("bash").arg("--version").output().is_err() {
        eprintln!("left out: there is no bash");
        return;
    }
    let check = |line: &str, expected: &[&str], unexpected: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        // What bash itself sets before it calls a completion function, and reads after it.
        let ask = format!(
            "{script}\ncomplete -p foregate >/dev/null || exit 1\nCOMP_WORDS=({})\nCOMP_CWORD={}\n\
             _foregate foregate \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            quoted.join(" "),
            words.len() - 1
        );
        let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let offered: Vec<&str> = printed.lines().collect();
        for word in expected {
            assert!(offered.contains(word), "{line:?} offers {offered:?}, not {word}");
        }
        assert!(!offered.contains(&unexpected), "{line:?} offers {offered:?}");
    };
    check("foregate ex", &["explain"], "run");
    check("foregate session ", &["decode", "mint"], "explain");
    check("foregate session mint --fo", &["--format"], "--claims");
    check("foregate session mint --format ", &["next-auth-v4", "authjs-v5"], "--format");
    check("foregate completions ", &["bash", "zsh", "fish"], "explain");
    check("foregate explain --c", &["--config", "--cookie", "--claims"], "--method");
}

#[test]
fn the_other_shells_have_scripts_of_their_own() {
    for (shell, start) in [("zsh", "#compdef foregate"), ("fish", "# Print an optspec")] {
        let (code, script) = alone(&["completions", shell]);
        assert_eq!(code, Some(0));
        assert!(script.starts_with(start), "{shell}: {}", &script[..80]);
        assert!(script.contains("explain") && script.contains("set-cookie"), "{shell}");
    }
    let (code, told) = alone(&["completions", "tcsh"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("bash") && told.contains("fish"), "{told}");
}
