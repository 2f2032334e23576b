//! Whisper against transformers: what is heard, what encoder and decoder make of it, tokens and transcripts.
//!
//! `tests/golden/speech` holds two small models of random weights, with windows of two seconds, two recordings (one of several
//! windows, and one at 8 kHz with two channels of 24 bits), and what transformers made of them (`make parity` writes them anew and
//! runs these tests, whose output is the table of errors measured).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "parity/golden.rs"]
mod golden;

use cuckoo_core::{BlobId, Transcript, TranscriptionInput};
use cuckoo_miner::{Recording, SpeechModel};
use serde::Deserialize;

use golden::{Golden, check_model, relative, root};

/// Samples of a recording that was brought to another rate, and features, relative to the reference's norm.
const HEARD: f64 = 1e-5;
/// What the networks give.
const NETWORK: f64 = 1e-4;

#[test]
fn a_model_of_languages_matches_transformers() {
    compare("multilingual");
}

#[test]
fn a_model_of_english_matches_transformers() {
    compare("english");
}

/// What transformers was asked, and what it answered.
#[derive(Deserialize)]
struct Asked {
    model_hash: String,
    prompt: String,
    recordings: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    name: String,
    samples: usize,
    frames: usize,
    language: Option<String>,
    /// What windows begin with, and the likeliest tokens after that, by no rules.
    begin: Vec<u32>,
    greedy: Vec<u32>,
    plain: Written,
    translated: Option<Written>,
    prompted: Option<Written>,
}

#[derive(Deserialize)]
struct Written {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    start: u64,
    end: u64,
    text: String,
}

fn compare(name: &str) {
    let golden = Golden::load(&format!("speech/{name}"));
    let asked: Asked = golden.metadata();
    let model = SpeechModel::load(&root().join("speech").join(name)).unwrap();
    check_model(model.model_hash(), &asked.model_hash);
    for answer in &asked.recordings {
        let file = root().join(format!("speech/recordings/{}.wav", answer.name));
        let recording = Recording::from_wav(&std::fs::read(file).unwrap(), 10).unwrap();
        assert_eq!(recording.samples().len(), answer.samples);
        let heard = heard(&golden, answer, &model, &recording);
        let networks = networks(&golden, answer, &model, &recording);
        let language = answer.language.as_deref().unwrap_or("en");
        assert_eq!(model.detect(&recording).unwrap(), language);
        let input = TranscriptionInput::new(BlobId::of(b""));
        written(&model, &recording, &input, &answer.plain, language);
        if let Some(translated) = &answer.translated {
            let input = TranscriptionInput {
                language: Some("de".to_owned()),
                translate: true,
                ..input.clone()
            };
            written(&model, &recording, &input, translated, "de");
        }
        if let Some(prompted) = &answer.prompted {
            let input = TranscriptionInput {
                prompt: Some(asked.prompt.clone()),
                ..input
            };
            written(&model, &recording, &input, prompted, language);
        }
        println!(
            "{name}, {}: features {heard:.1e}, encoder and scores {networks:.1e} relative; {} tokens, language and transcripts equal",
            answer.name,
            answer.greedy.len()
        );
    }
}

/// How far off the features are, of every fourth of the last frames; before them, the samples.
fn heard(golden: &Golden, answer: &Answer, model: &SpeechModel, recording: &Recording) -> f64 {
    let name = &answer.name;
    let samples = format!("{name}.samples");
    if golden
        .tensors()
        .names()
        .iter()
        .any(|known| **known == *samples)
    {
        let expected = golden.floats(&samples);
        let off = relative(&recording.samples()[..expected.len()], &expected);
        assert!(off <= HEARD, "{name}: samples are off by {off:.1e}");
    }
    let expected = golden.floats(&format!("{name}.features"));
    let features = model.features(recording);
    let bands = features.len() / answer.frames;
    assert_eq!(features.len(), bands * answer.frames);
    let frames: Vec<_> = features.chunks_exact(bands).collect();
    let window = model.window_millis() as usize / 10;
    let last = frames[frames.len() - window..].iter().step_by(4);
    let off = relative(&last.copied().collect::<Vec<_>>().concat(), &expected);
    assert!(off <= HEARD, "{name}: features are off by {off:.1e}");
    off
}

/// How far off the encoder and the scores are; the tokens that follow are equal.
fn networks(golden: &Golden, answer: &Answer, model: &SpeechModel, recording: &Recording) -> f64 {
    let name = &answer.name;
    let encoded = model.encode(recording).unwrap();
    let encoded = relative(&encoded, &golden.floats(&format!("{name}.encoded")));
    let expected = golden.floats(&format!("{name}.scores"));
    let tokens = [&answer.begin[..], &answer.greedy].concat();
    let scores = model.scores(recording, &tokens).unwrap();
    let first = scores.concat();
    let first = relative(&first[..expected.len()], &expected);
    let off = encoded.max(first);
    assert!(
        off <= NETWORK,
        "{name}: encoder {encoded:.1e}, scores {first:.1e}"
    );
    for (i, token) in answer.greedy.iter().enumerate() {
        let row = &scores[answer.begin.len() - 1 + i];
        let best = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
        assert_eq!(best, Some(*token as usize), "{name}: token {i}");
    }
    assert_eq!(answer.greedy.len(), 64);
    off
}

/// The transcript is that of transformers, whose times may lie behind the recording and whose parts may have no text.
fn written(
    model: &SpeechModel,
    recording: &Recording,
    input: &TranscriptionInput,
    expected: &Written,
    language: &str,
) {
    let transcript = model.transcribe(recording, input).unwrap();
    let Transcript {
        text,
        segments,
        duration_millis,
        ..
    } = &transcript;
    assert_eq!(
        (text.as_str(), *duration_millis),
        (expected.text.trim(), recording.millis())
    );
    assert_eq!(transcript.language, language);
    let known = |segment: &&Segment| !segment.text.trim().is_empty();
    let expected: Vec<_> = expected.segments.iter().filter(known).collect();
    assert_eq!(segments.len(), expected.len());
    for (segment, expected) in segments.iter().zip(expected) {
        let end = *duration_millis;
        let times = (expected.start.min(end), expected.end.min(end));
        assert_eq!((segment.start_millis, segment.end_millis), times);
        assert_eq!(segment.text, expected.text.trim());
    }
}
