//! `/metrics`, in Prometheus' text format 0.0.4 (prometheus/docs, exposition formats). Times are in
//! seconds. Every label is a word of ours or stands in the configuration.

use std::fmt::{Display, Write as _};

use foregate_refresh::LedgerState;

use super::Admin;
use crate::clock::now;
use crate::metrics::{COOKIE_REASONS, Histogram, LISTENERS, TUNNEL_ENDS, UPSTREAM_FAILURES};

pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Admin {
    pub(super) fn exposition(&self) -> String {
        let mut text = Exposition::default();
        self.expose_requests(&mut text);
        self.expose_sessions(&mut text);
        self.expose_ledger(&mut text);
        self.expose_connections(&mut text);
        self.expose_process(&mut text);
        text.0
    }

    fn expose_requests(&self, text: &mut Exposition) {
        let (generation, metrics) = (self.live.generation(), &self.live.metrics);
        let apps = || generation.counted.iter().map(|counted| &*counted.app);
        text.family(
            "foregate_requests_total",
            "counter",
            "Requests by app, decision, reason word and class of status.",
        );
        for app in apps().chain([&metrics.nobody]) {
            for outcome in app.outcomes() {
                let labels = [
                    ("app", app.host.as_str()),
                    ("decision", outcome.decision.as_str()),
                    ("reason", outcome.reason),
                    ("status", outcome.class),
                ];
                text.sample("foregate_requests_total", &labels, outcome.count);
            }
        }
        let name = "foregate_admission_seconds";
        text.family(name, "histogram", "From the head of a request to the decision on it.");
        text.histogram(name, &[], &metrics.admission);
        let name = "foregate_upstream_seconds";
        text.family(name, "histogram", "From the decision to the head of the app's answer.");
        for app in apps() {
            text.histogram(name, &[("app", &app.host)], &app.upstream);
        }
        let name = "foregate_request_seconds";
        text.family(name, "histogram", "From the head of a request to the head of its answer.");
        for app in apps().chain([&metrics.nobody]) {
            text.histogram(name, &[("app", &app.host)], &app.request);
        }
        let upstreams = || {
            generation.counted.iter().flat_map(|counted| {
                let host = counted.app.host.as_str();
                counted.upstreams.iter().map(move |upstream| (host, &**upstream))
            })
        };
        let name = "foregate_upstream_failures_total";
        text.family(name, "counter", "Requests that an upstream did not answer.");
        for (host, upstream) in upstreams() {
            for (reason, count) in UPSTREAM_FAILURES.iter().zip(&upstream.failures) {
                let labels = [("app", host), ("upstream", &upstream.url), ("reason", reason)];
                text.sample(name, &labels, count.get());
            }
        }
        let name = "foregate_upstream_ejections_total";
        text.family(name, "counter", "Times that a worker began to pass an upstream over.");
        for (host, upstream) in upstreams() {
            let labels = [("app", host), ("upstream", &upstream.url)];
            text.sample(name, &labels, upstream.ejections.get());
        }
    }

    fn expose_sessions(&self, text: &mut Exposition) {
        let metrics = &self.live.metrics;
        let tallies = metrics.refreshes.lock();
        let name = "foregate_refreshes_total";
        text.family(name, "counter", "Redemptions of refresh tokens by backend and outcome.");
        for (backend, tally) in tallies.iter() {
            for (outcome, count) in &tally.outcomes {
                text.sample(name, &[("backend", backend), ("outcome", outcome)], count);
            }
        }
        let name = "foregate_refresh_seconds";
        text.family(name, "histogram", "From the first request that asked to the outcome.");
        for (backend, tally) in tallies.iter() {
            text.histogram(name, &[("backend", backend)], &tally.took);
        }
        drop(tallies);
        let name = "foregate_session_cookies_unopened_total";
        text.family(name, "counter", "Requests whose session cookie did not open, by reason.");
        for (reason, count) in COOKIE_REASONS.iter().zip(&metrics.unopened) {
            text.sample(name, &[("reason", reason)], count.get());
        }
        text.single(
            "foregate_session_cookies_from_the_future_total",
            "counter",
            "Requests whose session was sealed more than 15 seconds in the future.",
            metrics.from_the_future.get(),
        );
        text.single(
            "foregate_session_cookie_duplicates_total",
            "counter",
            "Requests with another session cookie beside the one that counts.",
            metrics.duplicates.get(),
        );
    }

    fn expose_ledger(&self, text: &mut Exposition) {
        text.single(
            "foregate_ledger_entries",
            "gauge",
            "Refresh tokens that the ledger knows, spent ones included.",
            self.refresher.entries(),
        );
        text.single(
            "foregate_ledger_forgotten_total",
            "counter",
            "Ledger entries that had to go before their time, for lack of room.",
            self.refresher.forgotten(),
        );
        text.single(
            "foregate_ledger_unreplicated_total",
            "counter",
            "Writes to the ledger of which no replica of Redis has said in time that it has them.",
            self.refresher.unreplicated(),
        );
        text.single(
            "foregate_ledger_entries_limit",
            "gauge",
            "How many entries there may be: refresh.ledger_entries.",
            self.live.load().refresh.ledger_entries,
        );
        let name = "foregate_ledger_state";
        text.family(name, "gauge", "1 for the state that the ledger is in, 0 for the others.");
        let state = match self.refresher.ledger_state() {
            LedgerState::Good => "good",
            LedgerState::AtRisk(_) => "at_risk",
            LedgerState::Waiting(_) => "waiting",
        };
        for known in ["good", "at_risk", "waiting"] {
            text.sample(name, &[("state", known)], u8::from(known == state));
        }
    }

    fn expose_connections(&self, text: &mut Exposition) {
        let metrics = &self.live.metrics;
        let listeners = || LISTENERS.into_iter().zip(&metrics.listeners);
        let name = "foregate_connections_open";
        text.family(name, "gauge", "Connections that speak HTTP, by listener and protocol.");
        for (listener, counters) in listeners() {
            for (protocol, count) in [("h1", &counters.open_http1), ("h2", &counters.open_http2)] {
                text.sample(name, &[("listener", listener), ("protocol", protocol)], count.get());
            }
        }
        let name = "foregate_connections_accepted_total";
        text.family(name, "counter", "Connections by listener.");
        for (listener, counters) in listeners() {
            text.sample(name, &[("listener", listener)], counters.accepted.get());
        }
        let name = "foregate_connections_refused_total";
        text.family(name, "counter", "Connections that ended before they spoke HTTP.");
        for (listener, counters) in listeners() {
            for (reason, count) in [("broken", &counters.broken), ("silent", &counters.silent)] {
                text.sample(name, &[("listener", listener), ("reason", reason)], count.get());
            }
        }
        let name = "foregate_connections_delayed_total";
        text.family(name, "counter", "Connections that had to wait for a place.");
        for (listener, counters) in listeners() {
            text.sample(name, &[("listener", listener)], counters.delayed.get());
        }
        text.single(
            "foregate_connection_places",
            "gauge",
            "How many connections visitors may have at once.",
            self.capacity.places(),
        );
        text.single(
            "foregate_connection_places_taken",
            "gauge",
            "How many of these places are taken.",
            self.capacity.taken(),
        );
        let open = metrics.tunnels.get();
        text.single("foregate_websockets_open", "gauge", "WebSockets that are open.", open);
        let name = "foregate_websockets_ended_total";
        text.family(name, "counter", "WebSockets by why they ended.");
        for (reason, count) in TUNNEL_ENDS.iter().zip(&metrics.tunnel_ends) {
            text.sample(name, &[("reason", reason)], count.get());
        }
    }

    fn expose_process(&self, text: &mut Exposition) {
        let name = "foregate_build_info";
        text.family(name, "gauge", "Always 1.");
        text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        text.single(
            "foregate_uptime_seconds",
            "gauge",
            "How long this process has been serving.",
            self.live.since.elapsed().as_secs_f64(),
        );
        text.single(
            "foregate_ready",
            "gauge",
            "1, or 0 while no visitor should be sent here.",
            u8::from(self.unready().is_none()),
        );
        let generation = self.live.generation().number;
        text.single(
            "foregate_configuration_generation",
            "gauge",
            "The configuration in force; the first is 1.",
            generation,
        );
        let age = self.live.generation().since.elapsed().as_secs();
        text.single(
            "foregate_configuration_timestamp_seconds",
            "gauge",
            "When the configuration in force was taken over.",
            now().0.saturating_sub_unsigned(age),
        );
        let snapshot = self.live.load();
        let name = "foregate_certificate_end_timestamp_seconds";
        text.family(name, "gauge", "When a certificate of the https listener ends.");
        for certificate in snapshot.tls.iter().flat_map(|tls| tls.certificates()) {
            let names: Vec<&str> = certificate.dns_names().collect();
            if let Some(end) = certificate.ends() {
                text.sample(name, &[("names", &names.join(" "))], end);
            }
        }
        let name = "foregate_reloads_total";
        text.family(name, "counter", "Configurations that were read again, by outcome.");
        text.sample(name, &[("outcome", "applied")], generation.saturating_sub(1));
        let failed = self.live.metrics.failed_reloads.get();
        text.sample(name, &[("outcome", "failed")], failed);
        text.single(
            "foregate_reload_failed",
            "gauge",
            "1 while what was read last could not be used, and an older configuration is in force.",
            u8::from(self.live.not_reloaded().is_some()),
        );
    }
}

