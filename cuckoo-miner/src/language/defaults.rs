//! `generation_config.json`: how a model's makers want its words chosen where a request does not say.

use super::config::token_list;
use crate::model::error::Result;
use crate::model::folder::{Folder, SETTINGS_LIMIT};
use crate::model::settings::Settings;

pub(crate) const FILE: &str = "generation_config.json";

/// What a request leaves open.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Defaults {
    pub(crate) temperature: f64,
    /// Only so many of the likeliest tokens; all when 0.
    pub(crate) top_k: usize,
    pub(crate) top_p: f64,
    /// Only tokens with at least this share of the likeliest one's probability.
    pub(crate) min_p: f64,
    /// Tokens that occurred have their score divided by this.
    pub(crate) repetition_penalty: f64,
    /// Tokens that end a text.
    pub(crate) ends: Vec<u32>,
}

impl Defaults {
    /// Reads the file, which a folder need not have. What it says of other ways to search (beams and the like) is not
    /// looked at: a market's text is drawn token by token.
    pub(crate) fn load(folder: &mut Folder) -> Result<Self> {
        let bytes = match folder.has(FILE) {
            true => folder.bytes(FILE, SETTINGS_LIMIT)?,
            false => b"{}".to_vec(),
        };
        let mut s = Settings::parse(FILE, &bytes)?;
        // Whoever says not to draw wants the likeliest; whoever says nothing wants what the model says.
        let draws = s.flag("do_sample", true)?;
        let temperature = s.number("temperature", 1.0, 0.0..=100.0)?;
        Ok(Self {
            temperature: if draws { temperature } else { 0.0 },
            top_k: s.count("top_k", 0, 0..=1 << 24)?,
            top_p: s.number("top_p", 1.0, 0.0..=1.0)?,
            min_p: s.number("min_p", 0.0, 0.0..=1.0)?,
            repetition_penalty: s.number("repetition_penalty", 1.0, 0.01..=100.0)?,
            ends: token_list(s.take("eos_token_id").as_ref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: Option<&str>) -> Result<Defaults> {
        let dir = tempfile::tempdir().unwrap();
        if let Some(text) = text {
            std::fs::write(dir.path().join(FILE), text).unwrap();
        }
        Defaults::load(&mut Folder::open(dir.path())?)
    }

    #[test]
    fn a_model_draws_unless_its_makers_say_otherwise() {
        assert_eq!(load(None).unwrap().temperature, 1.0);
        assert_eq!(load(Some("{}")).unwrap(), load(None).unwrap());
        let greedy = r#"{"do_sample": false, "temperature": 0.6, "eos_token_id": 7}"#;
        let greedy = load(Some(greedy)).unwrap();
        assert_eq!((greedy.temperature, greedy.ends), (0.0, vec![7]));
        let warm = r#"{"temperature": 0.6, "top_k": 20, "num_beams": 4, "eos_token_id": [7, 8]}"#;
        let warm = load(Some(warm)).unwrap();
        assert_eq!((warm.temperature, warm.top_k), (0.6, 20));
        assert_eq!(warm.ends, [7, 8]);
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (text, named) in [
            (r#"{"top_p": 2}"#, "top_p"),
            (r#"{"repetition_penalty": 0}"#, "repetition_penalty"),
            ("[]", FILE),
        ] {
            let message = load(Some(text)).unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
        }
    }
}
