//! The status page: what an operator looks at first, with what wants attention on top. It holds no
//! script, asks for nothing from anywhere, and nothing on it moves.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use foregate_config::{App, RuleText};

use super::ready::backend_name;
use super::{Admin, lasting};
use crate::answers::page::escaped;
use crate::clock::now;
use crate::live::{Counted, Generation};
use crate::metrics::{AppCounters, COOKIE_REASONS, Decision, LISTENERS, TUNNEL_ENDS, VISITOR_LEFT};

/// What a browser may do with the page: show its style, which is known by its hash, and an icon of
/// no bytes (CSP Level 3).
pub(super) const POLICY: &str = concat!(
    "default-src 'none'; style-src 'sha256-",
    "ocARHZfR5e9xpy9Z+ndkO+hFZcNc0oz2rXlHhSqy9Lw=",
    "'; img-src data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
);

const STYLE: &str = include_str!("status.css");

impl Admin {
    pub(super) fn status(&self) -> String {
        let generation = self.live.generation();
        let (word, class) = self.unready().map_or(("ready", "fine"), |why| (why, "bad"));
        let facts = format!(
            "<p><span class=\"state {class}\">{word}</span> · version {} · up for {} · configuration \
             generation {}, for {}</p>",
            env!("CARGO_PKG_VERSION"),
            lasting(self.live.since.elapsed()),
            generation.number,
            lasting(generation.since.elapsed()),
        );
        let mut main = String::new();
        self.attention(&mut main);
        self.apps(&mut main, &generation);
        self.refusals(&mut main, &generation);
        main.push_str("<div class=\"pair\">\n");
        self.refreshes(&mut main);
        self.cookies(&mut main);
        main.push_str("</div>\n");
        self.connections(&mut main);
        certificates(&mut main, &generation);
        let title = format!("Foregate: {word}");
        format!(
            include_str!("status.html"),
            title = title,
            style = STYLE,
            facts = facts,
            main = main
        )
    }

    /// Everything that `/readyz?verbose` does not find in order.
    fn attention(&self, page: &mut String) {
        let (_, lines) = self.readiness();
        let marked = |line: &&String| line.starts_with("[!]") || line.starts_with("[-]");
        let watched: Vec<&String> = lines.iter().filter(marked).collect();
        if watched.is_empty() {
            page.push_str("<section><p class=\"fine\">Nothing wants attention.</p></section>\n");
            return;
        }
        page.push_str("<section class=\"watch\"><h2>Wants attention</h2>\n<ul>\n");
        for line in watched {
            let line = line.trim_start_matches(['[', '!', '-', ']', ' ']);
            let _ = writeln!(page, "<li>{}</li>", escaped(line));
        }
        page.push_str("</ul></section>\n");
    }

    fn apps(&self, page: &mut String, generation: &Generation) {
        page.push_str("<section><h2>Apps</h2>\n");
        for (app, counted) in generation.snapshot.apps.iter().zip(&generation.counted) {
            one_app(page, app, counted);
        }
        page.push_str("</section>\n");
    }

    fn refusals(&self, page: &mut String, generation: &Generation) {
        let mut refusals: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        let apps = generation.counted.iter().map(|counted| &*counted.app);
        for app in apps.chain([&self.live.metrics.nobody]) {
            for outcome in app.outcomes().filter(|outcome| !outcome.reason.is_empty()) {
                let key = (outcome.reason, app.host.as_str(), outcome.decision.as_str());
                *refusals.entry(key).or_default() += outcome.count;
            }
        }
        if refusals.is_empty() {
            return;
        }
        let mut refusals: Vec<_> = refusals.into_iter().collect();
        refusals.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let rows = refusals.into_iter().map(|((reason, host, decision), count)| {
            let host = if host.is_empty() { "no app" } else { host };
            let what = match (decision, reason) {
                ("refuse", _) => "refused",
                (_, VISITOR_LEFT) => "nobody left to answer",
                _ => "failed",
            };
            [code(reason), escaped(host), what.to_owned(), grouped(count)]
        });
        let head = ["Reason", "App", "What became of it", "Requests"];
        section(page, "Refusals and failures", &table("", head, rows));
    }

