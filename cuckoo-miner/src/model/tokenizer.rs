//! The folder's `tokenizer.json`, read by the `tokenizers` crate.

use tokenizers::Tokenizer;

use super::error::{Error, Result};
use super::folder::{Folder, TABLE_LIMIT};

/// The file's name.
pub(crate) const FILE: &str = "tokenizer.json";

/// Reads `file`, the tokenizer of a model that tells `size` tokens apart; it neither pads nor truncates.
pub(crate) fn load(folder: &mut Folder, file: &str, size: usize) -> Result<Tokenizer> {
    let unusable = |problem: tokenizers::Error| Error::tokenizer(file, problem);
    let bytes = folder.bytes(file, TABLE_LIMIT)?;
    let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unusable)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(unusable)?;
    match tokenizer.get_vocab(true).into_values().max() {
        Some(id) if id as usize >= size => {
            let problem = format!("it has token {id}, the model only {size} tokens");
            Err(Error::tokenizer(file, problem))
        }
        Some(_) => Ok(tokenizer),
        None => Err(Error::tokenizer(file, "it has no tokens")),
    }
}
