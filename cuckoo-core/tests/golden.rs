//! The bytes that other implementations must agree on: every signed type's digest and signature, every wire message's JSON.
//!
//! The files change only with the protocol's version: `UPDATE_GOLDEN=1 cargo nextest run -p cuckoo-core golden` rewrites
//! them. That the contracts accept the same digests of vouchers and consents is shown in `chain_behaviour.rs`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "this is a test"
)]

use std::path::PathBuf;

use cuckoo_core::{
    Address, Assignment, B256, Capability, ChunkReply, CompletionReply, CoordinatorInfo,
    Deployment, Error, ErrorBody, ErrorKind, Failure, Fault, Heartbeat, HeartbeatReply, Key,
    LeaseId, LeaseProgress, LeaseStatus, ModelId, ModelOffer, NodeId, NodeKind, OperatorConsent,
    Output, PROTOCOL_VERSION, PollReply, PollRequest, Receipt, Retry, Session, SessionGrant,
    SessionOpened, SessionToken, Signable, Signed, Task, TaskId, TaskSpec, TaskState, Timestamp,
    U256, Usage, Voucher, payload_hash,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

/// Compares with the committed file, or rewrites it when told to.
fn compare(name: &str, actual: &Value) {
    let path = path(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(actual).unwrap() + "\n";
        std::fs::write(&path, text).unwrap();
        return;
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let (Value::Object(expected), Value::Object(actual)) = (&expected, actual) else {
        panic!("a golden file is one object of named examples");
    };
    for (example, actual) in actual {
        assert_eq!(Some(actual), expected.get(example), "{example} in {name}");
    }
    assert_eq!(
        expected.len(),
        actual.len(),
        "{name} holds examples of nothing"
    );
}

fn key(byte: u8) -> Key {
    Key::from_bytes(B256::repeat_byte(byte)).unwrap()
}

fn deployment() -> Deployment {
    Deployment {
        chain_id: 1210,
        staking: Address::repeat_byte(0x51),
        payments: Address::repeat_byte(0x9a),
    }
}

fn model() -> ModelId {
    "shapes".parse().unwrap()
}

fn lease() -> LeaseId {
    B256::repeat_byte(0x1e).into()
}

fn task() -> TaskId {
    B256::repeat_byte(0x7a).into()
}

const INPUT: &str = r#"{"prompt":"a red circle","seed":7}"#;
const OUTPUT: &[u8] = b"\x89PNG";
const TIME: Timestamp = Timestamp::from_millis(1_760_000_000_000);

fn session() -> Session {
    Session {
        coordinator: key(2).address(),
        miner: key(1).address(),
        nonce: B256::repeat_byte(0x0c),
        expiry: TIME,
    }
}

fn token() -> SessionToken {
    SessionToken::new("kZ8rX1")
}

fn grant() -> SessionGrant {
    SessionGrant {
        coordinator: key(2).address(),
        miner: key(1).address(),
        nonce: B256::repeat_byte(0x0c),
        token_hash: token().hash(),
        expiry: TIME,
    }
}

fn receipt() -> Receipt {
    Receipt {
        coordinator: NodeId(1),
        miner: NodeId(2),
        lease: lease(),
        task: task(),
        model_hash: B256::repeat_byte(0x0d),
        input_hash: payload_hash(INPUT.as_bytes()),
        output_hash: payload_hash(OUTPUT),
        states_root: B256::ZERO,
        usage: Usage {
            input_units: 3,
            output_units: 4_096,
            compute_millis: 1_234,
        },
    }
}

fn voucher() -> Voucher {
    Voucher {
        coordinator: NodeId(1),
        miner: NodeId(2),
        // Above 64 bits, as sums of wei soon are.
        cumulative: cuckoo_core::cai(123),
    }
}

fn consent() -> OperatorConsent {
    OperatorConsent {
        owner: key(3).address(),
        operator: key(1).address(),
        kind: NodeKind::Miner,
        nonce: U256::from(4),
        deadline: 1_760_000_000,
    }
}

#[test]
fn signed_types() {
    fn example<T>(value: T, signer: &Key) -> Value
    where
        T: Signable + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug + Clone,
    {
        let deployment = deployment();
        let digest = value.digest(&deployment);
        let signed = Signed::sign(value, signer, &deployment);
        signed.verify(signer.address(), &deployment).unwrap();
        let json = serde_json::to_value(&signed).unwrap();
        let read: Signed<T> = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(read, signed);
        // Bound to the chain and to the contract.
        for elsewhere in [
            Deployment {
                chain_id: 1200,
                ..deployment
            },
            Deployment {
                staking: deployment.payments,
                payments: deployment.staking,
                ..deployment
            },
        ] {
            assert_ne!(signed.value.digest(&elsewhere), digest);
        }
        json!({
            "value": json["value"],
            "signer": signer.address(),
            "digest": digest,
            "signature": json["signature"],
        })
    }
    let (miner, coordinator) = (key(1), key(2));
    let mut examples = Map::new();
    examples.insert(
        "deployment".into(),
        serde_json::to_value(deployment()).unwrap(),
    );
    examples.insert(
        "keys".into(),
        json!({ "miner": miner.secret_bytes(), "coordinator": coordinator.secret_bytes() }),
    );
    examples.insert("session".into(), example(session(), &miner));
    examples.insert("session_grant".into(), example(grant(), &coordinator));
    examples.insert("receipt".into(), example(receipt(), &miner));
    examples.insert("voucher".into(), example(voucher(), &coordinator));
    examples.insert("operator_consent".into(), example(consent(), &miner));
    compare("signed_types.json", &Value::Object(examples));
}

#[test]
fn wire_messages() {
    struct Examples(Map<String, Value>);
    impl Examples {
        fn add<T>(&mut self, name: &str, value: T)
        where
            T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
        {
            let json = serde_json::to_value(&value).unwrap();
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<T>(&text).unwrap(), value, "{name}");
            assert!(self.0.insert(name.into(), json).is_none(), "{name} twice");
        }
    }
    let deployment = deployment();
    let (miner, coordinator) = (key(1), key(2));
    let mut examples = Examples(Map::new());
    let voucher = Signed::sign(voucher(), &coordinator, &deployment);
    examples.add(
        "coordinator_info",
        CoordinatorInfo {
            protocol: PROTOCOL_VERSION,
            node: NodeId(1),
            operator: coordinator.address(),
            deployment,
            models: vec![
                ModelOffer {
                    model: model(),
                    model_hash: Some(B256::repeat_byte(0x0d)),
                    price: U256::from(1_000_000_000_000_000_u64),
                },
                ModelOffer {
                    model: "any/weights:q4".parse().unwrap(),
                    model_hash: None,
                    price: U256::ZERO,
                },
            ],
            time: TIME,
        },
    );
    examples.add(
        "session_request",
        Signed::sign(session(), &miner, &deployment),
    );
    examples.add(
        "session_opened",
        SessionOpened {
            token: token(),
            miner: NodeId(2),
            grant: Signed::sign(grant(), &coordinator, &deployment),
        },
    );
    examples.add(
        "poll_request",
        PollRequest {
            capabilities: vec![Capability {
                model: model(),
                model_hash: B256::repeat_byte(0x0d),
                kernels: "cpu-f32".into(),
                max_input_bytes: 65_536,
                min_price: U256::from(5),
            }],
            free_slots: 2,
            warm: vec![model()],
            wait_millis: 30_000,
        },
    );
    examples.add(
        "poll_reply",
        PollReply {
            assignments: vec![Assignment {
                lease: lease(),
                task: task(),
                coordinator: NodeId(1),
                model: model(),
                model_hash: B256::repeat_byte(0x0d),
                input: INPUT.into(),
                input_hash: payload_hash(INPUT.as_bytes()),
                price: U256::from(1_000_000_000_000_000_u64),
                lease_expires_at: TIME,
                heartbeat_millis: 2_000,
                deadline: TIME,
            }],
            voucher: Some(voucher.clone()),
        },
    );
    examples.add("poll_reply_empty", PollReply::default());
    examples.add(
        "heartbeat",
        Heartbeat {
            leases: vec![LeaseProgress {
                lease: lease(),
                progress: 250,
                preview: None,
            }],
        },
    );
    examples.add(
        "heartbeat_preview",
        Heartbeat {
            leases: vec![LeaseProgress {
                lease: lease(),
                progress: 500,
                preview: Some(Output::new("image/png", b"\x89PNG".to_vec()).into()),
            }],
        },
    );
    examples.add(
        "heartbeat_reply",
        HeartbeatReply {
            leases: vec![
                LeaseStatus::Active { expires_at: TIME },
                LeaseStatus::Cancelled,
                LeaseStatus::Ended,
            ],
            wanted: Vec::new(),
        },
    );
    examples.add(
        "heartbeat_reply_wanted",
        HeartbeatReply {
            leases: vec![LeaseStatus::Active { expires_at: TIME }],
            wanted: vec![model(), "any/weights:q4".parse().unwrap()],
        },
    );
    examples.add(
        "chunk_reply",
        ChunkReply {
            lease: LeaseStatus::Active { expires_at: TIME },
            received: 300,
        },
    );
    examples.add("receipt", Signed::sign(receipt(), &miner, &deployment));
    examples.add(
        "completion_reply",
        CompletionReply {
            voucher: Some(voucher),
        },
    );
    examples.add(
        "completion_reply_audited",
        CompletionReply { voucher: None },
    );
    examples.add(
        "failure",
        Failure {
            lease: lease(),
            kind: ErrorKind::Execution,
            retry: Retry::Later,
            message: "out of memory".into(),
        },
    );
    examples.add(
        "failure_refusal",
        Failure {
            lease: lease(),
            kind: ErrorKind::Rejected,
            retry: Retry::Never,
            message: "40 texts, and this miner takes 32".into(),
        },
    );
    examples.add(
        "error_body",
        ErrorBody::from(&Error::unavailable("the chain does not answer")),
    );
    examples.add(
        "task_spec",
        TaskSpec {
            model: model(),
            input: json!({ "prompt": "a red circle" }),
            timeout_millis: Some(60_000),
            max_price: Some(U256::from(9)),
            priority: 3,
            idempotency_key: Some("order-7".into()),
            webhook: Some("https://app.example/done".into()),
        },
    );
    examples.add(
        "task_spec_short",
        TaskSpec::new(model(), json!({ "prompt": "a red circle" })),
    );
    examples.add(
        "task",
        Task {
            id: task(),
            model: model(),
            input: INPUT.into(),
            input_hash: payload_hash(INPUT.as_bytes()),
            price: U256::from(9),
            submitted_at: TIME,
            deadline: TIME,
            priority: 3,
        },
    );
    for (name, state) in [
        ("task_state_queued", TaskState::Queued),
        (
            "task_state_running",
            TaskState::Running {
                miner: NodeId(2),
                progress: 500,
            },
        ),
        (
            "task_state_auditing",
            TaskState::Auditing { miner: NodeId(2) },
        ),
        (
            "task_state_completed",
            TaskState::Completed { miner: NodeId(2) },
        ),
        (
            "task_state_failed",
            TaskState::Failed {
                kind: ErrorKind::Timeout,
                message: "no miner took it in time".into(),
                fault: Fault::Nobody,
            },
        ),
        ("task_state_cancelled", TaskState::Cancelled),
    ] {
        examples.add(name, state);
    }
    compare("wire.json", &Value::Object(examples.0));
}

#[test]
fn hostile_messages_are_refused() {
    for text in [
        r#"{"value":{},"signature":"0x00"}"#,
        "[]",
        "null",
        r#"{"model":"","input":{}}"#,
        r#"{"model":"../../etc/passwd\u0000","input":{}}"#,
    ] {
        assert!(serde_json::from_str::<Signed<Receipt>>(text).is_err());
        assert!(serde_json::from_str::<TaskSpec>(text).is_err(), "{text}");
    }
    let short = "0x".to_owned() + &"0".repeat(128);
    for signature in [
        "",
        "0x",
        &short,
        &(short.clone() + "zz"),
        &(short.clone() + "0000"),
    ] {
        assert!(signature.parse::<cuckoo_core::Signature>().is_err());
    }
}
