//! What fuzzing begins with: real messages, made from the types themselves. `tests/fuzz_regressions.rs` writes them to
//! `corpus/` and sees that they are current.

mod calls;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    B256, BlobId, Embeddings, EmbeddingsInput, ErrorKind, Failure, FinishReason, Heartbeat, Key,
    LeaseId, LeaseProgress, Message, NodeId, Output, Receipt, Retry, Role, Signed, SignedReceipt,
    TaskId, TextInput, TextPiece, TextWriter, TokenLogprob, Transcript, TranscriptSegment,
    TranscriptionInput, Usage, Voucher, cai, payload_hash,
};
use serde::Serialize;

use super::market::{MEMBERS, START, poll, session, spec};
use super::requests::OUTPUT;

/// A seed: its target, its name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    messages(&mut seeds);
    texts(&mut seeds);
    rows(&mut seeds);
    for (target, name, bytes) in &seeds {
        let sound = *target != "rows" || super::rows::are_sound(bytes);
        assert!(sound, "no coordinator could read the rows `{name}`");
    }
    calls::requests(&mut seeds);
    calls::sessions(&mut seeds);
    seeds
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn miner() -> &'static Key {
    &MEMBERS.miners[0].operator
}

fn word(byte: u8) -> B256 {
    B256::repeat_byte(byte)
}

fn signed_receipt() -> SignedReceipt {
    let receipt = Receipt {
        coordinator: MEMBERS.coordinator.node,
        miner: MEMBERS.miners[0].node,
        lease: LeaseId::from(word(1)),
        task: TaskId::from(word(2)),
        model_hash: word(0x11),
        input_hash: word(3),
        output_hash: payload_hash(OUTPUT.as_bytes()),
        states_root: B256::ZERO,
        usage: Usage {
            input_units: 3,
            output_units: 4_096,
            compute_millis: 7,
        },
    };
    Signed::sign(receipt, miner(), &MEMBERS.deployment)
}

fn messages(seeds: &mut Vec<Seed>) {
    let mut full = spec().with_priority(-3).with_idempotency_key("once");
    full.timeout_millis = Some(60_000);
    full.max_price = Some(cai(2));
    full.webhook = Some("https://app.example.org/told".to_owned());
    seeds.push(("task", "plain", json(&spec())));
    seeds.push(("task", "full", json(&full)));
    seeds.push(("control", "poll", json(&poll())));
    let leases = [0, 1_000].map(|progress| LeaseProgress {
        lease: LeaseId::from(word(1)),
        progress,
        preview: (progress > 0).then(|| Output::new("image/png", b"\x89PNG".to_vec()).into()),
    });
    let leases = leases.to_vec();
    seeds.push(("control", "heartbeat", json(&Heartbeat { leases })));
    let failure = Failure {
        lease: LeaseId::from(word(1)),
        kind: ErrorKind::Execution,
        retry: Retry::Later,
        message: "out of memory".to_owned(),
    };
    seeds.push(("control", "failure", json(&failure)));
    let refusal = Failure {
        kind: ErrorKind::Rejected,
        retry: Retry::Never,
        ..failure
    };
    seeds.push(("control", "refusal", json(&refusal)));
    let request = session(miner().address(), 1);
    let request = Signed::sign(request, miner(), &MEMBERS.deployment);
    seeds.push(("control", "session", json(&request)));
    let receipt = signed_receipt();
    seeds.push(("receipt", "json", json(&receipt)));
    let header = URL_SAFE_NO_PAD.encode(json(&receipt));
    seeds.push(("receipt", "header", header.into_bytes()));
    let digest = word(4);
    let signature = miner().sign(digest);
    seeds.push(("signature", "text", signature.to_string().into_bytes()));
    let key = miner().secret_bytes();
    let bytes = [&signature.as_bytes()[..], digest.as_slice(), key.as_slice()];
    seeds.push(("signature", "bytes", bytes.concat()));
}

