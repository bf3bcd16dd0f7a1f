//! Whether visitors may be sent here, and the state of all that the gate depends on. A backend or
//! an app that is away makes nobody unready: another gate would reach it no better.

use std::time::{Duration, Instant};

use foregate_config::LAST_WEEKS;
use foregate_refresh::{LedgerAddress, LedgerState};

use super::{Admin, lasting};
use crate::clock::now;
use crate::metrics::Failing;

impl Admin {
    /// The last line is the verdict. `[+]` is fine, `[!]` wants to be looked at, `[-]` is why the
    /// gate is not ready.
    pub(super) fn readiness(&self) -> (bool, Vec<String>) {
        let mut lines = Vec::new();
        let unready = self.unready();
        let mark = if self.stopping.has_begun() { "[-]" } else { "[+]" };
        for (name, listen) in &self.listeners {
            lines.push(format!("{mark} listener {name} {listen}"));
        }
        self.configuration(&mut lines);
        self.certificates(&mut lines);
        self.doubts(&mut lines);
        self.ledger(&mut lines);
        self.backends(&mut lines);
        self.upstreams(&mut lines);
        let (taken, places) = (self.capacity.taken(), self.capacity.places());
        let mark = if self.capacity.is_crowded() { "[!]" } else { "[+]" };
        lines.push(format!("{mark} connections: {taken} of {places} places taken"));
        let verdict = unready.map_or_else(|| "ready".to_owned(), |why| format!("not ready: {why}"));
        lines.push(verdict);
        (unready.is_none(), lines)
    }

