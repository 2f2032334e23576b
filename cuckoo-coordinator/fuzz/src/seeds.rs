//! What fuzzing begins with: real messages, made from the types themselves. `tests/fuzz_regressions.rs` writes them to
//! `corpus/` and sees that they are current.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::{
    B256, Embeddings, EmbeddingsInput, ErrorKind, Failure, FinishReason, Heartbeat, Key, LeaseId,
    LeaseProgress, Message, NodeId, Receipt, Role, Signed, SignedReceipt, TaskId, TextInput,
    TextPiece, TextWriter, TokenLogprob, Usage, Voucher, cai, payload_hash,
};
use serde::Serialize;

use super::market::{MEMBERS, START, poll, session, spec};
use super::requests::OUTPUT;
use super::session::Step;

/// A seed: its target, its name, its bytes.
pub type Seed = (&'static str, &'static str, Vec<u8>);

/// Every seed.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    messages(&mut seeds);
    texts(&mut seeds);
    rows(&mut seeds);
    requests(&mut seeds);
    sessions(&mut seeds);
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
    });
    let leases = leases.to_vec();
    seeds.push(("control", "heartbeat", json(&Heartbeat { leases })));
    let failure = Failure {
        lease: LeaseId::from(word(1)),
        kind: ErrorKind::Execution,
        message: "out of memory".to_owned(),
    };
    seeds.push(("control", "failure", json(&failure)));
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
        "accounts\ti2\ti1\tt{voucher}\nsessions\ti2\t{hash}\t{operator}\ti{millis}\nforgotten\ttapp\ti500000\ti3\t{price}"
    );
    seeds.push(("rows", "accounts", others.into_bytes()));
}

fn requests(seeds: &mut Vec<Seed>) {
    let mut add = |name, head: &str, headers: &[&str], body: Option<&str>| {
        let mut text = format!("{head} HTTP/1.1\r\nHost: a\r\n");
        for header in headers {
            text += &format!("{header}\r\n");
        }
        if body.is_some() {
            text += "Content-Length: {length}\r\n";
        }
        text += "\r\n";
        text += body.unwrap_or_default();
        seeds.push(("requests", name, text.into_bytes()));
    };
    const JSON: &str = "Content-Type: application/json";
    const BEARER: &str = "Authorization: Bearer {token}";
    let text = |value: Vec<u8>| String::from_utf8(value).expect("JSON is text");
    let (spec, polled) = (text(json(&spec())), text(json(&poll())));
    add("health", "GET /healthz", &[], None);
    add("openapi", "GET /openapi.json", &[], None);
    add("info", "GET /miner/v1/info", &[], None);
    add(
        "open",
        "POST /miner/v1/sessions",
        &[JSON],
        Some("{session}"),
    );
    add("close", "DELETE /miner/v1/sessions", &[BEARER], None);
    add(
        "poll",
        "POST /miner/v1/poll",
        &[BEARER, JSON],
        Some(&polled),
    );
    let beat = r#"{"leases":[{"lease":"{lease}","progress":450}]}"#;
    add(
        "heartbeat",
        "POST /miner/v1/heartbeat",
        &[BEARER, JSON],
        Some(beat),
    );
    let chunk = [BEARER, "Cuckoo-Lease: {lease}", "Cuckoo-Offset: 0"];
    add("stream", "POST /miner/v1/stream", &chunk, Some("an ou"));
    let receipt = [
        BEARER,
        "Content-Type: image/png",
        "Cuckoo-Receipt: {receipt}",
    ];
    add(
        "complete",
        "POST /miner/v1/complete",
        &receipt,
        Some(OUTPUT),
    );
    let failure = r#"{"lease":"{lease}","kind":"invalid","message":"no prompt"}"#;
    add(
        "fail",
        "POST /miner/v1/fail",
        &[BEARER, JSON],
        Some(failure),
    );
    add(
        "submit",
        "POST /v1/tasks",
        &[JSON, "Idempotency-Key: once"],
        Some(&spec),
    );
    add(
        "submit-and-wait",
        "POST /v1/tasks",
        &[JSON, "Prefer: wait=5"],
        Some(&spec),
    );
    add("quote", "POST /v1/quotes", &[JSON], Some(&spec));
    add(
        "list",
        "GET /v1/tasks?state=open&limit=2&model=shapes",
        &[],
        None,
    );
    add("state", "GET /v1/tasks/{task}", &[], None);
    add(
        "output",
        "GET /v1/tasks/{task}/output?wait_millis=100",
        &[],
        None,
    );
    add(
        "events",
        "GET /v1/tasks/{task}/events",
        &["Last-Event-ID: queued"],
        None,
    );
    add("cancel", "DELETE /v1/tasks/{task}", &[], None);
    add(
        "replay",
        "POST /v1/tasks/{task}/replay?timeout_millis=500",
        &[],
        None,
    );
    add(
        "status",
        "GET /v1/status",
        &["X-Forwarded-For: 203.0.113.7"],
        None,
    );
    add("evidence", "GET /v1/evidence", &[], None);
    let chunked = "2\r\n{}\r\n0\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n";
    let body = ["Transfer-Encoding: chunked", JSON, "Expect: 100-continue"];
    let mut pieces = format!("POST /v1/quotes HTTP/1.1\r\n{}\r\n\r\n", body.join("\r\n"));
    pieces += chunked;
    seeds.push(("requests", "chunked", pieces.into_bytes()));
    seeds.push(("requests", "http2", http2()));
}

