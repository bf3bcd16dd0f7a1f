//! A new token pair for an old one, once, whoever asks and whatever dies.
//!
//! Knows refresh tokens, the dialects of token endpoints, and the ledger that late holders of old
//! cookies find their successors in. Leaves to others: how bytes reach a backend
//! ([`TokenEndpoint`]), which requests need fresh tokens, what the time is at the start, and the
//! log, which is told by [`Event`]s.
//!
//! ```text
//! Session ─> Refresher ─> Lineage ─> Ledger ─> Table ─> Backend ─> TokenEndpoint
//!                                    │     ^                 │ dialect, answer
//!                       file, Redis <┘     └──── Tokens <────┘
//! ```

mod fail_point;

mod endpoint;
mod outcome;
mod tokens;

mod answer;
mod dialect;
mod template;

mod backend;
mod clock;

mod bounded;
mod ledger;
mod lineage;
mod remember;
mod table;

mod refresher;

pub use crate::backend::{Backend, BackendFault, BackendSpec};
pub use crate::dialect::{ClientAuth, Dialect, Encoding, RefreshSpec};
pub use crate::endpoint::{SendError, TokenAnswer, TokenEndpoint, TokenRequest};
pub use crate::ledger::{
    Ledger, LedgerAddress, LedgerError, LedgerEvent, LedgerState, MemoryLedger, OutsideLedger,
    RedisAddress,
};
pub use crate::outcome::{Culprit, Event, Fault, Outcome, RefreshError, RefusalAnswer};
pub use crate::refresher::{RefreshSettings, Refresher};
pub use crate::tokens::Tokens;
