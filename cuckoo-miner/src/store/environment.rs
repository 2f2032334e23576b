//! The variables that Hugging Face's own tools go by, so that they and a miner share one cache and one token.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the hub is unless `HF_ENDPOINT` says otherwise.
const HUB: &str = "https://huggingface.co";

/// The environment, or what a test puts in its place.
pub(super) struct Environment<F>(pub(super) F);

/// The process's own.
pub(super) fn of_process() -> Environment<impl Fn(&str) -> Option<OsString>> {
    Environment(|name: &str| std::env::var_os(name))
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    /// The cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub(super) fn cache(&self) -> PathBuf {
        self.path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| self.home().join("hub"))
    }

    /// The hub's address.
    pub(super) fn endpoint(&self) -> String {
        self.text("HF_ENDPOINT").unwrap_or_else(|| HUB.to_owned())
    }

    /// The token in `HF_TOKEN`.
    pub(super) fn token(&self) -> Option<String> {
        self.text("HF_TOKEN")
            .or_else(|| self.text("HUGGING_FACE_HUB_TOKEN"))
    }

    /// Where `hf auth login` leaves a token: `HF_TOKEN_PATH`, or `token` in `HF_HOME`.
    pub(super) fn token_file(&self) -> PathBuf {
        self.path("HF_TOKEN_PATH")
            .unwrap_or_else(|| self.home().join("token"))
    }

    /// `HF_HOME`, or `huggingface` in `XDG_CACHE_HOME` or `~/.cache`.
    fn home(&self) -> PathBuf {
        self.path("HF_HOME").unwrap_or_else(|| {
            self.path("XDG_CACHE_HOME")
                .unwrap_or_else(|| self.user().join(".cache"))
                .join("huggingface")
        })
    }

    fn user(&self) -> PathBuf {
        self.set("HOME")
            .map(PathBuf::from)
            .or_else(std::env::home_dir)
            .unwrap_or_default()
    }

    fn set(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        let text = self.set(name)?.into_string().ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A path, with `~` as shells read it.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.set(name)?);
        Some(match path.strip_prefix(Path::new("~")) {
            Ok(rest) => self.user().join(rest),
            Err(_) => path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Environment<impl Fn(&str) -> Option<OsString>> {
        let variables: Vec<(String, OsString)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        Environment(move |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        })
    }

    #[test]
    fn the_cache_is_where_hugging_faces_tools_have_it() {
        let home = ("HOME", "/home/u");
        for (variables, cache) in [
            (vec![home], "/home/u/.cache/huggingface/hub"),
            (vec![home, ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (vec![home, ("HF_HOME", "~/hf")], "/home/u/hf/hub"),
            (
                vec![("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")],
                "/old",
            ),
            (
                vec![("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/new")],
                "/new",
            ),
            (
                vec![home, ("HF_HUB_CACHE", "")],
                "/home/u/.cache/huggingface/hub",
            ),
        ] {
            assert_eq!(with(&variables).cache(), Path::new(cache), "{variables:?}");
        }
    }

    #[test]
    fn address_and_token_are_taken_from_it() {
        let none = with(&[("HOME", "/home/u"), ("HF_TOKEN", "  ")]);
        assert_eq!(none.endpoint(), "https://huggingface.co");
        assert_eq!(none.token(), None);
        assert_eq!(
            none.token_file(),
            Path::new("/home/u/.cache/huggingface/token")
        );
        let set = with(&[
            ("HF_ENDPOINT", "http://127.0.0.1:1"),
            ("HF_TOKEN", "hf_x\n"),
            ("HF_TOKEN_PATH", "/t"),
        ]);
        assert_eq!(set.endpoint(), "http://127.0.0.1:1");
        assert_eq!(set.token().as_deref(), Some("hf_x"));
        assert_eq!(set.token_file(), Path::new("/t"));
    }
}
