//! What a node's answer means: to a caller, and to a transaction that was handed over.

use alloy::rpc::json_rpc::ErrorPayload;
use alloy::transports::{RpcError, TransportError, TransportErrorKind};
use bytes::Bytes;

use crate::Error;
use crate::chain::evm::Failure;

/// What a failed request to `nodes` means. Nothing of an address but its host is told: the rest may be a provider's key.
pub(super) fn failed(nodes: &str, error: TransportError) -> Failure {
    let silent = |detail: String| -> Failure {
        Error::unavailable(format!(
            "the chain node at {nodes} does not answer; check that it runs and that its address is right"
        ))
        .with_source(detail)
        .into()
    };
    match error {
        RpcError::ErrorResp(refused) => {
            if let Some(data) = refused.as_revert_data() {
                return Failure::Reverted(data.0);
            }
            if refused.message.contains("revert") {
                return Failure::Reverted(Bytes::new());
            }
            let text = said(&refused);
            if refused.is_retry_err() {
                return silent(text);
            }
            Error::chain(format!("the chain node at {nodes} refused: {text}")).into()
        }
        RpcError::Transport(TransportErrorKind::Custom(source)) => {
            match source.downcast::<reqwest::Error>() {
                Ok(source) => silent(causes(&source.without_url())),
                Err(source) => silent(source.to_string()),
            }
        }
        RpcError::Transport(TransportErrorKind::HttpError(answer)) => {
            silent(format!("HTTP status {}", answer.status))
        }
        RpcError::NullResp => {
            Error::chain(format!("the chain node at {nodes} knows no such block")).into()
        }
        RpcError::DeserError { err, .. } => Error::unavailable(format!(
            "the server at {nodes} does not answer as a chain node does; check its address"
        ))
        .with_source(err)
        .into(),
        _ => silent("the request failed".into()),
    }
}

/// A node's words, short enough for a log.
fn said(refused: &ErrorPayload) -> String {
    refused.message.chars().take(300).collect()
}

/// An error and what caused it, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// What became of a transaction's bytes when they were handed to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handover {
    /// The node has it, now or before.
    Taken,
    /// Nobody knows: no answer, too many requests, or a pool that is full. Handing it over again can do no harm.
    Unknown,
    /// Its nonce was used, by itself or by another.
    NonceUsed,
    /// Another transaction of this nonce waits in the node's pool and pays about as much.
    Occupied,
    /// It pays less than the next block asks for.
    Underpaid,
    /// The account cannot pay for it.
    Unfunded(String),
    /// The node will not have it.
    Refused(String),
}

/// Reads a node's answer to `eth_sendRawTransaction`, as geth, reth, nethermind, besu, erigon and anvil word it.
pub(super) fn handover(answer: Result<(), TransportError>) -> Handover {
    let refused = match answer {
        Ok(()) => return Handover::Taken,
        Err(RpcError::ErrorResp(refused)) if !refused.is_retry_err() => refused,
        Err(_) => return Handover::Unknown,
    };
    let words = refused.message.to_lowercase();
    let says = |any: &[&str]| any.iter().any(|text| words.contains(text));
    if says(&[
        "already known",
        "already imported",
        "alreadyknown",
        "known transaction",
    ]) {
        Handover::Taken
    } else if says(&[
        "nonce too low",
        "nonce is too low",
        "old nonce",
        "oldnonce",
        "nonce has already been used",
    ]) {
        Handover::NonceUsed
    } else if says(&["replacement", "replace existing", "already exists"]) {
        Handover::Occupied
    } else if says(&[
        "insufficient funds",
        "insufficient balance",
        "insufficientfunds",
        "overshot",
    ]) {
        Handover::Unfunded(said(&refused))
    } else if says(&[
        "underpriced",
        "base fee",
        "basefee",
        "feetoolow",
        "fee too low",
    ]) {
        Handover::Underpaid
    } else if says(&[
        "pool is full",
        "pool limit",
        "txpool is full",
        "too many",
        "nonce too high",
        "nonce gap",
        "in-flight transaction limit",
    ]) {
        Handover::Unknown
    } else {
        Handover::Refused(said(&refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(code: i64, message: &'static str) -> Handover {
        handover(Err(RpcError::ErrorResp(ErrorPayload {
            code,
            message: message.into(),
            data: None,
        })))
    }

    #[test]
    fn nodes_words_are_understood() {
        for (code, message, meaning) in [
            (-32000, "already known", Handover::Taken),
            (-32003, "transaction already imported", Handover::Taken),
            (
                -32000,
                "nonce too low: next nonce 5, tx nonce 4",
                Handover::NonceUsed,
            ),
            (-32003, "nonce too low", Handover::NonceUsed),
            (
                -32000,
                "replacement transaction underpriced",
                Handover::Occupied,
            ),
            (
                -32000,
                "transaction underpriced: tip needed 1, tip permitted 0",
                Handover::Underpaid,
            ),
            (
                -32003,
                "max fee per gas less than block base fee",
                Handover::Underpaid,
            ),
            (-32000, "txpool is full", Handover::Unknown),
            (-32005, "daily request count exceeded", Handover::Unknown),
            (429, "slow down", Handover::Unknown),
        ] {
            assert_eq!(says(code, message), meaning, "{message}");
        }
        for message in [
            "insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1",
            "Insufficient funds for gas * price + value",
        ] {
            assert!(
                matches!(says(-32000, message), Handover::Unfunded(_)),
                "{message}"
            );
        }
        assert_eq!(
            says(-32000, "exceeds block gas limit"),
            Handover::Refused("exceeds block gas limit".into())
        );
        let long = "x".repeat(10_000).leak();
        assert_eq!(says(-1, long), Handover::Refused("x".repeat(300)));
        let silence = TransportErrorKind::custom_str("no answer");
        assert_eq!(handover(Err(silence)), Handover::Unknown);
    }
}
