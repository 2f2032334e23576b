//! Speech to text.

use serde::{Deserialize, Serialize};

use crate::{BlobId, Error, Output, Result};

/// The input of a model that writes down what is said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TranscriptionInput {
    /// The recording, a WAV file beside the input.
    pub audio: BlobId,
    /// What is spoken, by the two or three small letters of ISO 639 (`en`); the model finds out when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether to write it down in English, whatever is spoken.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub translate: bool,
    /// Text taken to precede the recording: names and spellings to go by, at most [`TranscriptionInput::MAX_PROMPT_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// 0, which is meant when absent, always takes the likeliest token; up to 1 draws the more freely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// What draws are made from; added by the coordinator when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl TranscriptionInput {
    /// The longest prompt, in bytes.
    pub const MAX_PROMPT_BYTES: usize = 4_096;

    /// A recording to write down in the language that is spoken.
    pub fn new(audio: BlobId) -> Self {
        Self {
            audio,
            language: None,
            translate: false,
            prompt: None,
            temperature: None,
            seed: None,
        }
    }

    /// Reads and checks the input of an assignment.
    ///
    /// # Errors
    /// `Invalid` that names what is wrong.
    pub fn read(input: &str) -> Result<Self> {
        let input: Self = serde_json::from_str(input).map_err(|source| {
            Error::invalid("the input is not {\"audio\": \"blob:0x...\"}, with what docs/tasks.md lists besides")
                .with_source(source)
        })?;
        input.check()?;
        Ok(input)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// `Invalid` that names the field and its range.
    pub fn check(&self) -> Result<()> {
        self.fault()
            .map_or(Ok(()), |(_, message)| Err(Error::invalid(message)))
    }

    /// The first field that is out of its range, by name, and what is wrong with it.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        let code = |text: &String| {
            (2..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_lowercase())
        };
        if self.language.as_ref().is_some_and(|text| !code(text)) {
            let message = "language is not two or three small letters of ISO 639, such as \"en\"";
            return Some(("language", message.to_owned()));
        }
        let length = self.prompt.as_ref().map_or(0, String::len);
        if length > Self::MAX_PROMPT_BYTES {
            let message = format!(
                "prompt has {length} bytes; at most {} are taken",
                Self::MAX_PROMPT_BYTES
            );
            return Some(("prompt", message));
        }
        if self
            .temperature
            .is_some_and(|temperature| !(0.0..=1.0).contains(&temperature))
        {
            return Some(("temperature", "temperature is not from 0 to 1".to_owned()));
        }
        None
    }
}

/// The output of a model that writes down what is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transcript {
    /// All that is said.
    pub text: String,
    /// The language that was spoken, as in [`TranscriptionInput::language`].
    pub language: String,
    /// Length of the recording in milliseconds.
    pub duration_millis: u64,
    /// The same text in parts, in the order of time.
    pub segments: Vec<TranscriptSegment>,
}

/// A part of a [`Transcript`]: about a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TranscriptSegment {
    /// Where in the recording it begins, in milliseconds.
    pub start_millis: u64,
    /// Where it ends, in milliseconds.
    pub end_millis: u64,
    /// What is said.
    pub text: String,
}

impl Transcript {
    /// The media type of the output.
    pub const MEDIA_TYPE: &str = "application/vnd.cuckoo.transcript+json";

    /// The output that holds this transcript, as JSON.
    ///
    /// # Errors
    /// `Execution` when a segment ends before it begins, begins before the one before it, or ends after the recording.
    pub fn output(&self) -> Result<Output> {
        if let Some(odd) = self.oddity() {
            return Err(Error::execution(format!("a transcript is odd: {odd}")));
        }
        let json = serde_json::to_vec(self).map_err(|source| {
            Error::execution("a transcript cannot be written as JSON").with_source(source)
        })?;
        Ok(Output::new(Self::MEDIA_TYPE, json))
    }

