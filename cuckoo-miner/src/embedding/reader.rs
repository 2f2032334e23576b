//! From a text to its tokens, as sentence-transformers has the folder's tokenizer do it.

use tokenizers::normalizers::{BertNormalizer, Lowercase, NormalizerWrapper, Sequence};
use tokenizers::{
    PostProcessor as _, Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy,
};

use super::config::Config;
use super::layout::Layout;
use crate::model::error::{Error, Result};
use crate::model::folder::Folder;
use crate::model::marks::Marks;
use crate::model::tokenizer::{self, FILE};

/// A tokenizer that cuts what is too long.
#[derive(Debug)]
pub(crate) struct Reader {
    tokenizer: Tokenizer,
    file: String,
    /// The most tokens of a text.
    longest: usize,
    /// What is put before each text.
    prompt: String,
}

impl Reader {
    /// Reads the tokenizer beside the encoder.
    pub(crate) fn load(folder: &mut Folder, layout: &Layout, config: &Config) -> Result<Self> {
        let file = format!("{}{FILE}", layout.encoder);
        let marks = Marks::load(folder, &layout.encoder)?;
        let mut tokenizer = tokenizer::load(folder, &file, config.vocabulary)?;
        let longest = layout
            .longest
            .or_else(|| marks.length("model_max_length"))
            .unwrap_or(usize::MAX)
            .min(config.room());
        let added = tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(false));
        if longest <= added {
            let problem = format!("texts of {longest} tokens have no room for its {added} marks");
            return Err(Error::tokenizer(&file, problem));
        }
        let left = marks
            .value("truncation_side")
            .is_some_and(|side| side == "left");
        let truncation = TruncationParams {
            direction: match left {
                true => TruncationDirection::Left,
                false => TruncationDirection::Right,
            },
            max_length: longest,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|problem| Error::tokenizer(&file, problem))?;
        let normalizer = normalizer(tokenizer.get_normalizer(), &marks, layout.lower_case);
        tokenizer.with_normalizer(normalizer);
        let reader = Self {
            tokenizer,
            file,
            longest,
            prompt: layout.prompt.clone(),
        };
        let encoding = reader.tokenizer.encode("a", true);
        let encoding = encoding.map_err(|problem| Error::tokenizer(&reader.file, problem))?;
        if encoding.get_type_ids().iter().any(|kind| *kind != 0) {
            let problem = "it gives the tokens of a single text other kinds than the first";
            return Err(Error::tokenizer(&reader.file, problem));
        }
        Ok(reader)
    }

    /// The most tokens of a text, its marks included.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The tokens of `text`, at most [`longest`](Self::longest), marks included.
    pub(crate) fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let prompted;
        let text = match self.prompt.as_str() {
            "" => text,
            prompt => {
                prompted = format!("{prompt}{text}");
                &prompted
            }
        };
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|problem| Error::tokenizer(&self.file, problem))?;
        match encoding.get_ids() {
            [] => Err(Error::request("texts", "has one that gives no tokens")),
            tokens => Ok(tokens.to_vec()),
        }
    }
}

/// The tokenizer's own normalizer, with what transformers and sentence-transformers change of it.
fn normalizer(
    own: Option<&NormalizerWrapper>,
    marks: &Marks,
    lower_case: bool,
) -> Option<NormalizerWrapper> {
    // A BERT tokenizer's settings win over what its file says.
    let own = match own {
        Some(NormalizerWrapper::BertNormalizer(own)) => {
            let flag = |key: &str, own| marks.value(key).and_then(|v| v.as_bool()).unwrap_or(own);
            let accents = marks.value("strip_accents").and_then(|v| v.as_bool());
            Some(NormalizerWrapper::BertNormalizer(BertNormalizer::new(
                own.clean_text,
                flag("tokenize_chinese_chars", own.handle_chinese_chars),
                accents.or(own.strip_accents),
                flag("do_lower_case", own.lowercase),
            )))
        }
        own => own.cloned(),
    };
    if !lower_case || own.as_ref().is_some_and(lowers) {
        return own;
    }
    let mut all = vec![NormalizerWrapper::from(Lowercase)];
    all.extend(own);
    Some(Sequence::new(all).into())
}

fn lowers(normalizer: &NormalizerWrapper) -> bool {
    match normalizer {
        NormalizerWrapper::Lowercase(_) => true,
        NormalizerWrapper::BertNormalizer(bert) => bert.lowercase,
        NormalizerWrapper::Sequence(sequence) => sequence.as_ref().iter().any(lowers),
        _ => false,
    }
}
