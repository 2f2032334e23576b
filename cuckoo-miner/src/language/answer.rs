//! An answer in the making: tokens become lines of text, held back while they may still belong to a stop text.

use std::collections::VecDeque;

use cuckoo_core::{FinishReason, Output, TextPiece, TextWriter, TokenLogprob, TopLogprob};

use super::detokenizer::Detokenizer;
use super::sampler::Choice;
use super::stop::{Scan, Stops};
use super::vocabulary::Vocabulary;
use crate::model::error::Result;

/// The text of one task as far as it has come.
///
/// How it is cut into lines depends on its tokens alone, never on time: other miners must give the same bytes.
#[derive(Debug)]
pub(crate) struct Answer {
    writer: TextWriter,
    detokenizer: Detokenizer,
    stops: Stops,
    /// Pieces not written yet, each of one token.
    held: VecDeque<TextPiece>,
}

impl Answer {
    /// An answer that ends before any of `stops`.
    pub(crate) fn new(stops: Stops) -> Self {
        Self {
            writer: TextWriter::default(),
            detokenizer: Detokenizer::default(),
            stops,
            held: VecDeque::new(),
        }
    }

    /// Adds a token; hands each line that is complete to `emit`. True when the text came to a stop.
    pub(crate) fn push(
        &mut self,
        vocabulary: &Vocabulary,
        choice: &Choice,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<bool> {
        let text = self.detokenizer.push(vocabulary, choice.token)?;
        let logprobs = match &choice.logprobs {
            Some((logprob, top)) => {
                vec![TokenLogprob {
                    token: vocabulary.token_text(choice.token)?,
                    logprob: *logprob,
                    top: top
                        .iter()
                        .map(|(token, logprob)| {
                            Ok(TopLogprob {
                                token: vocabulary.token_text(*token)?,
                                logprob: *logprob,
                            })
                        })
                        .collect::<Result<_>>()?,
                }]
            }
            None => Vec::new(),
        };
        self.held.push_back(TextPiece { text, logprobs });
        Ok(self.settle(emit))
    }

    /// The whole output, which ends for `reason`, or for a stop text that its last character completes.
    pub(crate) fn end(
        mut self,
        vocabulary: &Vocabulary,
        reason: FinishReason,
        emit: &mut dyn FnMut(&[u8]),
    ) -> Result<Output> {
        let text = self.detokenizer.finish(vocabulary)?;
        if !text.is_empty() {
            self.held.push_back(TextPiece {
                text,
                logprobs: Vec::new(),
            });
        }
        let stopped = self.settle(emit);
        while let Some(piece) = self.held.pop_front() {
            self.write(piece, emit);
        }
        let reason = if stopped { FinishReason::Stop } else { reason };
        Ok(self.writer.end(reason))
    }

    /// Writes what is clear of stop texts; true when one was found, before which everything is written then.
    fn settle(&mut self, emit: &mut dyn FnMut(&[u8])) -> bool {
        let text: String = self.held.iter().map(|piece| piece.text.as_str()).collect();
        let (end, found) = match self.stops.scan(&text) {
            Scan::Found(at) => (at, true),
            Scan::Clear(at) => (at, false),
        };
        let mut at = 0;
        while let Some(piece) = self.held.front() {
            let length = piece.text.len();
            if at + length > end {
                break;
            }
            at += length;
            if let Some(piece) = self.held.pop_front() {
                self.write(piece, emit);
            }
        }
        if found {
            // The piece within which the stop text begins, up to there.
            if let Some(mut piece) = self.held.pop_front().filter(|_| at < end) {
                piece.text.truncate(end - at);
                self.write(piece, emit);
            }
            self.held.clear();
        }
        found
    }

    fn write(&mut self, piece: TextPiece, emit: &mut dyn FnMut(&[u8])) {
        if !piece.text.is_empty() || !piece.logprobs.is_empty() {
            emit(self.writer.piece(piece));
        }
    }
}