/// The format, line by line.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes all.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, value)) in labels.iter().enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let (bounds, count) = histogram.up_to();
        for (bound, count) in bounds {
            let bound = bound.as_secs_f64().to_string();
            self.sample(&bucket, &[labels, &[("le", &bound)]].concat(), count);
        }
        self.sample(&bucket, &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum().as_secs_f64());
        self.sample(&format!("{name}_count"), labels, count);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::UPSTREAM;

    #[test]
    fn labels_are_escaped_and_values_are_plain() {
        let mut text = Exposition::default();
        text.sample("a_total", &[], 7);
        text.sample("a_total", &[("b", "x\"y\\z\n"), ("c", "")], 0.25);
        assert_eq!(text.0, "a_total 7\na_total{b=\"x\\\"y\\\\z\\n\",c=\"\"} 0.25\n");
    }

    #[test]
    fn buckets_add_up_to_the_count() {
        let histogram = Histogram::new(&UPSTREAM);
        for took in [2, 2, 40_000] {
            histogram.observe(Duration::from_millis(took));
        }
        let mut text = Exposition::default();
        text.histogram("t_seconds", &[("app", "a")], &histogram);
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(lines[0], "t_seconds_bucket{app=\"a\",le=\"0.001\"} 0");
        assert_eq!(lines[1], "t_seconds_bucket{app=\"a\",le=\"0.0025\"} 2");
        assert_eq!(lines[13], "t_seconds_bucket{app=\"a\",le=\"30\"} 2");
        assert_eq!(lines[14], "t_seconds_bucket{app=\"a\",le=\"+Inf\"} 3");
        assert_eq!(
            lines[15..],
            ["t_seconds_sum{app=\"a\"} 40.004", "t_seconds_count{app=\"a\"} 3"]
        );
    }
}
