//! API keys: the text a requester sends, known here only by its hash.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cuckoo_core::cli::read_secret;
use cuckoo_core::{B256, Entropy, Error, Result, SessionToken};

use super::rate::Throttle;
use crate::{ApiKeySettings, LimitReached, Requester};

/// A guess must be hopeless, whoever made the key up.
const MIN_KEY_BYTES: usize = 16;
const MAX_KEY_BYTES: usize = 512;

/// A fresh key: 256 random bits. Its hash is [`SessionToken::hash`]; a coordinator keeps nothing else of it.
pub fn new_api_key(entropy: &dyn Entropy) -> SessionToken {
    // The prefix tells people and secret scanners what they are looking at.
    SessionToken::new(format!("cuckoo-{}", URL_SAFE_NO_PAD.encode(entropy.word())))
}

/// The requesters of a coordinator, by the hash of their keys.
#[derive(Debug, Default)]
pub(super) struct ApiKeys {
    by_hash: HashMap<B256, Known>,
}

#[derive(Debug)]
struct Known {
    requester: Requester,
    throttle: Option<Throttle<()>>,
}

impl ApiKeys {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// `Invalid` for settings out of bounds or a key that two have, `NotFound` for a file that cannot be read.
    pub(super) fn load(settings: &[ApiKeySettings]) -> Result<Self> {
        ApiKeySettings::validate_all(settings)?;
        let mut by_hash = HashMap::new();
        for settings in settings {
            let name = &settings.name;
            let hash = match (&settings.key_file, settings.key_hash) {
                (Some(file), _) => checked(name, read_secret(file)?)?.hash(),
                (None, Some(hash)) => hash,
                (None, None) => return Err(Error::internal("an API key without a key")),
            };
            let throttle = settings
                .requests_per_second
                .map(|rate| Throttle::new(rate, settings.burst));
            let known = Known {
                requester: Requester::new(settings.clone()),
                throttle,
            };
            if by_hash.insert(hash, known).is_some() {
                return Err(Error::invalid(format!(
                    "api_keys `{name}` has the same key as another; make a new one with `api-key new`"
                )));
            }
        }
        Ok(Self { by_hash })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    /// Whose key it is, if anybody's; and whether it comes too fast.
    pub(super) fn find(
        &self,
        key: &SessionToken,
    ) -> Option<(&Requester, Result<(), LimitReached>)> {
        // Found by its hash: how long that takes tells nothing about any key.
        let known = self.by_hash.get(&key.hash())?;
        let pace = known
            .throttle
            .as_ref()
            .map_or(Ok(()), |throttle| throttle.take(&(), "requests"));
        Some((&known.requester, pace))
    }
}

fn checked(name: &str, key: String) -> Result<SessionToken> {
    if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len())
        || !key.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(Error::invalid(format!(
            "the key of api_keys `{name}` is not {MIN_KEY_BYTES} to {MAX_KEY_BYTES} visible ASCII characters; make one \
             with `api-key new`"
        )));
    }
    Ok(SessionToken::new(key))
}

#[cfg(test)]
mod tests {
    use cuckoo_core::{ErrorKind, SeededEntropy};

    use super::*;

    #[test]
    fn a_key_is_found_by_its_text_from_file_or_hash() {
        let entropy = SeededEntropy::from_number(7);
        let (first, second) = (new_api_key(&entropy), new_api_key(&entropy));
        assert_ne!(first, second);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("second.key");
        std::fs::write(&file, format!("{}\n", second.expose())).unwrap();
        let settings = [
            ApiKeySettings {
                key_hash: Some(first.hash()),
                ..ApiKeySettings::named("first")
            },
            ApiKeySettings {
                key_file: Some(file.clone()),
                ..ApiKeySettings::named("second")
            },
        ];
        let keys = ApiKeys::load(&settings).unwrap();
        let name = |key: &SessionToken| keys.find(key).and_then(|(found, _)| found.name());
        assert_eq!(name(&first), Some("first"));
        assert_eq!(name(&second), Some("second"));
        assert_eq!(name(&new_api_key(&entropy)), None);

        let mut same = settings.clone();
        same[0].key_hash = Some(second.hash());
        assert!(ApiKeys::load(&same).unwrap_err().message().contains("same"));
        std::fs::write(&file, "short\n").unwrap();
        let error = ApiKeys::load(&settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("second") && !error.to_string().contains("short"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(
            ApiKeys::load(&settings).unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}
