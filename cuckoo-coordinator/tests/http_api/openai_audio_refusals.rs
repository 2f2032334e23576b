//! What OpenAI's clients are told when a recording cannot be written down as they ask.

use cuckoo_coordinator::{ApiKeySettings, Front, HttpSettings, new_api_key, router, router_with};
use cuckoo_core::{SeededEntropy, TranscriptionInput, paths};
use reqwest::Method;
use serde_json::json;

use crate::openai::{TALK, answer, problem};
use crate::openai_audio::{EARS, form, open, wav};

const ROUTES: [&str; 2] = [paths::TRANSCRIPTIONS, paths::TRANSLATIONS];

#[tokio::test]
async fn what_cannot_be_honoured_is_refused_by_name() {
    let shop = open(|_| {}, router).await;
    let long = "a".repeat(TranscriptionInput::MAX_PROMPT_BYTES + 1);
    for (name, value, code) in [
        ("language", "English", None),
        ("language", "", None),
        ("prompt", long.as_str(), None),
        ("temperature", "1.5", None),
        ("temperature", "-0.1", None),
        ("temperature", "NaN", None),
        ("temperature", "warm", None),
        ("temperature", "", None),
        ("seed", "-1", None),
        ("response_format", "diarized_json", None),
        ("response_format", "", None),
        ("timestamp_granularities[]", "word", None),
        ("stream", "true", Some("unsupported_parameter")),
        ("include[]", "logprobs", Some("unsupported_parameter")),
        ("keywords[]", "cuckoo", Some("unsupported_parameter")),
        ("languages[]", "en", Some("unsupported_parameter")),
        ("known_speaker_names[]", "a", Some("unsupported_parameter")),
        (
            "chunking_strategy[type]",
            "server_vad",
            Some("unknown_parameter"),
        ),
        ("beam_size", "5", Some("unknown_parameter")),
        ("model", EARS, None),
        ("file", "RIFF", None),
    ] {
        for path in ROUTES {
            let refused = problem(shop.listened(path, &[(name, value)]).await, 400).await;
            assert_eq!(refused["param"], name, "{name}: {value}: {refused}");
            assert_eq!(refused["code"], json!(code), "{refused}");
            let message = refused["message"].as_str().unwrap();
            assert!(message.contains(name), "{message}");
        }
    }
    let status = shop.market.coordinator.status();
    assert_eq!((status.queued, status.completed, status.failed), (0, 0, 0));
}

#[tokio::test]
async fn a_file_must_be_there_and_be_a_wav() {
    let shop = open(|_| {}, router).await;
    let model = ("model", EARS.as_bytes());
    let missing = shop.form(paths::TRANSCRIPTIONS, &[model]).send().await;
    let missing = problem(missing.unwrap(), 400).await;
    assert_eq!(missing["param"], "file");
    assert_eq!(missing["code"], "missing_required_parameter");
    let sound = wav(1_000, 8_000);
    let nameless = shop.form(paths::TRANSCRIPTIONS, &[("file", sound.as_slice())]);
    let nameless = problem(nameless.send().await.unwrap(), 400).await;
    assert_eq!(nameless["param"], "model");
    assert_eq!(nameless["code"], "missing_required_parameter");
    let twice = [
        model,
        ("file", sound.as_slice()),
        ("file", sound.as_slice()),
    ];
    let twice = shop.form(paths::TRANSCRIPTIONS, &twice).send().await;
    let twice = problem(twice.unwrap(), 400).await;
    assert_eq!(twice["param"], "file");
    for bytes in [
        &b""[..],
        b"RIFF",
        b"RIFF\0\0\0\0AVI LIST",
        b"ID3\x04\0\0\0\0\0\0 an MP3",
        b"OggS\0\0\0\0\0\0\0\0",
        &sound[1..],
    ] {
        let odd = shop.form(paths::TRANSCRIPTIONS, &[model, ("file", bytes)]);
        let odd = problem(odd.send().await.unwrap(), 400).await;
        assert_eq!(odd["param"], "file");
        let message = odd["message"].as_str().unwrap();
        assert!(message.contains("ffmpeg -i"), "{message}");
    }
    // What only the miner can know is refused all the same.
    let empty = wav(0, 8_000);
    let empty = shop.form(paths::TRANSCRIPTIONS, &[model, ("file", empty.as_slice())]);
    let empty = problem(empty.send().await.unwrap(), 400).await;
    let message = empty["message"].as_str().unwrap();
    assert!(message.contains("is empty"), "{message}");
}

