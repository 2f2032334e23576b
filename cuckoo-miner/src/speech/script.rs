//! What windows give, put together.

use cuckoo_core::{Transcript, TranscriptSegment};

use super::mel::FRAME_MILLIS;
use super::segments::Part;
use crate::model::error::Result;

/// A transcript in the making.
#[derive(Debug)]
pub(crate) struct Script {
    millis: u64,
    segments: Vec<TranscriptSegment>,
    tokens: Vec<u32>,
}

impl Script {
    /// Of a recording of so many milliseconds.
    pub(crate) fn new(millis: u64) -> Self {
        Self {
            millis,
            segments: Vec::new(),
            tokens: Vec::new(),
        }
    }

    /// Adds what was said in a window that begins at frame `at`. Times are kept within the recording and in their order; what
    /// has no text has no segment.
    pub(crate) fn add(&mut self, at: usize, part: Part, text: String) {
        let millis = |frames: usize| ((at + frames) as u64 * FRAME_MILLIS).min(self.millis);
        let before = self.segments.last().map_or(0, |last| last.start_millis);
        let start_millis = millis(part.start).max(before);
        let end_millis = millis(part.end).max(start_millis);
        self.tokens.extend(part.tokens);
        let text = text.trim();
        if !text.is_empty() {
            self.segments.push(TranscriptSegment {
                start_millis,
                end_millis,
                text: text.to_owned(),
            });
        }
    }

    pub(crate) fn finish(
        self,
        language: &str,
        text: impl FnOnce(&[u32]) -> Result<String>,
    ) -> Result<Transcript> {
        Ok(Transcript {
            text: text(&self.tokens)?.trim().to_owned(),
            language: language.to_owned(),
            duration_millis: self.millis,
            segments: self.segments,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stay_in_order_and_within_the_recording() {
        let part = |start, end| Part {
            start,
            end,
            tokens: vec![start as u32],
        };
        let mut script = Script::new(4_995);
        script.add(0, part(0, 150), " One.".to_owned());
        script.add(0, part(150, 180), " ".to_owned());
        script.add(300, part(20, 10), "Two. ".to_owned());
        script.add(300, part(190, 210), "Three.".to_owned());
        let whole = |tokens: &[u32]| {
            assert_eq!(tokens, [0, 150, 20, 190]);
            Ok(" One. Two. Three.".to_owned())
        };
        let transcript = script.finish("en", whole).unwrap();
        assert_eq!(transcript.text, "One. Two. Three.");
        let segments = transcript.segments.iter();
        let segments: Vec<_> = segments
            .map(|segment| {
                (
                    segment.start_millis,
                    segment.end_millis,
                    segment.text.as_str(),
                )
            })
            .collect();
        let expected = [
            (0, 1_500, "One."),
            (3_200, 3_200, "Two."),
            (4_900, 4_995, "Three."),
        ];
        assert_eq!(segments, expected);
        transcript.output().unwrap();
    }
}
