//! The client of the API, as the command line and the terminal use it.

use std::fmt;
use std::time::Duration;

use gemba_core::health::HealthView;
use gemba_core::name::{ActorPath, Name};
use gemba_core::receipt::{BreakerState, Seq};
use gemba_core::reload::Reloaded;
use gemba_core::view::{BoardView, ReceiptsView, TreeView};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::actions::{Ask, Done};
use crate::problem::Document;
use crate::reads::RECEIPTS_MAX;
use crate::token::Token;

/// How long a call may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a call brought no answer that could be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address cannot be one of a node.
    #[error("'{url}' is not the address of a node; write it like http://127.0.0.1:4040")]
    Address {
        /// The address given.
        url: Box<str>,
    },
    /// Nothing answers there, or not the whole answer within [`CALL_TIMEOUT`].
    #[error("no node answers at {url}; start one with `gemba demo`, or say where it is with --url")]
    Unreachable {
        /// The address asked.
        url: Url,
        /// What the connection says.
        source: reqwest::Error,
    },
    /// The token is missing or wrong.
    #[error("{detail} (pass it with --token or GEMBA_TOKEN)")]
    Unauthorized {
        /// What the node says.
        detail: Box<str>,
    },
    /// The node forbids it, whoever asks.
    #[error("refused: {detail}")]
    Refused {
        /// What the node says.
        detail: Box<str>,
    },
    /// What the call names does not exist.
    #[error("{detail}")]
    NotFound {
        /// What the node says.
        detail: Box<str>,
    },
    /// The node could not do it now, or not as asked.
    #[error("{detail}")]
    Failed {
        /// The status of the answer.
        status: StatusCode,
        /// What the node says.
        detail: Box<str>,
    },
    /// The answer is not what this version understands.
    #[error("{url} answers with status {status} in a form this version does not know; is it a gemba node of version {}?", env!("CARGO_PKG_VERSION"))]
    Invalid {
        /// The address asked.
        url: Url,
        /// The status of the answer.
        status: StatusCode,
        /// What could not be understood, if it was the body.
        source: Option<serde_json::Error>,
    },
}

/// Whether a node takes work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It does not, and says why.
    NotReady(Box<str>),
}

/// Asks a node over HTTP. Every call ends within [`CALL_TIMEOUT`]. Cloning is cheap.
///
/// Only `http://` addresses are understood: the node itself serves no TLS. Proxies of the environment (`http_proxy` and
/// the like) are passed over.
///
/// # Cancel safety
///
/// Dropping the future of a call that changes something does not withdraw it: the node may carry it out.
///
/// # Examples
///
/// ```
/// use gemba_inspect::Client;
///
/// let client = Client::new("http://127.0.0.1:4040", None)?;
/// assert_eq!(client.url(), "http://127.0.0.1:4040/");
/// assert!(Client::new("127.0.0.1", None).is_err());
/// # Ok::<(), gemba_inspect::ClientError>(())
/// ```
#[derive(Clone)]
pub struct Client {
    base: Url,
    token: Option<Token>,
    http: reqwest::Client,
}

impl Client {
    /// The most receipts one call can bring.
    pub const RECEIPTS_MAX: usize = RECEIPTS_MAX;

