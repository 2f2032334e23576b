use std::path::PathBuf;

use cuckoo_core::{BlobId, ErrorKind};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::windows::Stand;
use super::*;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/speech")
        .join(name)
}

fn model(name: &str) -> SpeechModel {
    SpeechModel::load(&golden(name)).unwrap()
}

fn recording(name: &str) -> Recording {
    let wav = std::fs::read(golden(&format!("recordings/{name}.wav"))).unwrap();
    Recording::from_wav(&wav, 60).unwrap()
}

fn input() -> TranscriptionInput {
    TranscriptionInput::new(BlobId::of(b""))
}

/// Pins what is heard to the bit, on every processor these tests run on: who changes it changes the transcripts of the network,
/// and must give `speech` another number.
#[test]
fn bits_of_what_is_heard_are_pinned() {
    assert_eq!(NAME, "speech-1");
    for (name, pinned) in [("multilingual", MULTILINGUAL), ("english", ENGLISH)] {
        let model = model(name);
        let mut digest = Sha256::new();
        for name in ["long", "short"] {
            for number in model.features(&recording(name)) {
                digest.update(number.to_le_bytes());
            }
        }
        let hash: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hash, pinned, "{name}");
    }
}

const MULTILINGUAL: &str = "720cdc29e38fa0f28032f4350d8f08b2ea0bf78eaef39be0ab527c09091a1ea7";
const ENGLISH: &str = "60ff2e33a6bd8265795c06d64cc9103288a4b163e87eb8e53cb54aa11a95fc4b";