    fn refreshes(&self, page: &mut String) {
        let tallies = self.live.metrics.refreshes.lock();
        let mut body = String::new();
        for (name, tally) in tallies.iter() {
            let mut caption = match &tally.latest {
                None => format!("{}: not asked yet", escaped(&backend_name(name))),
                Some(latest) => format!(
                    "{}: <span class=\"{}\">{}</span> {} ago, on average in {}",
                    escaped(&backend_name(name)),
                    if tally.is_fine() { "fine" } else { "bad" },
                    latest.outcome,
                    lasting(latest.at.elapsed()),
                    short(tally.took.mean()),
                ),
            };
            if let Some(fault) = tally.latest.as_ref().and_then(|latest| latest.fault.as_ref()) {
                let _ = write!(caption, "<br>{}", escaped(fault));
            }
            let rows = tally.outcomes.iter().filter(|(_, count)| **count > 0);
            let rows = rows.map(|(outcome, count)| [code(outcome), grouped(*count)]);
            body.push_str(&table(&caption, ["Outcome", "Refreshes"], rows));
        }
        if tallies.is_empty() {
            body.push_str("<p class=\"quiet\">No backend: nothing is ever refreshed.</p>\n");
        }
        let (entries, forgotten) = (self.refresher.entries(), self.refresher.forgotten());
        let limit = self.live.load().refresh.ledger_entries;
        let _ = writeln!(
            body,
            "<p>Ledger: {} of {} entries, {} gone before their time</p>",
            grouped(entries as u64),
            grouped(limit as u64),
            grouped(forgotten)
        );
        section(page, "Refreshes", &body);
    }

    fn cookies(&self, page: &mut String) {
        let metrics = &self.live.metrics;
        let unopened = COOKIE_REASONS.iter().zip(&metrics.unopened);
        let rows = unopened
            .map(|(reason, count)| {
                [format!("did not open: {}", code(reason)), grouped(count.get())]
            })
            .chain([
                ["sealed in the future".to_owned(), grouped(metrics.from_the_future.get())],
                ["more than one at once".to_owned(), grouped(metrics.duplicates.get())],
            ]);
        section(page, "Session cookies", &table("", ["What", "Requests"], rows));
    }

    fn connections(&self, page: &mut String) {
        let metrics = &self.live.metrics;
        let listeners = LISTENERS.into_iter().zip(&metrics.listeners);
        let rows = listeners.filter_map(|(name, counters)| {
            let (_, listen) = self.listeners.iter().find(|(known, _)| *known == name)?;
            Some([
                format!("{name} <span class=\"path\">{}</span>", escaped(&listen.to_string())),
                grouped(counters.open_http1.get()),
                grouped(counters.open_http2.get()),
                grouped(counters.accepted.get()),
                grouped(counters.broken.get() + counters.silent.get()),
            ])
        });
        let head = ["Listener", "HTTP/1.1", "HTTP/2", "Accepted", "No HTTP"];
        let mut body = table("", head, rows);
        let (taken, places) = (self.capacity.taken(), self.capacity.places());
        let ended = TUNNEL_ENDS.iter().zip(&metrics.tunnel_ends);
        let ended = ended.filter(|(_, count)| count.get() > 0);
        let ended: Vec<String> =
            ended.map(|(reason, count)| format!("{} {reason}", grouped(count.get()))).collect();
        let ended =
            if ended.is_empty() { String::new() } else { format!(" ({})", ended.join(", ")) };
        let _ = write!(
            body,
            "<p>{} of {} places taken</p>\n<p>WebSockets: {} open{ended}</p>\n",
            grouped(taken as u64),
            grouped(places as u64),
            grouped(metrics.tunnels.get())
        );
        section(page, "Connections", &body);
    }
}

fn one_app(page: &mut String, app: &App, counted: &Counted) {
    let Counted { app: counters, hits, upstreams } = counted;
    let [passed, refused, failed] = totals(counters);
    let answers = match counters.upstream.mean() {
        None => String::new(),
        mean => format!("; it answers in {} on average", short(mean)),
    };
    let _ = write!(
        page,
        "<article><h3>{}</h3>\n<p>{} passed, {} refused, {} failed{answers}</p>\n",
        escaped(&app.host),
        grouped(passed),
        grouped(refused),
        grouped(failed),
    );
    for upstream in upstreams {
        let state = match upstream.failing() {
            None => String::new(),
            Some(failing) => {
                let ago = lasting(failing.ago);
                format!(" <span class=\"bad\">{} {ago} ago, no answer since</span>", failing.reason)
            }
        };
        let ejections = match upstream.ejections.get() {
            0 => String::new(),
            count => format!(" <span class=\"quiet\">ejected {} times</span>", grouped(count)),
        };
        let url = escaped(&upstream.url);
        let _ = writeln!(page, "<p><span class=\"path\">{url}</span>{state}{ejections}</p>");
    }
    let rest = RuleText { path: String::new(), line: None };
    let rules = app.rules.iter().enumerate().map(|(number, rule)| (Some(number), rule));
    let hits = rules.chain([(None, &rest)]).zip(hits.passed.iter().zip(&hits.refused));
    let rows = hits.map(|((number, rule), (passed, refused))| {
        let line = rule.line.map(|line| line.to_string()).unwrap_or_default();
        let (number, path) = match number {
            Some(number) => (number.to_string(), format!("<code>{}</code>", escaped(&rule.path))),
            None => (String::new(), "<span class=\"quiet\">every other path</span>".to_owned()),
        };
        [path, grouped(passed.get()), grouped(refused.get()), number, line]
    });
    page.push_str(&table("", ["Path", "Passed", "Refused", "Rule", "Line"], rows));
    page.push_str("</article>\n");
}

