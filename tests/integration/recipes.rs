//! The documents, held to the program: the recipes and tables of docs/rules.md are asked through
//! `foregate explain`, and every configuration on any page is one that `foregate check` takes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64URL, Engine};
use foregate_tests::{Certificates, program};
use serde_json::{Value, json};

const RULES: &str = include_str!("../../docs/rules.md");

#[test]
fn every_recipe_answers_as_the_page_says() {
    let recipes = recipes(RULES);
    let mut wrong = Vec::new();
    for recipe in &recipes {
        recipe.ask(&mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let asked: Vec<usize> =
        recipes.iter().map(|recipe| recipe.questions.len()).filter(|count| *count > 0).collect();
    let (recipes, questions) = (asked.len(), asked.iter().sum::<usize>());
    assert!(recipes >= 10 && questions >= 50, "only {recipes} recipes with {questions} questions");
}

#[test]
fn a_pattern_takes_what_the_tables_say() {
    let rows = table_rows(RULES, "| pattern | takes | does not take |");
    assert!(rows.len() >= 12, "only {} patterns", rows.len());
    for row in rows {
        let [pattern, takes, takes_not] = &row[..] else { panic!("{row:?}") };
        let [pattern] = &code_spans(pattern)[..] else { panic!("{row:?}") };
        let config = completed(&format!("access = 'public'\n[[app.rule]]\npath = '{pattern}'\n"));
        let folder = Folder::new(&config);
        let check = |path: &str, expected: &str| {
            let url = format!("https://app.example.com{path}");
            let told = folder.json(&["explain", "--json", &url]);
            assert_eq!(told["access"], expected, "{pattern} {path}: {told}");
        };
        code_spans(takes).iter().for_each(|path| check(path, "session"));
        code_spans(takes_not).iter().for_each(|path| check(path, "public"));
    }
}

#[test]
fn look_around_is_taken_as_the_page_says() {
    let is_taken = |pattern: &str| {
        let rule = format!("[[app.rule]]\npath = '{pattern}'\n");
        Folder::new(&completed(&rule)).json(&["check", "--json"])["ok"] == true
    };
    let rows = table_rows(RULES, "| instead of | write |");
    assert!(rows.len() >= 4, "only {} patterns", rows.len());
    for row in rows {
        let [refused, instead] = &row[..] else { panic!("{row:?}") };
        let [refused] = &code_spans(refused)[..] else { panic!("{row:?}") };
        assert!(!is_taken(refused), "{refused}");
        for pattern in code_spans(instead).iter().filter(|span| span.starts_with('/')) {
            assert!(is_taken(pattern), "{pattern}");
        }
    }
}

#[test]
fn every_configuration_on_a_page_can_be_used() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let certificates = Certificates::covering(&["*.example.com"]);
    let mut count = 0;
    for page in docs.filter(is_page).chain([root.join("README.md")]) {
        let markdown = std::fs::read_to_string(&page).unwrap();
        for block in blocks(&markdown).filter(|block| block.language() == "toml") {
            let usable = with_files(&completed(block.text), &certificates);
            let checked = Folder::new(&usable).json(&["check", "--json"]);
            let page = page.display();
            assert_eq!(checked["ok"], true, "{page}: {checked:#}\n{}", block.text);
            count += 1;
        }
    }
    assert!(count >= 15, "only {count} configurations");
}

/// A configuration, who asks, and what is asked, as they stand in this order on the page.
pub(crate) struct Recipe<'a> {
    toml: &'a str,
    /// Whether `check` warns of it.
    warned: bool,
    /// By name: the claims of the session and of the access token in it.
    visitors: Value,
    /// Lines such as `GET https://app.example.com/admin role=editor → refuse role_missing 403`.
    pub(crate) questions: Vec<&'a str>,
    /// Commands and what they print.
    pub(crate) commands: Vec<&'a str>,
}

pub(crate) fn recipes(markdown: &str) -> Vec<Recipe<'_>> {
    let mut recipes: Vec<Recipe<'_>> = Vec::new();
    for Block { info, text } in blocks(markdown) {
        match info {
            "toml recipe" | "toml recipe warned" => recipes.push(Recipe {
                toml: text,
                warned: info.ends_with(" warned"),
                visitors: json!({}),
                questions: Vec::new(),
                commands: Vec::new(),
            }),
            "json" => last(&mut recipes).visitors = serde_json::from_str(text).unwrap(),
            "text" => {
                let lines = text.lines().filter(|line| !line.trim().is_empty());
                last(&mut recipes).questions.extend(lines);
            }
            "console" => last(&mut recipes).commands.push(text),
            _ => {}
        }
    }
    recipes
}