    /// Why no visitor should be sent here.
    pub(super) fn unready(&self) -> Option<&'static str> {
        if self.stopping.has_begun() {
            return Some("stopping");
        }
        match self.refresher.ledger_state() {
            LedgerState::Waiting(_) => Some("waiting for the ledger"),
            LedgerState::Good | LedgerState::AtRisk(_) => None,
        }
    }

    fn configuration(&self, lines: &mut Vec<String>) {
        let generation = self.live.generation();
        let since = lasting(generation.since.elapsed());
        lines.push(format!("[+] configuration generation {}, for {since}", generation.number));
        if let Some(failed) = self.live.not_reloaded() {
            let ago = lasting(failed.at.elapsed());
            let why = failed.why.replace('\n', " ");
            lines.push(format!("[!] reload failed {ago} ago, the configuration stays: {why}"));
        }
        for key in self.live.waiting_for_next_start() {
            lines.push(format!("[!] {key} has changed, which takes effect at the next start only"));
        }
    }

    fn certificates(&self, lines: &mut Vec<String>) {
        let snapshot = self.live.load();
        for certificate in snapshot.tls.iter().flat_map(|tls| tls.certificates()) {
            let names: Vec<&str> = certificate.dns_names().collect();
            let names = names.join(", ");
            let Some(end) = certificate.ends() else { continue };
            let left = end.since(now());
            lines.push(match left {
                Duration::ZERO => format!("[!] certificate of {names}: it has ended"),
                left if left < LAST_WEEKS => {
                    format!("[!] certificate of {names}: it ends in {}", lasting(left))
                }
                left => format!("[+] certificate of {names}: it ends in {}", lasting(left)),
            });
        }
    }

    fn doubts(&self, lines: &mut Vec<String>) {
        let doubts = &self.live.generation().doubts;
        let (count, why) = doubts.seals.refused();
        let why = why.map(|why| why.detail()).unwrap_or_default();
        lines.push(match (doubts.seals.some_opened(), count, doubts.seals.mostly_broken()) {
            (false, 0, _) => "[+] session cookies: none came yet".to_owned(),
            (true, 0, _) => "[+] session cookies: all opened".to_owned(),
            (true, _, None) => format!("[+] session cookies: some opened, {count} did not"),
            (true, _, Some((broken, all))) => format!(
                "[!] session cookies: {broken} of the last {all} did not open, the latest: {why}. \
                 Does one of the apps have another secret, or does somebody send junk?"
            ),
            (false, _, _) => {
                format!(
                    "[!] session cookies: none of {count} opened, the latest: {why}. Is \
                     session.secrets what the apps have in NEXTAUTH_SECRET or AUTH_SECRET?"
                )
            }
        });
        if let Some(ahead) = doubts.clocks.ahead() {
            lines.push(format!(
                "[!] session cookies: one was sealed in the future by {} s: a clock is wrong, here \
                 or where visitors sign in",
                ahead.as_secs()
            ));
        }
        if let Some(address) = doubts.untrusted_asker() {
            lines.push(format!(
                "[!] {address} asks /.foregate/auth and is not in server.trusted_proxies: it is \
                 told nothing"
            ));
        }
        if let Some(address) = doubts.forgotten_proxy() {
            lines.push(format!(
                "[!] {address} sent a __Secure- cookie over plain HTTP and is not in \
                 server.trusted_proxies: redirects go to http"
            ));
        }
        if let Some(address) = doubts.silent_proxy() {
            lines.push(format!(
                "[!] {address} is trusted and does not say https: it must set X-Forwarded-Proto, or \
                 redirects go to http"
            ));
        }
    }

    fn ledger(&self, lines: &mut Vec<String>) {
        let (entries, forgotten) = (self.refresher.entries(), self.refresher.forgotten());
        let snapshot = self.live.load();
        let (ledger, limit) = (&snapshot.refresh.ledger, snapshot.refresh.ledger_entries);
        let lost = match forgotten {
            0 => String::new(),
            _ => format!(", {forgotten} had to go before their time"),
        };
        let unconfirmed = match self.refresher.unreplicated() {
            0 => String::new(),
            count => format!(", {count} writes that no replica has confirmed"),
        };
        let (mark, why) = match self.refresher.ledger_state() {
            LedgerState::Good if forgotten == 0 && unconfirmed.is_empty() => ("[+]", String::new()),
            LedgerState::Good => ("[!]", String::new()),
            LedgerState::AtRisk(why) => ("[!]", format!(": new tokens are here alone: {why}")),
            LedgerState::Waiting(why) => ("[-]", format!(": nobody is refreshed: {why}")),
        };
        let entries = match ledger {
            LedgerAddress::Memory | LedgerAddress::File(_) => {
                format!("{entries} of {limit} entries")
            }
            // How many there are in Redis nobody counts.
            LedgerAddress::Redis(_) => format!("{entries} entries at hand"),
        };
        lines.push(format!("{mark} ledger {ledger}, {entries}{lost}{unconfirmed}{why}"));
    }

    fn backends(&self, lines: &mut Vec<String>) {
        for (name, tally) in self.live.metrics.refreshes.lock().iter() {
            let name = backend_name(name);
            let Some(latest) = &tally.latest else {
                lines.push(format!("[+] {name}: not asked yet"));
                continue;
            };
            let mark = if tally.is_fine() { "[+]" } else { "[!]" };
            let ago = lasting(Instant::now().saturating_duration_since(latest.at));
            let fault = latest.fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default();
            let refused = match tally.refused() {
                (_, 0) => String::new(),
                (all, refused) => format!("; {refused} of {all} refused"),
            };
            lines.push(format!("{mark} {name}: {} {ago} ago{fault}{refused}", latest.outcome));
        }
    }

    fn upstreams(&self, lines: &mut Vec<String>) {
        for counted in &self.live.generation().counted {
            for upstream in &counted.upstreams {
                let (host, url) = (&counted.app.host, &upstream.url);
                lines.push(match upstream.failing() {
                    None => format!("[+] upstream {url} of {host}"),
                    Some(failing) => {
                        let ago = lasting(failing.ago);
                        let Failing { reason, words, .. } = failing;
                        format!("[!] upstream {url} of {host}: {reason} {ago} ago: {words}")
                    }
                });
            }
        }
    }
}

/// One that the file gives no name is called that already.
pub(super) fn backend_name(name: &str) -> String {
    if name == "backend" { name.to_owned() } else { format!("backend {name}") }
}