#[test]
fn tokens_score_the_same_at_once_and_one_by_one() {
    let (model, recording) = (model("multilingual"), recording("short"));
    let tokens = [297, 300, 304, 309, 5, 17, 320];
    let at_once = model.scores(&recording, &tokens).unwrap();
    let heard = model
        .hear(&model.features(&recording), 0, &|| Ok(()))
        .unwrap();
    let mut cache = model.blank(tokens.len()).unwrap();
    for (token, expected) in tokens.iter().zip(&at_once) {
        let kernels = &*model.kernels;
        let scores = model
            .decoder
            .forward(kernels, &[*token], &mut cache, &heard, 1)
            .unwrap();
        let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&scores[0]), bits(expected), "{token}");
    }
    for bad in [&[][..], &[410], &[0; 91]] {
        let error = model.scores(&recording, bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[test]
fn draws_follow_the_seed() {
    let (model, recording) = (model("multilingual"), recording("long"));
    let write = |temperature, seed| {
        let input = TranscriptionInput {
            temperature: Some(temperature),
            seed: Some(seed),
            ..input()
        };
        model.transcribe(&recording, &input).unwrap()
    };
    assert_eq!(write(1.0, 5), write(1.0, 5));
    assert_ne!(write(1.0, 5), write(1.0, 6));
    assert_eq!(write(0.0, 5), write(0.0, 6));
    for transcript in [write(1.0, 5), write(0.7, 1)] {
        transcript.output().unwrap();
        assert_eq!(transcript.duration_millis, recording.millis());
    }
}

#[test]
fn what_a_model_does_not_know_is_refused() {
    let (multilingual, english) = (model("multilingual"), model("english"));
    assert_eq!(multilingual.languages(), ["de", "en", "haw", "yue", "zh"]);
    assert_eq!(english.languages(), ["en"]);
    let with = |language: Option<&str>, translate: bool, prompt: Option<&str>| TranscriptionInput {
        language: language.map(str::to_owned),
        translate,
        prompt: prompt.map(str::to_owned),
        ..input()
    };
    for good in [
        with(Some("haw"), true, None),
        with(None, false, Some("names: Cuckoo, Hedge")),
    ] {
        multilingual.check(&good).unwrap();
    }
    english.check(&with(Some("en"), false, None)).unwrap();
    for (model, bad, named) in [
        (&multilingual, with(Some("fr"), false, None), "`fr`"),
        (
            &multilingual,
            with(None, false, Some("a <|endoftext|> b")),
            "prompt",
        ),
        (&english, with(Some("de"), false, None), "`de`"),
        (&english, with(None, true, None), "translate"),
    ] {
        let error = model.check(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains(named), "{error}");
    }
    let long = "cuckoo ".repeat(100);
    let transcript = multilingual.transcribe(&recording("short"), &with(None, false, Some(&long)));
    assert!(transcript.is_ok(), "of a long prompt the end is taken");
}

#[test]
fn a_stop_comes_through_between_tokens() {
    let (model, recording) = (model("english"), recording("long"));
    let stands = std::cell::RefCell::new(Vec::new());
    let stop = |stand: Stand| {
        stands.borrow_mut().push(stand);
        match stands.borrow().len() < 9 {
            true => Ok(()),
            false => Err(Error::Late { made: 7 }),
        }
    };
    let error = model.watched(&recording, &input(), &stop).unwrap_err();
    assert!(matches!(error, Error::Late { made: 7 }), "{error}");
    let stands = stands.into_inner();
    assert_eq!(stands.len(), 9);
    assert!(stands.is_sorted_by_key(|stand| (stand.done, stand.made)));
    assert!(stands.iter().all(|stand| stand.frames == 530));
}

/// A copy of a model's folder.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(golden(name)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    folder
}

fn change(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[test]
fn a_folder_that_lacks_a_file_says_which() {
    for file in [
        "config.json",
        "generation_config.json",
        "preprocessor_config.json",
        "tokenizer.json",
        "model.safetensors",
    ] {
        let folder = copy("english");
        std::fs::remove_file(folder.path().join(file)).unwrap();
        let error = SpeechModel::load(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains(file), "{error}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let refused = |file: &str, edit: &dyn Fn(&mut Value), named: &str| {
        let folder = copy("multilingual");
        change(folder.path(), file, edit);
        let error = SpeechModel::load(folder.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.message().contains(named), "{named} in {error}");
    };
    // A tokenizer of something else: no token is special.
    for mark in [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|notimestamps|>",
        "<|transcribe|>",
    ] {
        let without = |tokenizer: &mut Value| {
            for token in tokenizer["added_tokens"].as_array_mut().unwrap() {
                if token["content"] == mark {
                    token["content"] = json!("<|other|>");
                }
            }
            tokenizer["post_processor"] = Value::Null;
        };
        refused("tokenizer.json", &without, mark);
    }
    let settings = "generation_config.json";
    for (file, key, value, named) in [
        (
            "config.json",
            "d_model",
            json!(60),
            "tensor `model.encoder.conv1.weight`",
        ),
        ("config.json", "vocab_size", json!(300), "tokenizer.json"),
        ("config.json", "num_mel_bins", json!(128), "feature_size"),
        (
            "config.json",
            "encoder_layers",
            json!(2),
            "belongs to no layer",
        ),
        (settings, "eos_token_id", json!(7), "eos_token_id"),
        (settings, "lang_to_id", json!({"<|en|>": 299}), "lang_to_id"),
        (settings, "lang_to_id", json!({}), "lang_to_id"),
        (settings, "suppress_tokens", json!([410]), "suppress_tokens"),
        (settings, "language", json!("klingon"), "klingon"),
        (
            settings,
            "no_speech_threshold",
            json!(0.6),
            "no_speech_threshold",
        ),
        (settings, "new_trick", json!(1), "new_trick"),
    ] {
        refused(
            file,
            &|settings: &mut Value| settings[key] = value.clone(),
            named,
        );
    }
}

#[test]
fn settings_that_are_left_out_are_those_of_whisper() {
    let folder = copy("multilingual");
    change(folder.path(), "generation_config.json", |settings| {
        settings["lang_to_id"] = Value::Null;
        settings["task_to_id"] = Value::Null;
        settings["eos_token_id"] = Value::Null;
        settings["language"] = json!("chinese");
    });
    let features = std::fs::read(folder.path().join("preprocessor_config.json")).unwrap();
    let features: Value = serde_json::from_slice(&features).unwrap();
    std::fs::remove_file(folder.path().join("preprocessor_config.json")).unwrap();
    let processor = json!({"feature_extractor": features, "processor_class": "WhisperProcessor"});
    let path = folder.path().join("processor_config.json");
    std::fs::write(path, processor.to_string()).unwrap();
    let changed = SpeechModel::load(folder.path()).unwrap();
    let original = model("multilingual");
    assert_eq!(changed.languages(), original.languages());
    assert_ne!(changed.model_hash(), original.model_hash());
    let recording = recording("short");
    let chinese = TranscriptionInput {
        language: Some("zh".to_owned()),
        ..input()
    };
    let (told, taken) = (
        original.transcribe(&recording, &chinese).unwrap(),
        changed.transcribe(&recording, &input()).unwrap(),
    );
    assert_eq!((&told, taken.language.as_str()), (&taken, "zh"));
}