fn last<'r, 'a>(recipes: &'r mut [Recipe<'a>]) -> &'r mut Recipe<'a> {
    recipes.last_mut().expect("a recipe stands above its questions")
}

impl Recipe<'_> {
    /// Asks everything, and adds what is answered otherwise to `wrong`.
    pub(crate) fn ask(&self, wrong: &mut Vec<String>) {
        let folder = Folder::new(self.toml);
        let checked = folder.json(&["check", "--json"]);
        if checked["ok"] != true || (checked["problems"] != json!([])) != self.warned {
            wrong.push(format!("{checked:#}\n{}", self.toml));
        }
        folder.write("session.json", &json!({ "sub": "somebody" }).to_string());
        for (name, claims) in self.visitors.as_object().unwrap() {
            folder.write(&format!("{name}.json"), &payload(claims));
        }
        for question in &self.questions {
            let (request, expected) = question.split_once('→').unwrap();
            let told = folder.json(&arguments(request, &folder));
            if let Err(answer) = self.compare(&told, expected.trim()) {
                wrong.push(format!("{question}\n    but {answer}: {told}"));
            }
        }
        for command in &self.commands {
            let (line, expected) = command.split_once('\n').unwrap_or((command, ""));
            let arguments: Vec<&str> =
                line.trim_start_matches("$ foregate ").split_whitespace().collect();
            let output = folder.run(&arguments);
            let printed = String::from_utf8(output.stdout).unwrap();
            if printed.trim_end() != expected.trim_end() {
                wrong.push(format!("{line} prints\n{printed}"));
            }
        }
    }

    /// Holds what `explain` told against `pass` or `refuse REASON STATUS`, and against the rule
    /// behind `by`. The error is what was told.
    fn compare(&self, told: &Value, expected: &str) -> Result<(), String> {
        let (expected, by) = match expected.split_once(" by ") {
            Some((expected, by)) => (expected, Some(by)),
            None => (expected, None),
        };
        let text = |member: &str| told[member].as_str().unwrap_or_default();
        let answer = match text("decision") {
            "refuse" => format!("refuse {} {}", text("reason"), told["status"]),
            decision => decision.to_owned(),
        };
        let is_redirect = told["status"].as_u64().is_some_and(|status| status / 100 == 3);
        let is_whole = told["upstream"].is_object() == (answer == "pass")
            && told["location"].is_string() == is_redirect;
        let is_by = by.is_none_or(|by| self.is_rule(&told["rule"], by));
        if answer == expected && is_whole && is_by {
            Ok(())
        } else {
            Err(format!("{answer} by {}", told["rule"]))
        }
    }

    /// Whether `rule` has the pattern `by`, and its line is where that rule begins in the file.
    fn is_rule(&self, rule: &Value, by: &str) -> bool {
        if by == "access" {
            return rule.is_null();
        }
        let (Some(path), Some(line)) = (rule["path"].as_str(), rule["line"].as_u64()) else {
            return false;
        };
        let start = usize::try_from(line).unwrap() - 1;
        let mut lines = self.toml.lines().skip(start);
        let first = lines.next().unwrap_or_default();
        let rest = lines.take_while(|line| !line.starts_with('['));
        let quoted = format!("\"{by}\"");
        path.split(", ").any(|pattern| pattern == by)
            && (first.starts_with("[[app.rule]]") || first.contains(&quoted))
            && std::iter::once(first).chain(rest).any(|line| line.contains(&quoted))
    }
}

