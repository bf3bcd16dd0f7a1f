//! What is written into a ledger, and what then stands there: the same for every ledger. Nothing is
//! stored here.

use std::sync::Arc;

use foregate_session::UnixSeconds;

use crate::ledger::seal::{Page, Record};
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

/// What may have happened to the record since the redemption.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Late {
    No,
    /// The claim had lapsed: whatever another replica wrote meanwhile is taken for newer.
    Claim,
    /// The write was interrupted: others may have gone on from what of it had arrived.
    Write,
}

#[derive(Clone)]
pub(super) enum News {
    /// We have redeemed the token for this pair.
    Settled { pair: Arc<Pair>, newest: TokenKeys, late: Late },
    /// An app has redeemed it.
    Adopted { pair: Arc<Pair>, newest: TokenKeys },
    /// The visitor has signed out.
    Ended,
}

impl Write {
    pub(super) fn settled(spent: &str, pair: Arc<Pair>, until: UnixSeconds, late: bool) -> Self {
        let newest = TokenKeys::of(pair.tokens.refresh_token.expose());
        let late = if late { Late::Claim } else { Late::No };
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
    /// To be written into the record that the token then leads to. `None`: it stays as it is.
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
    /// The token to the record of the newest one. After a sign-out it keeps its own, too.
    Join,
    /// All tokens that lead to the token's record, to that of the newest one.
    Merge,
    /// None yet: the newest token's record comes first. Then [`Naming::Merge`].
    Begin,
    None,
}

/// What two records say whose tokens a write brings together.
pub(super) struct Both<'a> {
    /// That of the token.
    pub(super) old: Option<&'a Known>,
    /// That of the newest one.
    pub(super) new: Option<&'a Known>,
    /// They are one record.
    pub(super) one: bool,
    /// The tokens have a name each already, in a store where names come before their record: where
    /// there is none, another process is about to write it. Or it has died.
    pub(super) old_is_named: bool,
    pub(super) new_is_named: bool,
}

impl Both<'_> {
    /// Whether another process has gone on from the newest token of `pair`, or has signed out with
    /// it, and the ledger has heard of that first. So none of what comes of such a chain depends on
    /// the order in which processes that were alone tell of their links.
    fn has_gone_on(&self, pair: &Pair) -> bool {
        !self.one
            && match self.new {
                Some(Known::Pair(known)) => known.refresh_token != pair.refresh_token,
                Some(Known::SignedOut) => true,
                None => false,
            }
    }

    /// Whether the other record is to be begun by whoever comes first.
    fn is_about_to_go_on(&self) -> bool {
        !self.one && self.new.is_none() && self.new_is_named
    }

    /// Whether the other record holds the very pair: this process has told of it before, and was
    /// interrupted.
    fn has_it(&self, pair: &Pair) -> bool {
        !self.one && matches!(self.new, Some(Known::Pair(known)) if **known == *pair)
    }
}

/// The redemption of `spent` gave `pair`.
pub(super) fn settle(both: &Both<'_>, spent: Lineage, pair: &Arc<Pair>, late: Late) -> Plan {
    if both.has_gone_on(pair) || both.has_it(pair) {
        return match both.old {
            None if !both.old_is_named => Plan { record: None, naming: Naming::Join, learnt: true },
            // Whoever signed out had not heard of what came after it.
            Some(Known::SignedOut) => {
                Plan { record: Some(Known::SignedOut), naming: Naming::Join, learnt: false }
            }
            None | Some(Known::Pair(_)) => {
                Plan { record: None, naming: Naming::Merge, learnt: true }
            }
        };
    }
    if both.is_about_to_go_on() {
        let (record, naming, learnt) = match both.old {
            None if !both.old_is_named => (Known::Pair(Arc::clone(pair)), Naming::Join, true),
            Some(Known::SignedOut) => (Known::SignedOut, Naming::Join, false),
            None | Some(Known::Pair(_)) => (Known::Pair(Arc::clone(pair)), Naming::Begin, true),
        };
        return Plan { record: Some(record), naming, learnt };
    }
    let stays = match both.old {
        Some(Known::SignedOut) => true,
        // Somebody else has found a successor meanwhile.
        Some(Known::Pair(other)) if other.refresh_token == spent => false,
        Some(Known::Pair(other)) => match late {
            Late::Claim => true,
            Late::Write if both.one && both.new_is_named => other.obtained_at >= pair.obtained_at,
            Late::Write | Late::No => other.outlasts(pair),
        },
        None => false,
    };
    let record = (!stays).then(|| Known::Pair(Arc::clone(pair)));
    Plan { record, naming: Naming::Both, learnt: !stays }
}

