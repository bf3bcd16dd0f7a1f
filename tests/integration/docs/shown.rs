//! What the pages show, done: questions to `explain`, commands in a real shell with what they print,
//! and links.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use foregate_tests::program;
use serde_json::Value;

use super::{anchor, pages};
use crate::recipes::{Folder, SECRET, blocks, completed, payload, recipes};

/// Their commands stand in shells; those of rules.md are run by `recipes`.
const PAGES: [&str; 4] =
    ["README.md", "docs/migrate.md", "docs/reference.md", "docs/troubleshooting.md"];

#[test]
fn every_question_is_answered_as_the_page_says() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for page in ["docs/migrate.md", "docs/troubleshooting.md"] {
        for mut recipe in recipes(&pages()[page]) {
            // A shell runs them below.
            recipe.commands.clear();
            recipe.questions.retain(|line| line.contains('→'));
            count += recipe.questions.len();
            recipe.ask(&mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 12, "only {count} questions");
}

#[test]
fn every_command_prints_what_the_page_says() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    each_shell(|page, shell, language, text| {
        if language != "console" {
            return;
        }
        for command in text.split("\n$ ") {
            let command = command.trim_start_matches("$ ");
            let (line, expected) = command.split_once('\n').unwrap_or((command, ""));
            let output = shell.run(&format!("{{ {line} ; }} 2>&1"));
            let printed = String::from_utf8_lossy(&output.stdout);
            if printed.trim_end() != expected.trim_end() {
                wrong.push(format!("{page}: {line}\n{printed}"));
            }
            count += 1;
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 10, "only {count} commands");
}

#[test]
fn every_example_for_a_shell_works() {
    let mut count = 0;
    each_shell(|page, shell, language, text| {
        // What cargo does here is to run this test.
        let lines = text.lines().filter(|line| !line.starts_with("cargo "));
        for line in lines.filter(|_| language == "sh") {
            // A proxy that runs is the subject of most other tests.
            let line = line.replace("foregate run", "foregate check");
            let output = shell.run(&line);
            assert!(output.status.success(), "{page}: {line}: {output:?}");
            count += 1;
        }
    });
    assert!(count >= 3, "only {count} commands");
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    for (page, markdown) in &pages {
        for link in markdown.split("](").skip(1) {
            let Some((link, _)) = link.split_once(')') else { continue };
            if link.contains("://") || link.contains([' ', '\n']) {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
            let target = match (file, folder) {
                ("", _) => page.clone(),
                (file, "") => file.to_owned(),
                (file, folder) => format!("{folder}/{file}"),
            };
            assert!(super::path(&target).exists(), "{page}: {link}");
            let Some(text) = pages.get(&target).filter(|_| !heading.is_empty()) else { continue };
            let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
            let mut anchors = headings.map(|text| anchor(text.trim_start_matches('#').trim()));
            assert!(anchors.any(|known| known == heading), "{page}: {link}");
        }
    }
}

/// Calls `visit` with each block for a shell, and with a shell whose folder holds the configuration
/// above it, the visitors' claims, and somebody's cookie.
fn each_shell(mut visit: impl FnMut(&str, &Shell, &str, &str)) {
    for page in PAGES {
        let pages = pages();
        let mut shell = Shell::new(SOUND);
        for block in blocks(&pages[page]) {
            match block.language() {
                "toml" => shell = Shell::new(&completed(block.text)),
                "json" => shell.add_visitors(&serde_json::from_str(block.text).unwrap()),
                language @ ("console" | "sh") => {
                    visit(page, &shell, language, block.text.trim_end());
                }
                _ => {}
            }
        }
    }
}

struct Shell(Folder);

impl Shell {
    fn new(config: &str) -> Self {
        let shell = Self(Folder::new(config));
        shell.add_visitors(&serde_json::json!({ "session": { "session": { "sub": "1" } } }));
        symlink(program(), shell.0.path("foregate")).unwrap();
        let mint = "NEXTAUTH_SECRET=another-secret-0123456789-abcdefgh \
                    foregate session mint --claims session.json > cookie.txt";
        let minted = shell.run(mint);
        assert!(minted.status.success(), "{minted:?}\n{config}");
        shell
    }

    fn add_visitors(&self, visitors: &Value) {
        for (name, claims) in visitors.as_object().unwrap() {
            self.0.write(&format!("{name}.json"), &payload(claims));
        }
    }

    fn run(&self, line: &str) -> Output {
        let folder = self.0.path("");
        let path = std::env::var("PATH").unwrap();
        Command::new("sh")
            .args(["-c", line])
            .current_dir(&folder)
            .env_clear()
            .env("PATH", format!("{folder}:{path}"))
            .envs(["NEXTAUTH_SECRET", "SECRET"].map(|name| (name, SECRET)))
            .output()
            .unwrap()
    }
}

/// For pages that show a command before any configuration.
const SOUND: &str = r#"[server]
trusted_proxies = ["10.0.4.16"]
[session]
secrets = [{ env = "NEXTAUTH_SECRET" }]
domain = ".example.com"
[login]
url = "https://auth.example.com/login"
[[app]]
host = "app.example.com"
upstream = "http://127.0.0.1:3000"
"#;
