//! Whether a request may pass, as whom, and with which token: the one place that knows the order
//! of the checks. The cheapest refusal comes first and the network last.

use std::sync::Arc;
use std::time::Duration;

use foregate_config::{CookieMode, Snapshot};
use foregate_policy::{Head, Pass, Refusal, Route};
use foregate_refresh::{Backend, RefreshError, Refresher, TokenEndpoint, Tokens};
use foregate_session::{
    CookieView, Cookies, Freshness, NoSession, Session, ShownSession, UnixSeconds,
};

use crate::upstream::app_word::Errand;

/// What the visitor's cookies came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nobody looked, or no session cookie was there.
    Nothing,
    /// None opened.
    Unopened(NoSession),
    Session {
        /// By how much it was sealed in the future; nothing within the tolerance of clocks.
        ahead: Duration,
    },
    /// A session whose access token has ended, and that nothing can renew.
    Spent,
    /// A session that its backend refuses to renew.
    Refused,
    /// A session that is being renewed, on a path where nobody waits for it.
    Pending,
}

impl Found {
    /// What the keyring says of a request's cookies.
    pub(crate) fn of(
        opened: &Result<Session, NoSession>,
        snapshot: &Snapshot,
        now: UnixSeconds,
    ) -> Self {
        match opened {
            Ok(session) if is_spent(snapshot, session, now) => Self::Spent,
            Ok(session) => Self::Session { ahead: sealed_ahead(session, now) },
            Err(NoSession::Absent) => Self::Nothing,
            Err(why) => Self::Unopened(*why),
        }
    }

    /// Why a cookie speaks for nobody, for the operator.
    pub(crate) fn detail(self) -> Option<String> {
        match self {
            Self::Nothing | Self::Session { .. } => None,
            Self::Unopened(why) => Some(why.detail()),
            Self::Spent => {
                Some("opened, but its access token has ended and nothing renews it".to_owned())
            }
            Self::Refused => Some("opened, but its backend refuses to renew it".to_owned()),
            Self::Pending => Some("opened, but its tokens are still being renewed".to_owned()),
        }
    }
}

fn sealed_ahead(session: &Session, now: UnixSeconds) -> Duration {
    let ahead = session.sealed_at().map(|at| at.since(now)).unwrap_or_default();
    if ahead > CLOCK_TOLERANCE { ahead } else { Duration::ZERO }
}

/// How far clocks may be apart, as the libraries have it for `nbf` and `exp`.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(15);

/// A request that may go to its app. Only [`Gate::admit`] makes one.
pub(crate) struct Grant {
    pub(crate) pass: Pass,
    /// Whom the request speaks for; a stranger where there is none.
    pub(crate) session: Option<Session>,
    /// What the app sees of the visitor's cookies.
    pub(crate) cookies: CookieView,
    /// `Set-Cookie` values that the answer owes the visitor.
    pub(crate) set_cookies: Vec<String>,
    /// The visitor's own `Authorization` may go to the app.
    pub(crate) own_authorization: bool,
}

impl Grant {
    /// The session speaks, and the app sees its cookie as it came.
    pub(crate) fn known(
        snapshot: &Snapshot,
        pass: Pass,
        session: Session,
        cookies: &Cookies<'_>,
    ) -> Self {
        let cookies = Self::view(snapshot, &pass, cookies, ShownSession::AsSent(&session));
        Self::new(pass, Some(session), cookies)
    }

    /// Nobody speaks, and the app sees no session cookie: what does not open here opens nowhere,
    /// and an app that refreshes by itself must not spend the token that is just being redeemed.
    pub(crate) fn stranger(snapshot: &Snapshot, pass: Pass, cookies: &Cookies<'_>) -> Self {
        let cookies = Self::view(snapshot, &pass, cookies, ShownSession::None);
        Self::new(pass, None, cookies)
    }

    fn new(pass: Pass, session: Option<Session>, cookies: CookieView) -> Self {
        Self { pass, session, cookies, set_cookies: Vec::new(), own_authorization: false }
    }

    fn view(
        snapshot: &Snapshot,
        pass: &Pass,
        cookies: &Cookies<'_>,
        shown: ShownSession<'_>,
    ) -> CookieView {
        let shown = match snapshot.apps[pass.app()].cookie {
            CookieMode::Refreshed => shown,
            CookieMode::Strip => ShownSession::None,
        };
        snapshot.keyring.cookies_for_app(cookies, shown)
    }
}

/// A request that goes nowhere.
pub(crate) struct Turned {
    pub(crate) why: Refused,
    /// `Set-Cookie` values that the answer owes the visitor all the same.
    pub(crate) set_cookies: Vec<String>,
}