/// The preface of HTTP/2, empty settings, and `GET /` as a block of HPACK's static table (RFC 9113, RFC 7541).
fn http2() -> Vec<u8> {
    const SETTINGS: u8 = 4;
    const HEADERS: u8 = 1;
    const END_OF_STREAM_AND_HEADERS: u8 = 5;
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        [&head[..], payload].concat()
    };
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        // :method GET, :path /, :scheme http, :authority a.
        frame(
            HEADERS,
            END_OF_STREAM_AND_HEADERS,
            1,
            &[0x82, 0x84, 0x86, 0x41, 1, b'a'],
        ),
    ]
    .concat()
}

fn sessions(seeds: &mut Vec<Seed>) {
    let call = Step::named;
    let second = Step {
        who: 1,
        ..call("open")
    };
    let mut add = |name, steps: &[Step]| {
        let bytes = steps.iter().flat_map(|step| step.bytes()).collect();
        seeds.push(("session", name, bytes));
    };
    let own = |name| Step {
        who: 1,
        ..call(name)
    };
    add(
        "work",
        &[
            call("open"),
            call("submit"),
            own("poll"),
            own("heartbeat"),
            own("stream"),
            own("complete"),
            own("close"),
        ],
    );
    let later = Step {
        time: 5,
        ..call("advance")
    };
    add("replay", &[call("open"), call("open"), later, call("open")]);
    let flawed = |flaw: u8| Step {
        signer: flaw << 3,
        ..call("open")
    };
    add(
        "forged",
        &[
            flawed(1),
            flawed(2),
            flawed(3),
            Step {
                signer: 5,
                ..call("open")
            },
        ],
    );
    let expiring = |time| Step {
        time,
        which: time,
        ..call("open")
    };
    add("expiry", &[1, 2, 3, 4, 5, 6, 7].map(expiring));
    add(
        "others",
        &[2, 3, 4, 5].map(|who| Step {
            who,
            ..call("open")
        }),
    );
    let theirs = |name| Step {
        who: 2,
        signer: 1,
        ..call(name)
    };
    add(
        "anothers-work",
        &[
            call("open"),
            second,
            call("submit"),
            own("poll"),
            theirs("heartbeat"),
            theirs("stream"),
            theirs("complete"),
            theirs("fail"),
            own("fail"),
        ],
    );
    let ended = Step {
        time: 7,
        ..call("advance")
    };
    add(
        "ended",
        &[call("open"), own("poll"), ended, own("poll"), own("close")],
    );
    let many: Vec<_> = (0..66)
        .map(|which| Step {
            which,
            ..call("open")
        })
        .collect();
    add("many", &many);
}