    /// A client of the node at `url`. Without a token it can look, but change nothing.
    ///
    /// # Errors
    ///
    /// [`ClientError::Address`] if `url` is not an `http://` address without query.
    pub fn new(url: &str, token: Option<Token>) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address { url: url.into() };
        let base: Url = format!("{}/", url.trim_end_matches('/')).parse().map_err(|_| wrong())?;
        if base.scheme() != "http" || base.query().is_some() || base.fragment().is_some() {
            return Err(wrong());
        }
        // A proxy could not reach what listens on this machine alone, and would learn the token.
        let http =
            reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build().map_err(|_| wrong())?;
        Ok(Self { base, token, http })
    }

    /// The address of the node.
    pub fn url(&self) -> &str {
        self.base.as_str()
    }

    /// The supervision tree.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: no node answers at the address, or something else does.
    pub async fn tree(&self) -> Result<TreeView, ClientError> {
        self.get("api/v1/tree").await
    }

    /// The andon board.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: no node answers at the address, or something else does.
    pub async fn board(&self) -> Result<BoardView, ClientError> {
        self.get("api/v1/board").await
    }

    /// What the checks of the node found.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: no node answers at the address, or something else does.
    pub async fn health(&self) -> Result<HealthView, ClientError> {
        self.get("api/v1/health").await
    }

    /// At most `limit` receipts, which is at most [`RECEIPTS_MAX`](Self::RECEIPTS_MAX), after number `after`, or the
    /// newest if it is `None`; only those of `path` and below it, if one is given.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: no node answers at the address, or something else does.
    pub async fn receipts(
        &self,
        after: Option<Seq>,
        path: Option<&ActorPath>,
        limit: usize,
    ) -> Result<ReceiptsView, ClientError> {
        // Nothing needs escaping: a path is made of letters that may stand in a query as they are.
        let after = after.map(|after| format!("&after={}", after.0)).unwrap_or_default();
        let path = path.map(|path| format!("&path={path}")).unwrap_or_default();
        self.get(&format!("api/v1/receipts?limit={limit}{after}{path}")).await
    }

    /// Kills an actor. Its supervisor decides what follows.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] says which path may have been meant.
    pub async fn kill(&self, path: &ActorPath, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::POST, &actor(path, "kill"), &ask).await
    }

    /// Halts a supervisor: its children stop, and none starts until [`resume`](Self::resume).
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] says which path may have been meant; [`ClientError::Unauthorized`] without the
    /// token; after [`ClientError::Unreachable`] it may have been halted.
    pub async fn halt(&self, path: &ActorPath, by: &str, why: Option<&str>) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), why: why.map(str::to_owned), ..Ask::default() };
        self.change(Method::POST, &actor(path, "halt"), &ask).await
    }

    /// Lets a halted supervisor run again.
    ///
    /// # Errors
    ///
    /// As [`halt`](Self::halt); after [`ClientError::Unreachable`] it may run again.
    pub async fn resume(&self, path: &ActorPath, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::POST, &actor(path, "resume"), &ask).await
    }

    /// Stops a line: it refuses every signal until the cord is reset.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] if there is no such line, [`ClientError::Unauthorized`] without the token; after
    /// [`ClientError::Unreachable`] the line may have been stopped.
    pub async fn pull_cord(&self, line: &Name, by: &str, why: Option<&str>) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), why: why.map(str::to_owned), ..Ask::default() };
        self.change(Method::POST, &format!("api/v1/lines/{line}/cord"), &ask).await
    }

    /// Lets a stopped line run again.
    ///
    /// # Errors
    ///
    /// As [`pull_cord`](Self::pull_cord); after [`ClientError::Unreachable`] the line may run again.
    pub async fn reset_cord(&self, line: &Name, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::DELETE, &format!("api/v1/lines/{line}/cord"), &ask).await
    }

    /// Moves a worker's worth of capacity from an idle pool to an overloaded one now.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if there is nothing to move.
    pub async fn rebalance(&self, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::POST, "api/v1/pools/balance", &ask).await
    }

    /// Compares a line with how it is now from here on.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if the line has not been measured for long enough.
    pub async fn accept_baseline(&self, line: &Name, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::POST, &format!("api/v1/lines/{line}/baseline"), &ask).await
    }

    /// Takes care of what a station shows: its alert is neither repeated nor escalated.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if the station has no alert; the others as [`pull_cord`](Self::pull_cord).
    pub async fn acknowledge(&self, station: &Name, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::POST, &format!("api/v1/alerts/{station}/acknowledgement"), &ask).await
    }

    /// Hears nothing of some stations for a while: one, or all whose names begin as given before a `*`. Zero
    /// ends a silence.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if the silence would last longer than is allowed; the others as
    /// [`pull_cord`](Self::pull_cord).
    pub async fn silence(
        &self,
        stations: &str,
        lasts: Duration,
        by: &str,
        why: Option<&str>,
    ) -> Result<Seq, ClientError> {
        let (by, why) = (Some(by.to_owned()), why.map(str::to_owned));
        let ask = Ask { by, why, for_s: Some(lasts.as_secs()), ..Ask::default() };
        self.change(Method::POST, &format!("api/v1/alerts/{stations}/silence"), &ask).await
    }

    /// Opens a breaker until it is forced to another state, lets probes through, or closes it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if there is no such breaker; the others as [`pull_cord`](Self::pull_cord).
    pub async fn force_breaker(
        &self,
        breaker: &Name,
        to: BreakerState,
        by: &str,
        why: Option<&str>,
    ) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), why: why.map(str::to_owned), ..Ask::default() };
        let state = match to {
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
            BreakerState::Closed => "closed",
        };
        self.change(Method::POST, &format!("api/v1/breakers/{breaker}/{state}"), &ask).await
    }

    /// Has the node's service read its configuration again, and tells what changed.
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] with every fault, or with the keys that need a restart: the old settings stay in force.
    /// The others as [`pull_cord`](Self::pull_cord).
    pub async fn reload(&self, by: &str) -> Result<Reloaded, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.call(self.http.post(self.at("api/v1/reload")?).json(&ask)).await
    }

    /// Lets keys belong to a pool for [`AFFINITY_LASTS`](gemba_core::affinity::AFFINITY_LASTS), as one group; a group
    /// of the same name is replaced.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] if there is no such pool, [`ClientError::Failed`] if there are no keys or too many;
    /// the others as [`pull_cord`](Self::pull_cord).
    pub async fn bind_keys(
        &self,
        group: &Name,
        pool: &Name,
        keys: &[String],
        by: &str,
        why: Option<&str>,
    ) -> Result<Seq, ClientError> {
        let (by, why) = (Some(by.to_owned()), why.map(str::to_owned));
        let ask = Ask { by, why, pool: Some(pool.to_string()), keys: keys.to_vec(), ..Ask::default() };
        self.change(Method::POST, &format!("api/v1/affinity/{group}"), &ask).await
    }

    /// Ends an affinity group.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotFound`] if there is no such group; the others as [`pull_cord`](Self::pull_cord).
    pub async fn clear_keys(&self, group: &Name, by: &str) -> Result<Seq, ClientError> {
        let ask = Ask { by: Some(by.to_owned()), ..Ask::default() };
        self.change(Method::DELETE, &format!("api/v1/affinity/{group}"), &ask).await
    }

    /// Whether the node takes work.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: no node answers at the address, or something else does. A node that takes no work is
    /// [`Readiness::NotReady`], which is no error.
    pub async fn ready(&self) -> Result<Readiness, ClientError> {
        let (status, why) = self.send(self.http.get(self.at("readyz")?)).await?;
        match status {
            StatusCode::OK => Ok(Readiness::Ready),
            StatusCode::SERVICE_UNAVAILABLE => Ok(Readiness::NotReady(why.trim().into())),
            status => Err(ClientError::Invalid { url: self.base.clone(), status, source: None }),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call(self.http.get(self.at(path)?)).await
    }

    async fn change(&self, method: Method, path: &str, ask: &Ask) -> Result<Seq, ClientError> {
        let done: Done = self.call(self.http.request(method, self.at(path)?).json(ask)).await?;
        Ok(done.receipt)
    }

    fn at(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|_| ClientError::Address { url: format!("{}{path}", self.base).into() })
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let (status, text) = self.send(request).await?;
        let invalid = |source| ClientError::Invalid { url: self.base.clone(), status, source: Some(source) };
        if status.is_success() {
            return serde_json::from_str(&text).map_err(invalid);
        }
        Err(refusal(status, serde_json::from_str(&text).map_err(invalid)?))
    }

    /// Sends, and reads the answer to its end: a node that stops in the middle of it has not answered.
    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, String), ClientError> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let silent = |source: reqwest::Error| ClientError::Unreachable {
            url: self.base.clone(),
            source: source.without_url(),
        };
        let response = request.send().await.map_err(silent)?;
        let status = response.status();
        Ok((status, response.text().await.map_err(silent)?))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// Where an actor is asked to do something. The root's path is empty there.
fn actor(path: &ActorPath, verb: &str) -> String {
    format!("api/v1/actors/{}/{verb}", path.as_str().trim_start_matches('/')).replace("//", "/")
}

/// What an answer other than success means.
fn refusal(status: StatusCode, document: Document) -> ClientError {
    let detail = document.detail.into();
    match status {
        StatusCode::UNAUTHORIZED => ClientError::Unauthorized { detail },
        StatusCode::FORBIDDEN => ClientError::Refused { detail },
        StatusCode::NOT_FOUND => ClientError::NotFound { detail },
        status => ClientError::Failed { status, detail },
    }
}