/// Passed and answered, refused, and passed without an answer.
fn totals(app: &AppCounters) -> [u64; 3] {
    let mut totals = [0; 3];
    for outcome in app.outcomes() {
        let place = match outcome.decision {
            Decision::Pass if matches!(outcome.reason, "" | VISITOR_LEFT) => 0,
            Decision::Refuse => 1,
            Decision::Pass => 2,
        };
        totals[place] += outcome.count;
    }
    totals
}

fn certificates(page: &mut String, generation: &Generation) {
    let Some(tls) = &generation.snapshot.tls else { return };
    let rows = tls.certificates().iter().map(|certificate| {
        let names: Vec<&str> = certificate.dns_names().collect();
        let left = certificate.ends().map_or_else(
            || "unknown".to_owned(),
            |end| match end.since(now()) {
                Duration::ZERO => "<strong class=\"bad\">ended</strong>".to_owned(),
                left => lasting(left),
            },
        );
        [escaped(&names.join(", ")), left]
    });
    section(page, "Certificates", &table("", ["Names", "Ends in"], rows));
}

fn section(page: &mut String, title: &str, body: &str) {
    let _ = write!(page, "<section><h2>{title}</h2>\n{body}</section>\n");
}

/// A table of markup. All columns but the first hold numbers, unless they hold words.
fn table<const N: usize>(
    caption: &str,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let rows: Vec<[String; N]> = rows.collect();
    if rows.is_empty() {
        return format!("<p>{caption}</p>\n");
    }
    let class = |column: usize| match WORDS.contains(&head[column]) {
        true => "",
        false => " class=\"number\"",
    };
    let mut table = String::from("<div class=\"scroll\" tabindex=\"0\"><table>\n");
    if !caption.is_empty() {
        let _ = writeln!(table, "<caption>{caption}</caption>");
    }
    table.push_str("<thead><tr>");
    for (column, name) in head.iter().enumerate() {
        let _ = write!(table, "<th scope=\"col\"{}>{name}</th>", class(column));
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for row in &rows {
        table.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(table, "<th scope=\"row\">{cell}</th>"),
                _ => write!(table, "<td{}>{cell}</td>", class(column)),
            };
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table></div>\n");
    table
}

/// The columns that hold no numbers.
const WORDS: [&str; 8] =
    ["Path", "Reason", "App", "What became of it", "Outcome", "What", "Listener", "Names"];

fn code(word: &str) -> String {
    format!("<code>{}</code>", escaped(word))
}

/// `12 345 678`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn short(took: Option<Duration>) -> String {
    match took {
        None => "–".to_owned(),
        Some(took) if took < Duration::from_millis(10) => {
            format!("{:.1} ms", took.as_secs_f64() * 1e3)
        }
        Some(took) if took < Duration::from_secs(10) => format!("{} ms", took.as_millis()),
        Some(took) => format!("{} s", took.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_admits_the_style_of_the_page_and_no_other() {
        let hash = BASE64.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
    }

    #[test]
    fn numbers_are_grouped_and_times_are_short() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(123_456), "123\u{202f}456");
        let micros = |micros| short(Some(Duration::from_micros(micros)));
        assert_eq!((micros(1_250), micros(250_900)), ("1.2 ms".to_owned(), "250 ms".to_owned()));
    }

    #[test]
    fn a_table_without_rows_is_its_caption() {
        let none = table("backend: not asked yet", ["Outcome", "Refreshes"], std::iter::empty());
        assert_eq!(none, "<p>backend: not asked yet</p>\n");
    }
}
