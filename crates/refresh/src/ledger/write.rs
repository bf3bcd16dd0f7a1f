//! What is written into a ledger, and what then stands there: the same for every ledger. Nothing is
//! stored here.

use std::sync::Arc;

use foregate_session::UnixSeconds;

use crate::ledger::seal::Record;
use crate::ledger::{Known, Pair};
use crate::lineage::{Lineage, Thread, TokenKeys};

/// Something that a ledger has to learn.
#[derive(Clone)]
pub(super) struct Write {
    /// The refresh token that it is about: the spent one, or any of a session that ends.
    pub(super) token: TokenKeys,
    pub(super) news: News,
    /// How long it counts.
    pub(super) until: UnixSeconds,
}

#[derive(Clone)]
pub(super) enum News {
    /// We have redeemed the token for this pair. `late`: the claim on it had lapsed by then, so
    /// whatever another replica wrote meanwhile is taken for newer.
    Settled { pair: Arc<Pair>, newest: TokenKeys, late: bool },
    /// An app has redeemed it.
    Adopted { pair: Arc<Pair>, newest: TokenKeys },
    /// The visitor has signed out.
    Ended,
}

impl Write {
    pub(super) fn settled(spent: &str, pair: Arc<Pair>, until: UnixSeconds, late: bool) -> Self {
        let newest = TokenKeys::of(pair.tokens.refresh_token.expose());
        let news = News::Settled { pair, newest, late };
        Self { token: TokenKeys::of(spent), news, until }
    }

    pub(super) fn adopted(spent: &str, pair: Arc<Pair>, until: UnixSeconds) -> Self {
        let newest = TokenKeys::of(pair.tokens.refresh_token.expose());
        Self { token: TokenKeys::of(spent), news: News::Adopted { pair, newest }, until }
    }

    pub(super) fn ended(token: &str, until: UnixSeconds) -> Self {
        Self { token: TokenKeys::of(token), news: News::Ended, until }
    }
}

/// What becomes of the record of the token that a write is about, and of the names.
#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// To be written into the record. `None`: it stays as it is.
    pub(super) record: Option<Known>,
    pub(super) naming: Naming,
    /// Whether holders of the token now find the pair of the write, or what came after it.
    pub(super) learnt: bool,
}

/// Which tokens lead to which record from now on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Naming {
    /// The token and the newest one to the token's record.
    Both,
    /// The token to the record of the newest one, which is known already.
    Join,
    None,
}

/// `known` stands in the record of `spent`, whose redemption gave `pair`.
pub(super) fn settle(known: Option<&Known>, spent: Lineage, pair: &Arc<Pair>, late: bool) -> Plan {
    let stays = match known {
        Some(Known::SignedOut) => true,
        // Somebody else has found a successor meanwhile.
        Some(Known::Pair(other)) => other.refresh_token != spent && (late || other.outlasts(pair)),
        None => false,
    };
    let record = (!stays).then(|| Known::Pair(Arc::clone(pair)));
    Plan { record, naming: Naming::Both, learnt: !stays }
}

/// `old` stands in the record of `spent`, and `new` in that of `pair`'s refresh token, which is
/// another one unless `one`.
pub(super) fn adopt(
    old: Option<&Known>,
    new: Option<&Known>,
    one: bool,
    spent: Lineage,
    pair: &Arc<Pair>,
) -> Plan {
    let newest = pair.refresh_token;
    let learnt = match old {
        // What came after the pair is known, and `spent` is not: it joins.
        None if new.is_some() && !one => {
            return Plan { record: None, naming: Naming::Join, learnt: true };
        }
        // Two sessions stay two.
        Some(_) if new.is_some() && !one => {
            return Plan { record: None, naming: Naming::None, learnt: false };
        }
        Some(Known::SignedOut) => false,
        Some(Known::Pair(known)) if known.refresh_token == newest => pair.outlasts(known),
        Some(Known::Pair(_)) if new.is_some() => false,
        Some(Known::Pair(known)) => known.refresh_token == spent || pair.outlasts(known),
        None => true,
    };
    let record = learnt.then(|| Known::Pair(Arc::clone(pair)));
    Plan { record, naming: Naming::Both, learnt }
}

/// A token's session, as a store outside of the process knows it.
#[derive(Clone)]
pub(super) struct Sight {
    pub(super) thread: Thread,
    /// As of now, so never one that has ended.
    pub(super) record: Option<Record>,
}

/// What a store outside has to write, all of it or nothing.
pub(super) struct Puts {
    pub(super) record: Option<(Thread, Record)>,
    pub(super) entries: Vec<(TokenKeys, Thread)>,
    /// To be told when it is written.
    pub(super) told: Told,
}

/// What a store outside has said: for the ledger in front of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) name: Lineage,
    /// `None`: the store knows nothing of the token.
    pub(super) record: Option<Record>,
    /// Tokens that lead to the record.
    pub(super) names: Vec<Lineage>,
    /// As [`Plan::learnt`].
    pub(super) learnt: bool,
}

impl Write {
    /// The other token that must be looked up before it is known what to write.
    pub(super) fn other(&self) -> Option<&TokenKeys> {
        match &self.news {
            News::Adopted { newest, .. } => Some(newest),
            News::Settled { .. } | News::Ended => None,
        }
    }

    /// `old` is what the store knows by the token, and `new` by [`Write::other`].
    pub(super) fn puts(&self, old: Sight, new: Option<Sight>) -> Puts {
        let token = self.token.name;
        let known = old.record.as_ref().map(|record| &record.known);
        let (plan, newest) = match &self.news {
            News::Settled { pair, newest, late } => {
                (settle(known, token, pair, *late), Some(newest.clone()))
            }
            News::Adopted { pair, newest } => {
                let one = new.as_ref().is_none_or(|new| new.thread.name == old.thread.name);
                let other = new.as_ref().and_then(|new| new.record.as_ref());
                let plan = adopt(known, other.map(|record| &record.known), one, token, pair);
                (plan, Some(newest.clone()))
            }
            News::Ended => {
                let newest = known.and_then(|known| match known {
                    Known::Pair(pair) => Some(TokenKeys::of(pair.tokens.refresh_token.expose())),
                    Known::SignedOut => None,
                });
                let record = Some(Known::SignedOut);
                (Plan { record, naming: Naming::Both, learnt: true }, newest)
            }
        };
        let (thread, stands) = match (plan.naming, new) {
            (Naming::Join, Some(new)) => (new.thread, new.record),
            _ => (old.thread, old.record),
        };
        let written = plan.record.map(|known| Record { known, until: self.until });
        let named = match plan.naming {
            Naming::Both => [Some(self.token.clone()), newest].into_iter().flatten().collect(),
            Naming::Join => vec![self.token.clone()],
            Naming::None => Vec::new(),
        };
        let told = Told {
            name: thread.name,
            record: written.clone().or(stands),
            names: named.iter().map(|token| token.name).collect(),
            learnt: plan.learnt,
        };
        let record = written.map(|record| (thread.clone(), record));
        let entries = named.into_iter().map(|token| (token, thread.clone())).collect();
        Puts { record, entries, told }
    }
}