    /// Reads the output of a task.
    ///
    /// # Errors
    /// `Execution` when it is no such output.
    pub fn read(output: &Output) -> Result<Self> {
        let odd =
            |what: &str| Error::execution(format!("the miner's output is no transcript: {what}"));
        if output.media_type != Self::MEDIA_TYPE {
            return Err(odd(&format!("its type is {}", output.media_type)));
        }
        let transcript: Self = serde_json::from_slice(&output.bytes)
            .map_err(|source| odd("it is not the JSON of one").with_source(source))?;
        match transcript.oddity() {
            Some(what) => Err(odd(&what)),
            None => Ok(transcript),
        }
    }

    /// What cannot be true of a recording.
    fn oddity(&self) -> Option<String> {
        let mut before = 0;
        for (index, segment) in self.segments.iter().enumerate() {
            let TranscriptSegment {
                start_millis: start,
                end_millis: end,
                ..
            } = *segment;
            if start > end || start < before || end > self.duration_millis {
                return Some(format!(
                    "segments[{index}] is from {start} to {end} ms, of {} ms",
                    self.duration_millis
                ));
            }
            before = start;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::ErrorKind;

    use super::*;

    fn transcript(times: &[(u64, u64)]) -> Transcript {
        let segment = |&(start_millis, end_millis): &(u64, u64)| TranscriptSegment {
            start_millis,
            end_millis,
            text: "cuckoo".to_owned(),
        };
        Transcript {
            text: "cuckoo cuckoo".to_owned(),
            language: "en".to_owned(),
            duration_millis: 3_000,
            segments: times.iter().map(segment).collect(),
        }
    }

    #[test]
    fn a_transcript_survives_the_way() {
        for times in [&[][..], &[(0, 1_200), (1_200, 3_000)]] {
            let sent = transcript(times);
            assert_eq!(Transcript::read(&sent.output().unwrap()).unwrap(), sent);
        }
    }

    #[test]
    fn what_is_no_transcript_is_refused_on_both_sides() {
        for times in [&[(1, 0)][..], &[(9, 10), (8, 10)], &[(0, 3_001)]] {
            let odd = transcript(times);
            assert_eq!(odd.output().unwrap_err().kind(), ErrorKind::Execution);
            let json = serde_json::to_vec(&odd).unwrap();
            let error = Transcript::read(&Output::new(Transcript::MEDIA_TYPE, json)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Execution);
        }
        for (media_type, bytes) in [
            (Transcript::MEDIA_TYPE, &b"{}"[..]),
            (Transcript::MEDIA_TYPE, b""),
            ("text/plain", b"cuckoo"),
        ] {
            let error = Transcript::read(&Output::new(media_type, bytes)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Execution);
        }
    }

    #[test]
    fn inputs_are_checked() {
        let audio = BlobId::of(b"a recording");
        let least = TranscriptionInput::read(&format!(r#"{{"audio": "{audio}"}}"#)).unwrap();
        assert_eq!(least, TranscriptionInput::new(audio));
        let all = format!(
            r#"{{"audio": "{audio}", "language": "en", "translate": true, "prompt": "Cuckoo", "temperature": 0.5, "seed": 7}}"#
        );
        assert_eq!(TranscriptionInput::read(&all).unwrap().seed, Some(7));
        let long = "x".repeat(TranscriptionInput::MAX_PROMPT_BYTES + 1);
        for bad in [
            r#"{"audio": "song.wav"}"#.to_owned(),
            format!(r#"{{"audio": "{audio}", "language": "English"}}"#),
            format!(r#"{{"audio": "{audio}", "language": "EN"}}"#),
            format!(r#"{{"audio": "{audio}", "temperature": 1.5}}"#),
            format!(r#"{{"audio": "{audio}", "prompt": "{long}"}}"#),
            format!(r#"{{"audio": "{audio}", "beams": 5}}"#),
        ] {
            let error = TranscriptionInput::read(&bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