#[tokio::test]
async fn a_recording_is_as_long_as_a_blob_may_be() {
    let most = 44 + 2 * 8_000;
    let shop = open(|settings| settings.max_blob_bytes = most, router).await;
    let ask = |length: usize| {
        let mut sound = wav(1_000, 8_000);
        let header_says = (length - 44) as u32;
        sound[40..44].copy_from_slice(&header_says.to_le_bytes());
        sound.resize(length, 0);
        let parts = [("file", sound.as_slice()), ("model", EARS.as_bytes())];
        shop.form(paths::TRANSCRIPTIONS, &parts).send()
    };
    answer(ask(most).await.unwrap()).await;
    let longer = problem(ask(most + 1).await.unwrap(), 413).await;
    assert_eq!(longer["param"], "file");
    assert_eq!(longer["type"], "invalid_request_error");
    problem(ask(most + 200_000).await.unwrap(), 413).await;
}

#[tokio::test]
async fn a_model_is_asked_only_for_what_it_is() {
    let shop = open(|_| {}, router).await;
    let sound = wav(1_000, 8_000);
    for path in ROUTES {
        let ask = |model: &str| {
            let parts = [("file", sound.as_slice()), ("model", model.as_bytes())];
            shop.form(path, &parts).send()
        };
        let wrong = problem(ask(TALK).await.unwrap(), 400).await;
        assert_eq!(wrong["code"], "model_not_supported");
        let message = wrong["message"].as_str().unwrap();
        assert!(
            message.contains("a chat model") && message.contains(EARS),
            "{message}"
        );
        let unknown = problem(ask("whisper-1").await.unwrap(), 404).await;
        assert_eq!(
            (&unknown["code"], &unknown["param"]),
            (&json!("model_not_found"), &json!("model"))
        );
        assert!(unknown["message"].as_str().unwrap().contains(EARS));
    }
    let chat = json!({"model": EARS, "messages": [{"role": "user", "content": "a"}]});
    let chat = shop.post(paths::CHAT, &chat).send().await.unwrap();
    let chat = problem(chat, 400).await;
    assert!(
        chat["message"]
            .as_str()
            .unwrap()
            .contains("a transcription model")
    );
}

#[tokio::test]
async fn bodies_and_methods_are_refused_in_the_same_form() {
    let shop = open(|_| {}, router).await;
    for path in ROUTES {
        let call = || shop.market.call(Method::POST, path);
        problem(call().send().await.unwrap(), 415).await;
        let body = json!({"model": EARS});
        problem(call().json(&body).send().await.unwrap(), 415).await;
        let nothing_between = call().header("content-type", "multipart/form-data");
        problem(nothing_between.body("--x--").send().await.unwrap(), 415).await;
        let whole = form(&[("model", EARS.as_bytes())]);
        for body in [Vec::new(), whole[..whole.len() - 4].to_vec()] {
            let broken = shop.form(path, &[]).body(body).send().await.unwrap();
            let broken = problem(broken, 400).await;
            assert!(broken["message"].as_str().unwrap().contains("curl -F"));
        }
        let many = vec![("a[]", &b"1"[..]); 65];
        problem(shop.form(path, &many).send().await.unwrap(), 400).await;
        let get = shop.market.call(Method::GET, path).send().await.unwrap();
        assert_eq!(get.headers()["allow"], "POST");
        problem(get, 405).await;
        let keyed = shop.recording(path, &[]).header("idempotency-key", "a b");
        problem(keyed.send().await.unwrap(), 400).await;
    }
}

#[tokio::test]
async fn a_web_page_needs_leave_to_send_a_form() {
    let shop = open(|_| {}, router).await;
    let page = || {
        let request = shop.recording(paths::TRANSCRIPTIONS, &[]);
        request.header("origin", "https://app.example.org")
    };
    let refused = problem(page().send().await.unwrap(), 403).await;
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("cors_origins"), "{message}");
    problem(
        page()
            .header("authorization", "Basic YTpi")
            .send()
            .await
            .unwrap(),
        401,
    )
    .await;
    assert_eq!(shop.miner().status().completed, 0);
    // With this header, a browser asks first.
    answer(page().bearer_auth("any").send().await.unwrap()).await;
}

#[tokio::test]
async fn keys_and_limits_are_those_of_every_request() {
    let app = new_api_key(&SeededEntropy::from_number(1));
    let keys = [ApiKeySettings {
        key_hash: Some(app.hash()),
        max_tasks_per_day: Some(1),
        ..ApiKeySettings::named("app")
    }];
    let front = Front::new(HttpSettings::default(), &keys).unwrap();
    let shop = open(|_| {}, |coordinator| router_with(coordinator, front)).await;
    let ask = || shop.recording(paths::TRANSLATIONS, &[]);
    let keyless = problem(ask().send().await.unwrap(), 401).await;
    assert_eq!(keyless["code"], "invalid_api_key");
    answer(ask().bearer_auth(app.expose()).send().await.unwrap()).await;
    let spent = ask().bearer_auth(app.expose()).send().await.unwrap();
    let spent = problem(spent, 429).await;
    assert_eq!(spent["code"], "insufficient_quota");
}
