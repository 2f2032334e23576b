//! Requests over HTTP, and calls of miners.

use super::super::market::{poll, spec};
use super::super::requests::OUTPUT;
use super::super::session::Step;
use super::{Seed, json};

pub(super) fn requests(seeds: &mut Vec<Seed>) {
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
    let parts = [("model", "shapes"), ("file", "RIFF    WAVEfmt ")].map(|(name, content)| {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    });
    add(
        "transcribe",
        "POST /v1/audio/transcriptions",
        &["Content-Type: multipart/form-data; boundary=x"],
        Some(&(parts.concat() + "--x--")),
    );
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

pub(super) fn sessions(seeds: &mut Vec<Seed>) {
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