impl Turned {
    fn new(why: Refused, set_cookies: Vec<String>) -> Self {
        Self { why, set_cookies }
    }
}

/// Why a request is refused. Each reason has one stable word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The rules, or the shape of the request, say no.
    Policy(Refusal),
    /// There is a session, but its access token has ended and the backend gives no new one now.
    Unavailable { reason: &'static str, retry_after: Duration },
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Self {
        Self::new(Refused::Policy(refusal), Vec::new())
    }
}

/// What decides: the configuration of this request, and who renews tokens.
pub(crate) struct Gate<'g, E> {
    pub(crate) snapshot: &'g Snapshot,
    pub(crate) refresher: &'g Refresher<E>,
}

/// A session after its tokens were looked after.
pub(crate) enum Standing {
    /// Its token may be sent.
    Good(Session),
    /// It has new tokens, which the cookie does not hold yet.
    Renewed(Session),
    /// Its token has ended; a new one may come later, so nobody is signed out.
    Waiting { reason: &'static str, retry_after: Duration },
    /// It is over: the backend refused to go on, or nobody can renew it.
    Ended,
}

/// What the rules and the cookie say by themselves: no network, no clock.
pub(crate) enum Considered<'r> {
    /// Nobody speaks for the request, and nobody need. The flag: the visitor's own `Authorization`
    /// may go to the app.
    Stranger { pass: Pass, own_authorization: bool },
    /// A session does, if its token may still be sent. The verdict is for the token that it has
    /// now; one that is not fresh may be refused for a role that the next one brings.
    Session { route: Route<'r>, verdict: Result<Pass, Refusal>, session: Box<Session> },
}

/// Steps 3 to 5 of ARCHITECTURE.md, "One request": the proxy and `explain` both stand on it.
/// `open` gives the visitor's session; `granted` are roles beside those of its claims. A session
/// whose token has ended and that nobody can renew is none.
pub(crate) fn consider<'r>(
    snapshot: &'r Snapshot,
    head: &Head<'_>,
    open: impl FnOnce() -> Option<Session>,
    granted: &[String],
    now: UnixSeconds,
) -> Result<Considered<'r>, Refusal> {
    let route = snapshot.rules.route(head)?;
    if head.is_preflight() {
        let pass = route.preflight()?;
        return Ok(Considered::Stranger { pass, own_authorization: false });
    }
    let Some(session) = open().filter(|session| !is_spent(snapshot, session, now)) else {
        let pass = route.without_session()?;
        let own_authorization = snapshot.apps[pass.app()].pass_authorization;
        return Ok(Considered::Stranger { pass, own_authorization });
    };
    let is_fresh = || session.freshness(now, snapshot.refresh.ahead) == Freshness::Fresh;
    match route.decide_with(head, &session, granted) {
        Ok(pass) if !pass.as_session() => {
            Ok(Considered::Stranger { pass, own_authorization: false })
        }
        Err(refusal) if refusal != Refusal::RoleMissing || is_fresh() => Err(refusal),
        verdict => Ok(Considered::Session { route, verdict, session: Box::new(session) }),
    }
}

/// Who can renew this session's tokens.
pub(crate) fn renewer<'s>(snapshot: &'s Snapshot, session: &Session) -> Option<&'s Arc<Backend>> {
    session.refresh_token().and_then(|_| snapshot.backend_for(session))
}

/// Whether the session's token has ended, and nobody can renew it.
pub(crate) fn is_spent(snapshot: &Snapshot, session: &Session, now: UnixSeconds) -> bool {
    session.freshness(now, snapshot.refresh.ahead) == Freshness::Ended
        && renewer(snapshot, session).is_none()
}