/// The arguments of `explain` for `METHOD URL`, and the words behind them.
fn arguments(request: &str, folder: &Folder) -> Vec<String> {
    let mut words = request.split_whitespace();
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let mut arguments =
        Vec::from(["explain", "--json", "--method", method, url].map(str::to_owned));
    let mut mode = "navigate";
    for word in words {
        let (name, value) = match word.split_once('=') {
            None if word == "fetch" => {
                mode = "cors";
                continue;
            }
            None => ("--claims", folder.path(&format!("{word}.json"))),
            Some(("as", visitor)) => ("--claims", folder.path(&format!("{visitor}.json"))),
            Some(("role", role)) => ("--role", role.to_owned()),
            Some((header, value)) => ("--header", format!("{header}: {value}")),
        };
        arguments.extend([name.to_owned(), value]);
    }
    arguments.extend(["--header".to_owned(), format!("Sec-Fetch-Mode: {mode}")]);
    arguments
}

/// A session's payload with the access token inside; nobody checks the signature of that.
pub(crate) fn payload(visitor: &Value) -> String {
    let mut claims = visitor["session"].clone();
    if let Some(token) = visitor.get("access_token") {
        let [header, body] =
            [&json!({ "alg": "RS256" }), token].map(|part| BASE64URL.encode(part.to_string()));
        claims["accessToken"] = json!(format!("{header}.{body}.signature"));
    }
    claims.to_string()
}

/// A fenced block of a page.
pub(crate) struct Block<'a> {
    /// What stands behind the opening fence.
    pub(crate) info: &'a str,
    pub(crate) text: &'a str,
}

impl Block<'_> {
    pub(crate) fn language(&self) -> &str {
        self.info.split(' ').next().unwrap_or_default()
    }
}

pub(crate) fn blocks(markdown: &str) -> impl Iterator<Item = Block<'_>> {
    let inside = markdown.split("\n```").skip(1).step_by(2);
    inside.map(|block| {
        let (info, text) = block.split_once('\n').unwrap_or((block, ""));
        Block { info, text }
    })
}

/// The cells of all tables under `title`.
pub(crate) fn table_rows<'a>(markdown: &'a str, title: &str) -> Vec<Vec<&'a str>> {
    let tables = markdown.split(title).skip(1);
    let rows = tables.flat_map(|table| {
        table.lines().skip(2).take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    });
    rows.map(|row| row.trim_matches('|').split(" | ").collect()).collect()
}

/// What stands between backticks. In a table a bar is written `\|` there, too.
pub(crate) fn code_spans(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(|span| span.replace("\\|", "|")).collect()
}

/// A piece of a file with what every file needs in front of it.
pub(crate) fn completed(toml: &str) -> String {
    let mut whole = String::new();
    if !toml.contains("[session]") {
        whole += "[session]\nsecrets = [{ env = \"NEXTAUTH_SECRET\" }]\n";
    }
    if !toml.contains("[[app]]") {
        whole += "[[app]]\nhost = \"app.example.com\"\nupstream = \"http://127.0.0.1:3000\"\n";
    }
    whole + toml
}

/// The same with files that exist in place of those that pages name below /etc/tls.
fn with_files(toml: &str, certificates: &Certificates) -> String {
    let mut pieces = toml.split("\"/etc/tls/");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once('"').unwrap();
        let file = match name.rsplit_once('.').unwrap().1 {
            "key" => certificates.key(),
            "crt" => certificates.certificate(),
            _ => certificates.authority(),
        };
        whole += &format!("\"{}\"{rest}", file.display());
    }
    whole
}

/// A folder with a proxy.toml, which goes with this value.
pub(crate) struct Folder {
    directory: PathBuf,
    /// Variables that the file takes secrets from.
    variables: Vec<String>,
}

impl Folder {
    pub(crate) fn new(toml: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("foregate-recipe-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let names = toml.split("env = \"").skip(1).filter_map(|rest| rest.split('"').next());
        let folder = Self { directory, variables: names.map(str::to_owned).collect() };
        folder.write("proxy.toml", toml);
        folder
    }

    pub(crate) fn path(&self, file: &str) -> String {
        self.directory.join(file).into_os_string().into_string().unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        std::fs::write(self.directory.join(file), text).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Output {
        Command::new(program())
            .args(arguments)
            .args(["--config", &self.path("proxy.toml")])
            .env_clear()
            .envs(self.variables.iter().map(|name| (name, SECRET)))
            .output()
            .unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| panic!("{why}: {output:?}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Long enough that `check` has nothing to say about it.
pub(crate) const SECRET: &str = "kY7qP2vB9wX4zL8nT3mR6sD1fG5hJ0cA";