fn texts(seeds: &mut Vec<Seed>) {
    // The first byte is where outputs are cut.
    let mut kind =
        |name, content: &[u8]| seeds.push(("kinds", name, [&b"\n"[..], content].concat()));
    let message = |role, content: &str| Message {
        role,
        content: content.to_owned(),
    };
    let chat = vec![
        message(Role::System, "Be brief."),
        message(Role::User, "6 times 7?"),
    ];
    let input = TextInput {
        max_tokens: Some(5),
        temperature: Some(0.5),
        stop: vec!["\n".to_owned()],
        logprobs: Some(2),
        seed: Some(7),
        ..TextInput::chat(chat)
    };
    kind("chat", &json(&input));
    kind("completion", &json(&TextInput::completion("six times")));
    let texts = vec!["a".to_owned(), "b".to_owned()];
    kind("embeddings-input", &json(&EmbeddingsInput::new(texts)));
    let mut writer = TextWriter::default();
    writer.text("forty");
    writer.piece(TextPiece {
        text: "-two".to_owned(),
        logprobs: vec![TokenLogprob {
            token: "-two".to_owned(),
            logprob: -0.25,
            top: Vec::new(),
        }],
    });
    kind("text-output", &writer.end(FinishReason::Stop).bytes);
    let vectors = Embeddings::output(&[vec![1.0, -0.5], vec![0.0, 2.5e-8]]).expect("vectors");
    kind("embeddings", &vectors.bytes);
    let input = TranscriptionInput {
        language: Some("en".to_owned()),
        prompt: Some("Cuckoo".to_owned()),
        temperature: Some(0.5),
        ..TranscriptionInput::new(BlobId::of(b"a recording"))
    };
    kind("transcription", &json(&input));
    let transcript = Transcript {
        text: "forty-two".to_owned(),
        language: "en".to_owned(),
        duration_millis: 1_500,
        segments: vec![TranscriptSegment {
            start_millis: 0,
            end_millis: 1_200,
            text: "forty-two".to_owned(),
        }],
    };
    kind("transcript", &json(&transcript));
    for (name, text) in [
        ("cai", "2000000.000000000000000001"),
        ("wei", "1000000000000000000"),
        ("hexadecimal", "0xde0b6b3a7640000"),
        ("model", "org/model-1.5:latest"),
        ("millis", "1800000000000"),
    ] {
        seeds.push(("numbers", name, text.into()));
    }
    seeds.push(("numbers", "id", word(0xab).to_string().into_bytes()));
    let address = miner().address().to_string();
    seeds.push(("numbers", "address", address.into_bytes()));
}

fn rows(seeds: &mut Vec<Seed>) {
    let bytes = |word: &[u8]| {
        let digits: String = word.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("x{digits}")
    };
    let id = bytes(word(2).as_slice());
    let hash = bytes(word(3).as_slice());
    let lease = bytes(word(1).as_slice());
    let price = bytes(&cai(1).to_be_bytes_trimmed_vec());
    let millis = START.as_millis();
    let input = r#"{"prompt":"a red circle","seed":7}"#;
    let task = format!(
        "tasks\ti1\t{id}\ttshapes\tt{input}\t{hash}\t{price}\ti{millis}\ti{millis}\ti0\ttapp\ttonce\t{hash}\tn"
    );
    let open =
        format!("{task}\nopen\ti1\ti1\tn\nleases\ti1\t{lease}\ti2\ti0\t{hash}\ttcpu\ti{millis}");
    seeds.push(("rows", "open", open.into_bytes()));
    let receipt = serde_json::to_string(&signed_receipt()).expect("JSON");
    let done = format!(
        r#"{{"received":[{{"receipt":{receipt},"kernels":"cpu"}}],"failures":[{{"miner":3,"kind":"execution","reason":"no memory","at":{millis}}}],"accepted":0}}"#
    );
    let done = format!("{task}\nended\ti1\ti1\ti3\ti1\ti{millis}\tt{done}");
    seeds.push(("rows", "completed", done.into_bytes()));
    let failed = r#"{"received":[],"failures":[],"outcome":{"outcome":"failed","kind":"timeout","message":"too late","fault":"nobody"}}"#;
    let failed = format!("{task}\nended\ti1\ti1\ti2\ti2\ti{millis}\tt{failed}");
    seeds.push(("rows", "failed", failed.into_bytes()));
    let voucher = Voucher {
        coordinator: MEMBERS.coordinator.node,
        miner: NodeId(2),
        cumulative: cai(5),
    };
    let key = &MEMBERS.coordinator.operator;
    let voucher = Signed::sign(voucher, key, &MEMBERS.deployment);
    let voucher = serde_json::to_string(&voucher).expect("JSON");
    let operator = bytes(miner().address().as_slice());
    let others = format!(
        "accounts\ti2\ti1\tt{voucher}\nsessions\ti2\t{hash}\t{operator}\ti{millis}\nnonces\ti2\t{hash}\ti{millis}\nforgotten\ttapp\ti500000\ti3\t{price}"
    );
    seeds.push(("rows", "accounts", others.into_bytes()));
}
