//! The pairs of a SentencePiece vocabulary, which lists pieces and scores alone.

use std::collections::HashMap;

use super::TEXTS;
use crate::model::error::Result;
use crate::model::gguf::Header;

/// Longest piece that pairs are looked for in, in bytes; the longest of published ones have a hundred.
const LONGEST_PIECE: usize = 256;

/// Most pairs: published vocabularies have three for a piece.
const MOST_PAIRS: usize = 1 << 22;

/// All pairs of tokens that make another, those of the highest score first.
pub(super) fn pairs(
    header: &Header,
    texts: &[String],
    score: impl Fn(usize) -> f64,
) -> Result<Vec<(String, String)>> {
    let numbers: HashMap<&str, usize> = texts
        .iter()
        .enumerate()
        .map(|(token, text)| (text.as_str(), token))
        .collect();
    let mut pairs = Vec::new();
    for (token, text) in texts.iter().enumerate() {
        if text.len() > LONGEST_PIECE {
            let problem = format!("has a piece of {} bytes at place {token}", text.len());
            return Err(header.error(TEXTS, problem));
        }
        if pairs.len() > MOST_PAIRS {
            let problem = format!("is made of more than {MOST_PAIRS} pairs of its own pieces");
            return Err(header.error(TEXTS, problem));
        }
        let first = pairs.len();
        for (cut, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(cut);
            if let (Some(l), Some(r)) = (numbers.get(left), numbers.get(right)) {
                let lengths = (left.chars().count(), right.chars().count());
                pairs.push((score(token), lengths, (*l, *r), (left, right)));
            }
        }
        pairs[first..].sort_by_key(|(_, _, numbers, _)| *numbers);
    }
    // Of equal scores the longer left piece first, then the longer right one, as transformers has it.
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.cmp(&a.1)));
    Ok(pairs
        .into_iter()
        .map(|(_, _, _, (left, right))| (left.to_owned(), right.to_owned()))
        .collect())
}