/// An app has got `pair` for `spent`.
pub(super) fn adopt(both: &Both<'_>, spent: Lineage, pair: &Arc<Pair>) -> Plan {
    let (&Both { old, new, one, .. }, newest) = (both, pair.refresh_token);
    if both.is_about_to_go_on()
        && old.is_none_or(|old| matches!(old, Known::Pair(old) if old.refresh_token == spent))
    {
        return settle(both, spent, pair, Late::No);
    }
    let learnt = match old {
        // What came after the pair is known, and `spent` is not: it joins.
        None if new.is_some() && !one => {
            let naming = if both.old_is_named { Naming::Merge } else { Naming::Join };
            return Plan { record: None, naming, learnt: true };
        }
        // In the order in which it happened the pair would have been the session's newest.
        Some(Known::Pair(known)) if known.refresh_token == spent && both.has_gone_on(pair) => {
            return Plan { record: None, naming: Naming::Merge, learnt: true };
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
    /// As [`Both::old_is_named`].
    pub(super) is_named: bool,
}

/// What a store outside has to write, all of it or nothing.
pub(super) struct Puts {
    pub(super) page: Option<(Thread, Page)>,
    pub(super) entries: Vec<(TokenKeys, Thread)>,
    /// When it is written there is more to do: [`Write::goes_on`].
    pub(super) is_half: bool,
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
    /// A record that leads to this one from now on.
    pub(super) left: Option<Lineage>,
    /// As [`Plan::learnt`].
    pub(super) learnt: bool,
}

impl Write {
    /// The other token that must be looked up before it is known what to write.
    pub(super) fn other(&self) -> Option<&TokenKeys> {
        match &self.news {
            News::Settled { newest, .. } | News::Adopted { newest, .. } => Some(newest),
            News::Ended => None,
        }
    }

    /// Another process has written meanwhile, and may have known of this one's names.
    pub(super) fn comes_late(&mut self) {
        if let News::Settled { late: late @ Late::No, .. } = &mut self.news {
            *late = Late::Write;
        }
    }

    /// One half of it is written: what an app has got is taken over.
    pub(super) fn goes_on(&mut self) {
        if let News::Adopted { pair, newest } = &self.news {
            let (pair, newest) = (Arc::clone(pair), newest.clone());
            self.news = News::Settled { pair, newest, late: Late::Write };
        }
    }

    /// `old` is what the store knows by the token, and `new` by [`Write::other`].
    pub(super) fn puts(&self, old: Sight, new: Option<Sight>) -> Puts {
        let token = self.token.name;
        let known = old.record.as_ref().map(|record| &record.known);
        let other = new.as_ref().and_then(|new| new.record.as_ref());
        let one = new.as_ref().is_none_or(|new| new.thread.name == old.thread.name);
        let both = Both {
            old: known,
            new: other.map(|record| &record.known),
            one,
            old_is_named: old.is_named,
            new_is_named: new.as_ref().is_some_and(|new| new.is_named),
        };
        let (plan, newest) = match &self.news {
            News::Settled { pair, newest, late } => {
                (settle(&both, token, pair, *late), Some(newest.clone()))
            }
            News::Adopted { pair, newest } => (adopt(&both, token, pair), Some(newest.clone())),
            News::Ended => {
                let newest = known.and_then(|known| match known {
                    Known::Pair(pair) => Some(TokenKeys::of(pair.tokens.refresh_token.expose())),
                    Known::SignedOut => None,
                });
                let record = Some(Known::SignedOut);
                (Plan { record, naming: Naming::Both, learnt: true }, newest)
            }
        };
        let is_half = plan.naming == Naming::Begin;
        let has_ended = matches!(known, Some(Known::SignedOut));
        let own = old.thread.clone();
        let left = (plan.naming == Naming::Merge).then(|| own.clone());
        let (thread, stands) = match (plan.naming, new) {
            (Naming::Join | Naming::Merge | Naming::Begin, Some(new)) => (new.thread, new.record),
            _ => (old.thread, old.record),
        };
        let written = plan.record.map(|known| Record { known, until: self.until });
        let newest = newest.filter(|newest| newest.name != token);
        let entries: Vec<(TokenKeys, Thread)> = match plan.naming {
            Naming::Both => {
                let named = [Some(self.token.clone()), newest].into_iter().flatten();
                named.map(|token| (token, thread.clone())).collect()
            }
            // Whoever finds that the record has ended meanwhile must find it once more.
            Naming::Join if has_ended => vec![(self.token.clone(), own)],
            Naming::Merge => vec![(self.token.clone(), own)],
            Naming::Join => vec![(self.token.clone(), thread.clone())],
            Naming::Begin | Naming::None => Vec::new(),
        };
        let told = Told {
            name: thread.name,
            record: written.clone().or(stands),
            names: entries.iter().map(|(token, _)| token.name).collect(),
            left: left.as_ref().map(|left| left.name),
            learnt: plan.learnt,
        };
        let page = match left {
            Some(left) => Some((left, Page::Moved(thread))),
            None => written.map(|record| (thread, Page::Record(record))),
        };
        Puts { page, entries, is_half, told }
    }
}