impl<E: TokenEndpoint> Gate<'_, E> {
    /// Steps 3 to 8 of ARCHITECTURE.md, "One request". `found` gets what the cookies came to.
    pub(crate) async fn admit(
        &self,
        head: &Head<'_>,
        cookies: &Cookies<'_>,
        now: UnixSeconds,
        found: &mut Found,
    ) -> Result<Grant, Turned> {
        let snapshot = self.snapshot;
        let open = || {
            let opened = snapshot.keyring.open(cookies, now);
            *found = Found::of(&opened, snapshot, now);
            opened.ok()
        };
        let (route, verdict, session) = match consider(snapshot, head, open, &[], now)? {
            Considered::Session { route, verdict, session } => (route, verdict, *session),
            Considered::Stranger { pass, own_authorization } => {
                let grant = Grant::stranger(snapshot, pass, cookies);
                return Ok(Grant { own_authorization, ..grant });
            }
        };

        // An app that is asked to sign out must see whom, or it clears nothing.
        let signs_out = Errand::of(head.method(), head.path().as_str()) == Errand::SignOut;
        match self.look_after(session, route.needs_session() || signs_out, now).await {
            Standing::Good(session) => Ok(Grant::known(snapshot, verdict?, session, cookies)),
            Standing::Renewed(session) => self.renewed(&route, head, session, cookies, now),
            Standing::Waiting { .. } if !route.needs_session() => {
                *found = Found::Pending;
                Ok(Grant::stranger(snapshot, route.without_session()?, cookies))
            }
            Standing::Waiting { reason, retry_after } => {
                Err(Turned::new(Refused::Unavailable { reason, retry_after }, Vec::new()))
            }
            Standing::Ended => {
                *found = Found::Refused;
                let set_cookies = snapshot.keyring.clear_cookies(cookies);
                match route.without_session() {
                    Ok(pass) => {
                        Ok(Grant { set_cookies, ..Grant::stranger(snapshot, pass, cookies) })
                    }
                    Err(refusal) => Err(Turned::new(Refused::Policy(refusal), set_cookies)),
                }
            }
        }
    }

    /// Makes sure that the session's access token may be sent. Only an ended one makes a visitor
    /// wait, and only where he `must` have one: a public path takes what the ledger knows.
    pub(crate) async fn look_after(
        &self,
        session: Session,
        must: bool,
        now: UnixSeconds,
    ) -> Standing {
        let freshness = session.freshness(now, self.snapshot.refresh.ahead);
        if freshness == Freshness::Fresh {
            return Standing::Good(session);
        }
        let renewer = renewer(self.snapshot, &session);
        // A look-up in a file or in Redis is bounded, and no redemption is waited for.
        let known = match freshness {
            Freshness::Ended if renewer.is_some() && !must => {
                Box::pin(self.refresher.glance(&session, now)).await
            }
            _ => self.refresher.settled(&session, now),
        };
        if let Some(tokens) = known {
            let renewed = session.renewed(&tokens.as_new_tokens());
            // A client that keeps no cookies must not wait each time the newest token ends.
            if renewed.freshness(now, self.snapshot.refresh.ahead) == Freshness::Due
                && let Some(backend) = self.snapshot.backend_for(&renewed)
            {
                self.refresher.start(backend, &renewed, now);
            }
            return Standing::Renewed(renewed);
        }
        match (freshness, renewer) {
            (Freshness::Ended, None) => Standing::Ended,
            (Freshness::Ended, Some(backend)) if must => {
                // What is rare is boxed, here and elsewhere, or every request would carry its size.
                let answer = Box::pin(self.refresher.refresh(backend, &session, now)).await;
                standing(session, answer)
            }
            (Freshness::Ended, Some(backend)) => {
                match self.refresher.start(backend, &session, now) {
                    Some(_) => Standing::Ended,
                    None => {
                        let (reason, retry_after) = ("refresh_pending", Duration::from_secs(1));
                        Standing::Waiting { reason, retry_after }
                    }
                }
            }
            (_, Some(backend)) => {
                self.refresher.start(backend, &session, now);
                Standing::Good(session)
            }
            (_, None) => Standing::Good(session),
        }
    }

    /// The rules are asked once more: the new token may name other roles.
    pub(crate) fn renewed(
        &self,
        route: &Route<'_>,
        head: &Head<'_>,
        session: Session,
        cookies: &Cookies<'_>,
        now: UnixSeconds,
    ) -> Result<Grant, Turned> {
        let keyring = &self.snapshot.keyring;
        let sealed = keyring.seal(&session, now, random());
        let set_cookies = keyring.set_cookies(&sealed, cookies);
        match route.decide(head, &session) {
            Ok(pass) => {
                let shown = ShownSession::Renewed(&sealed);
                let cookies = Grant::view(self.snapshot, &pass, cookies, shown);
                Ok(Grant { set_cookies, ..Grant::new(pass, Some(session), cookies) })
            }
            Err(refusal) => Err(Turned::new(Refused::Policy(refusal), set_cookies)),
        }
    }
}

fn standing(session: Session, answer: Result<Arc<Tokens>, RefreshError>) -> Standing {
    match answer {
        Ok(tokens) => Standing::Renewed(session.renewed(&tokens.as_new_tokens())),
        Err(error) => match error.retry_after() {
            Some(retry_after) => Standing::Waiting { reason: error.reason(), retry_after },
            None => Standing::Ended,
        },
    }
}

/// The initialisation vector and the identity of one sealed cookie.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
