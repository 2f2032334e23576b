//! JSON from requesters and miners.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_coordinator::{Quote, fuzzing};
use cuckoo_core::{
    Address, ErrorKind, Failure, Heartbeat, PollRequest, Session, Signable, Signed, TaskSpec,
};
use serde_json::Value;

use super::market::{MEMBERS, Standing, standing};
use super::{read, survives};

/// A task's JSON, and what admission makes of it.
pub fn task(data: &[u8]) {
    static MARKET: LazyLock<Standing> = LazyLock::new(standing);
    let Ok(spec) = serde_json::from_slice::<TaskSpec>(data) else {
        return;
    };
    // JSON's numbers with a fraction are read to within their last digit; what is signed is text.
    if !has_fraction(&spec.input) {
        survives(&spec);
    }
    if let Quote::Refused { reason } = MARKET.coordinator.quote(spec) {
        let expected = [
            ErrorKind::Invalid,
            ErrorKind::NotFound,
            ErrorKind::Rejected,
            ErrorKind::Unavailable,
        ];
        assert!(expected.contains(&reason.kind), "{reason:?}");
    }
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(fields) => fields.values().any(has_fraction),
        _ => false,
    }
}

/// A miner's control messages.
pub fn control(data: &[u8]) {
    read::<PollRequest>(data);
    read::<Heartbeat>(data);
    read::<Failure>(data);
    if let Some(request) = read::<Signed<Session>>(data) {
        check(&request, request.value.miner);
    }
}

/// A completion's header: as it comes, and as the JSON in it.
pub fn receipt(data: &[u8]) {
    for header in [data, URL_SAFE_NO_PAD.encode(data).as_bytes()] {
        let Ok(receipt) = fuzzing::receipt_header(header) else {
            continue;
        };
        let json = serde_json::to_vec(&receipt).expect("a receipt is JSON");
        let again = fuzzing::receipt_header(URL_SAFE_NO_PAD.encode(json).as_bytes());
        assert_eq!(again.expect("our own header"), receipt);
        check(&receipt, MEMBERS.miners[0].operator.address());
    }
}

/// Whoever is recovered as the signer is who verifies, and nobody else.
fn check<T: Signable>(signed: &Signed<T>, somebody: Address) {
    let deployment = &MEMBERS.deployment;
    let signer = signed.signer(deployment).ok();
    if let Some(signer) = signer {
        signed.verify(signer, deployment).expect("its own signer");
    }
    let verified = signed.verify(somebody, deployment).is_ok();
    assert_eq!(verified, signer == Some(somebody));
}
