//! One error for every crate and language: a coarse kind, whether to retry, and a message that says what to do.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Result of anything in Cuckoo that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync + 'static>;

/// What went wrong, as coarse as the caller's possible reactions. The same names are used in every language and on
/// the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request itself is wrong; repeating it cannot help.
    Invalid,
    /// The caller's identity, session or registration was not accepted.
    Unauthorized,
    /// No such task, lease, model, node or file.
    NotFound,
    /// The state moved on: a lease expired, a result was already accepted.
    Conflict,
    /// A part that is needed is not reachable or not ready now.
    Unavailable,
    /// Refused by policy: limits, price, capacity, suspension.
    Rejected,
    /// The deadline passed.
    Timeout,
    /// Somebody entitled to cancelled it.
    Cancelled,
    /// A signature, hash or audit did not hold.
    Unverified,
    /// The chain or a contract refused.
    Chain,
    /// An executor failed while running a task.
    Execution,
    /// The component was shut down.
    Closed,
    /// A defect in Cuckoo.
    Internal,
}

impl ErrorKind {
    /// The name used on the wire and in foreign languages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::Unavailable => "unavailable",
            Self::Rejected => "rejected",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unverified => "unverified",
            Self::Chain => "chain",
            Self::Execution => "execution",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that carries this kind.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthorized => 401,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Unavailable | Self::Closed => 503,
            Self::Rejected => 429,
            Self::Timeout => 504,
            Self::Cancelled => 410,
            Self::Unverified => 422,
            Self::Chain => 502,
            Self::Execution | Self::Internal => 500,
        }
    }

    fn default_retry(self) -> Retry {
        match self {
            Self::Unavailable | Self::Timeout => Retry::Later,
            _ => Retry::Never,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the same call may succeed when repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Repeating the call unchanged cannot succeed.
    Never,
    /// Repeating it after a pause may succeed.
    Later,
}

/// The error of every public function.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    retry: Retry,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// An error of `kind` whose message says what happened and what to do next.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            retry: kind.default_retry(),
            message: message.into(),
            source: None,
        }
    }

    /// Attaches the underlying error.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Overrides whether a repeat may succeed.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether a repeat may succeed.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// The message without its sources.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error for a second receiver; sources are folded into the message.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            kind: self.kind,
            retry: self.retry,
            message: self.to_string(),
            source: None,
        }
    }
}

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

constructors! {
    /// [`ErrorKind::Invalid`].
    invalid => Invalid,
    /// [`ErrorKind::Unauthorized`].
    unauthorized => Unauthorized,
    /// [`ErrorKind::NotFound`].
    not_found => NotFound,
    /// [`ErrorKind::Conflict`].
    conflict => Conflict,
    /// [`ErrorKind::Unavailable`].
    unavailable => Unavailable,
    /// [`ErrorKind::Rejected`].
    rejected => Rejected,
    /// [`ErrorKind::Timeout`].
    timeout => Timeout,
    /// [`ErrorKind::Cancelled`].
    cancelled => Cancelled,
    /// [`ErrorKind::Unverified`].
    unverified => Unverified,
    /// [`ErrorKind::Chain`].
    chain => Chain,
    /// [`ErrorKind::Execution`].
    execution => Execution,
    /// [`ErrorKind::Closed`].
    closed => Closed,
    /// [`ErrorKind::Internal`].
    internal => Internal,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}
