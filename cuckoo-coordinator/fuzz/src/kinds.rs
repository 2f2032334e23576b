//! Inputs and outputs of models whose kind is known.

use cuckoo_core::{
    Embeddings, EmbeddingsInput, ErrorKind, Output, TextInput, TextLine, TextOutput, TextReader,
    Transcript, TranscriptionInput,
};

/// The first byte says where outputs are cut in two and how many texts were embedded; the rest is input and output of
/// each kind.
pub fn kinds(data: &[u8]) {
    let Some((&choice, data)) = data.split_first() else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(data) {
        inputs(text);
    }
    lines(data, usize::from(choice));
    let output = Output::new(TextOutput::MEDIA_TYPE, data.to_vec());
    if let Err(error) = TextOutput::read(&output) {
        assert_eq!(error.kind(), ErrorKind::Execution);
    }
    let texts = usize::from(choice % 8);
    let output = Output::new(Embeddings::MEDIA_TYPE, data.to_vec());
    match Embeddings::read(&output, texts) {
        Ok(embeddings) => {
            let vectors: Vec<_> = embeddings.vectors().collect();
            assert_eq!(vectors.len(), texts);
            let again = Embeddings::output(&vectors).expect("what was read can be written");
            assert_eq!(again, output);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Execution),
    }
    let output = Output::new(Transcript::MEDIA_TYPE, data.to_vec());
    match Transcript::read(&output) {
        Ok(transcript) => {
            let again = transcript.output().expect("what was read can be written");
            assert_eq!(Transcript::read(&again).ok(), Some(transcript));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Execution),
    }
}

fn inputs(text: &str) {
    match TextInput::read(text) {
        Ok(input) => {
            input.prompt();
            let json = serde_json::to_string(&input).expect("an input is JSON");
            let again = TextInput::read(&json).expect("what was read can be read again");
            // Fractions are read to within their last digit.
            assert_eq!(whole(again), whole(input));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
    match EmbeddingsInput::read(text) {
        Ok(input) => {
            let json = serde_json::to_string(&input).expect("an input is JSON");
            assert_eq!(EmbeddingsInput::read(&json).ok(), Some(input));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
    match TranscriptionInput::read(text) {
        Ok(mut input) => {
            let json = serde_json::to_string(&input).expect("an input is JSON");
            let mut again =
                TranscriptionInput::read(&json).expect("what was read can be read again");
            for input in [&mut input, &mut again] {
                input.temperature = None;
            }
            assert_eq!(again, input);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
}

fn whole(input: TextInput) -> TextInput {
    TextInput {
        temperature: None,
        top_p: None,
        frequency_penalty: None,
        presence_penalty: None,
        ..input
    }
}

/// An output is the same however it was cut on its way.
fn lines(data: &[u8], cut: usize) {
    let read = |parts: &[&[u8]]| {
        let mut reader = TextReader::default();
        let mut lines: Vec<TextLine> = Vec::new();
        for part in parts {
            lines.extend(reader.read(part).ok()?);
        }
        Some((lines, reader.is_complete()))
    };
    let (begin, end) = data.split_at(cut.min(data.len()));
    assert_eq!(read(&[begin, end]), read(&[data]));
}
