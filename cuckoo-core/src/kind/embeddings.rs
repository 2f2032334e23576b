//! Texts to vectors.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::{Error, Output, Result};

/// The input of a model that embeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingsInput {
    /// What to embed, at most [`EmbeddingsInput::MAX_TEXTS`]; none of them empty.
    pub texts: Vec<String>,
    /// Added by the coordinator, as to every input; an embedding does not depend on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl EmbeddingsInput {
    /// The most texts of one task.
    pub const MAX_TEXTS: usize = 2_048;

    /// An input of these texts.
    pub fn new(texts: Vec<String>) -> Self {
        Self { texts, seed: None }
    }

    /// Reads and checks the input of an assignment.
    ///
    /// # Errors
    /// `Invalid` that names what is wrong.
    pub fn read(input: &str) -> Result<Self> {
        let input: Self = serde_json::from_str(input).map_err(|source| {
            Error::invalid("the input is not {\"texts\": [text, ...]}").with_source(source)
        })?;
        if input.texts.is_empty() || input.texts.len() > Self::MAX_TEXTS {
            return Err(Error::invalid(format!(
                "texts has {} entries; 1 to {} are embedded at once",
                input.texts.len(),
                Self::MAX_TEXTS
            )));
        }
        if let Some(index) = input.texts.iter().position(String::is_empty) {
            return Err(Error::invalid(format!(
                "texts[{index}] is empty; leave it out"
            )));
        }
        Ok(input)
    }
}

/// The output of a model that embeds: vectors of equal length, in the order of the texts, as little-endian 32-bit floats
/// one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embeddings {
    bytes: Bytes,
    /// Bytes of one vector.
    stride: usize,
}

impl Embeddings {
    /// The media type of the output.
    pub const MEDIA_TYPE: &str = "application/vnd.cuckoo.f32";

    /// The output that holds `vectors`.
    ///
    /// # Errors
    /// `Execution` unless there are some, all as long, of finite numbers.
    pub fn output(vectors: &[Vec<f32>]) -> Result<Output> {
        let length = vectors.first().map_or(0, Vec::len);
        let numbers = vectors.iter().flatten();
        if length == 0
            || vectors.iter().any(|vector| vector.len() != length)
            || !numbers.clone().all(|number| number.is_finite())
        {
            return Err(Error::execution(
                "embeddings must be vectors of one length and of finite numbers",
            ));
        }
        let mut bytes = BytesMut::with_capacity(vectors.len() * length * 4);
        numbers.for_each(|number| bytes.put_f32_le(*number));
        Ok(Output::new(Self::MEDIA_TYPE, bytes))
    }

    /// Reads the output of a task with so many texts.
    ///
    /// # Errors
    /// `Execution` when it is no such output.
    pub fn read(output: &Output, texts: usize) -> Result<Self> {
        let odd = |what: &str| {
            Error::execution(format!(
                "the miner's output is not {texts} embeddings: {what}"
            ))
        };
        if output.media_type != Self::MEDIA_TYPE {
            return Err(odd(&format!("its type is {}", output.media_type)));
        }
        let bytes = &output.bytes;
        if texts == 0 || bytes.is_empty() || !bytes.len().is_multiple_of(texts * 4) {
            return Err(odd(&format!("it has {} bytes", bytes.len())));
        }
        let embeddings = Self {
            bytes: bytes.clone(),
            stride: bytes.len() / texts,
        };
        let finite = |vector| numbers(vector).all(f32::is_finite);
        if !embeddings.packed().all(finite) {
            return Err(odd("not all of its numbers are finite"));
        }
        Ok(embeddings)
    }

    /// Each vector as the bytes of its numbers.
    pub fn packed(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks_exact(self.stride)
    }

    /// Each vector.
    pub fn vectors(&self) -> impl Iterator<Item = Vec<f32>> {
        self.packed().map(|vector| numbers(vector).collect())
    }
}

fn numbers(packed: &[u8]) -> impl Iterator<Item = f32> {
    let (numbers, _) = packed.as_chunks::<4>();
    numbers.iter().copied().map(f32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use crate::ErrorKind;

    use super::*;

    #[test]
    fn vectors_survive_the_way() {
        let vectors = vec![vec![1.0, -0.5, f32::MIN_POSITIVE], vec![0.0, 2.5e-8, 3.0]];
        let output = Embeddings::output(&vectors).unwrap();
        assert_eq!(output.bytes.len(), 24);
        assert_eq!(output.bytes[..4], 1.0_f32.to_le_bytes());
        let read = Embeddings::read(&output, 2).unwrap();
        assert_eq!(read.vectors().collect::<Vec<_>>(), vectors);
    }

    #[test]
    fn what_is_no_embedding_is_refused_on_both_sides() {
        for odd in [
            vec![],
            vec![vec![]],
            vec![vec![1.0], vec![]],
            vec![vec![f32::NAN]],
        ] {
            let error = Embeddings::output(&odd).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Execution);
        }
        let infinite = f32::INFINITY.to_le_bytes().to_vec();
        for (media_type, bytes, texts) in [
            ("text/plain", vec![0; 8], 2),
            (Embeddings::MEDIA_TYPE, vec![], 2),
            (Embeddings::MEDIA_TYPE, vec![0; 12], 2),
            (Embeddings::MEDIA_TYPE, vec![0; 8], 0),
            (Embeddings::MEDIA_TYPE, infinite, 1),
        ] {
            let error = Embeddings::read(&Output::new(media_type, bytes), texts).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Execution);
        }
    }

    #[test]
    fn inputs_are_checked() {
        let input = EmbeddingsInput::read(r#"{"texts": ["a", "b"], "seed": 7}"#).unwrap();
        assert_eq!(input.texts, ["a", "b"]);
        let many = serde_json::to_string(&vec!["x"; EmbeddingsInput::MAX_TEXTS + 1]).unwrap();
        for bad in [
            r#"{"texts": []}"#,
            r#"{"texts": ["a", ""]}"#,
            r#"{"text": "a"}"#,
            r#"{"texts": [[1, 2]]}"#,
            &format!(r#"{{"texts": {many}}}"#),
        ] {
            let error = EmbeddingsInput::read(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
