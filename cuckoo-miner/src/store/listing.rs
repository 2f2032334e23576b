//! The files of a model at one commit, as the hub lists them. Nothing in such a list is believed before it was checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::content::ContentId;
use super::name::is_commit;

/// More files than this are a mistake, or meant to do harm; published models have a few dozen, the largest some hundreds.
const MOST_FILES: usize = 20_000;
/// The largest file: a shard is cut at 5 or 50 gigabytes by those who publish.
const LARGEST_FILE: u64 = 1 << 40;
const LONGEST_PATH: usize = 1024;
const LONGEST_PART: usize = 255;
const DEEPEST: usize = 16;

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Its path in the model, parts joined by `/`: below the model's folder, whatever the hub says.
    pub(super) path: String,
    /// Where the list says them; else the file is asked about by itself.
    pub(super) content: Option<(ContentId, u64)>,
}

/// All files of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<RemoteFile>,
}

/// `GET /api/models/{name}/revision/{revision}?blobs=true`, as far as it is used.
#[derive(Debug, Deserialize)]
struct Answer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    sha256: String,
    size: u64,
}

impl Listing {
    /// Reads the hub's answer; on failure, what is wrong with it.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let answer: Answer = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if !is_commit(&answer.sha) {
            return Err("`sha` is not a commit".to_owned());
        }
        if answer.siblings.len() > MOST_FILES {
            return Err(format!(
                "it has {} files, more than the {MOST_FILES} that are taken",
                answer.siblings.len()
            ));
        }
        let files = answer
            .siblings
            .into_iter()
            .map(file)
            .collect::<Result<Vec<_>, _>>()?;
        check_apart(&files)?;
        Ok(Self {
            commit: answer.sha.to_ascii_lowercase(),
            files,
        })
    }

    /// The list as `huggingface_hub` keeps it beside the snapshots, so that sizes are known without the hub.
    pub(super) fn to_tree(&self) -> Option<Vec<u8>> {
        let files = self.files.iter().filter_map(|file| {
            let (content, size) = file.content?;
            let (blob_id, sha256) = match content {
                ContentId::Git(_) => (content.to_string(), None),
                // The name of the pointer in git, which nobody asks for once the content's own is known.
                ContentId::Sha256(_) => ("0".repeat(40), Some(content.to_string())),
            };
            let entry = TreeEntry {
                size,
                blob_id,
                lfs_size: sha256.as_ref().map(|_| size),
                lfs_sha256: sha256,
            };
            Some((file.path.clone(), entry))
        });
        serde_json::to_vec_pretty(&Tree {
            format_version: TREE_VERSION,
            files: files.collect(),
        })
        .ok()
    }
}

/// The only form of [`Tree`] that is known.
const TREE_VERSION: u32 = 1;

/// `trees/{commit}.json` in a model's folder of the cache. Source: huggingface_hub 2.4, `_tree_cache.py`.
#[derive(Debug, Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TreeEntry {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

/// The sizes that such a list gives to contents; nothing where it has another form.
pub(super) fn sizes_in_tree(json: &[u8]) -> BTreeMap<ContentId, u64> {
    let tree = serde_json::from_slice::<Tree>(json)
        .ok()
        .filter(|tree| tree.format_version == TREE_VERSION);
    let entries = tree.into_iter().flat_map(|tree| tree.files.into_values());
    entries
        .filter_map(|entry| match entry.lfs_sha256 {
            Some(sha256) => Some((
                ContentId::parse(&sha256)?,
                entry.lfs_size.unwrap_or(entry.size),
            )),
            None => Some((ContentId::parse(&entry.blob_id)?, entry.size)),
        })
        .collect()
}

fn file(sibling: Sibling) -> Result<RemoteFile, String> {
    check_path(&sibling.rfilename)?;
    let said = match (sibling.lfs, sibling.blob_id, sibling.size) {
        (Some(large), _, _) => Some((large.sha256, large.size)),
        (None, Some(id), Some(size)) => Some((id, size)),
        (None, _, _) => None,
    };
    let content = match said {
        Some((id, size)) => Some(content(&sibling.rfilename, &id, size)?),
        None => None,
    };
    Ok(RemoteFile {
        path: sibling.rfilename,
        content,
    })
}

/// What a file holds, from how the hub describes it.
pub(super) fn content(path: &str, id: &str, size: u64) -> Result<(ContentId, u64), String> {
    let id = ContentId::parse(id).ok_or_else(|| {
        format!("the content of `{path}` has a name that is neither a SHA-256 nor git's")
    })?;
    if size > LARGEST_FILE {
        return Err(format!(
            "`{path}` has {size} bytes, more than the {LARGEST_FILE} that a file may have"
        ));
    }
    Ok((id, size))
}

/// Refuses every path that could lead out of the model's folder or that no file can have.
fn check_path(path: &str) -> Result<(), String> {
    let part = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.len() <= LONGEST_PART
            && !part.chars().any(|c| c.is_control() || c == '\\')
            && !(cfg!(windows) && part.contains([':', '*', '?', '"', '<', '>', '|']))
    };
    let parts = path.split('/').count();
    if path.len() > LONGEST_PATH || parts > DEEPEST || !path.split('/').all(part) {
        let shown: String = path.escape_debug().take(80).collect();
        return Err(format!("`{shown}` is not a path that a file may have"));
    }
    Ok(())
}

/// Refuses a path that is listed twice, or is both a file and a folder.
fn check_apart(files: &[RemoteFile]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for file in files {
        if !seen.insert(file.path.as_str()) {
            return Err(format!("`{}` is listed twice", file.path));
        }
    }
    for file in files {
        let folders = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        for folder in folders {
            if seen.contains(folder) {
                return Err(format!("`{folder}` is both a file and a folder"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const GIT: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
    const SHA: &str = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";

    fn listing(siblings: &str) -> Result<Listing, String> {
        Listing::parse(format!(r#"{{"sha": "{COMMIT}", "siblings": [{siblings}]}}"#).as_bytes())
    }

    #[test]
    fn small_and_large_files_have_the_hubs_names() {
        let listing = listing(&format!(
            r#"{{"rfilename": "config.json", "blobId": "{GIT}", "size": 6}},
               {{"rfilename": "unet/model.safetensors", "blobId": "{GIT}", "size": 6,
                 "lfs": {{"sha256": "{SHA}", "size": 6, "pointerSize": 130}}}},
               {{"rfilename": "plain.txt"}}"#
        ))
        .unwrap();
        let content = |i: usize| {
            listing.files[i]
                .content
                .map(|(id, size)| (id.to_string(), size))
        };
        assert_eq!(content(0), Some((GIT.to_owned(), 6)));
        assert_eq!(content(1), Some((SHA.to_owned(), 6)));
        assert_eq!(content(2), None);
        let sizes = sizes_in_tree(&listing.to_tree().unwrap());
        assert_eq!(sizes.into_values().collect::<Vec<_>>(), [6, 6]);
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        let parts = "a/".repeat(16);
        let long = "b".repeat(256);
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a/..",
            "./x",
            "a//b",
            "a/",
            "a\\\\..\\\\b",
            "a\\u0000b",
            "a\\nb",
            &format!("{parts}x"),
            &long,
        ] {
            let error = listing(&format!(r#"{{"rfilename": "{bad}"}}"#)).unwrap_err();
            assert!(error.contains("not a path"), "{bad}: {error}");
        }
        for bad in ["a", "a/b"] {
            let both = format!(
                r#"{{"rfilename": "{bad}"}}, {{"rfilename": "a"}}, {{"rfilename": "a/b"}}"#
            );
            assert!(listing(&both).is_err());
        }
    }

    #[test]
    fn odd_lists_are_refused() {
        for bad in [
            r#"{"rfilename": "x", "blobId": "../../x", "size": 1}"#.to_owned(),
            format!(r#"{{"rfilename": "x", "blobId": "{GIT}", "size": -1}}"#),
            format!(
                r#"{{"rfilename": "x", "blobId": "{GIT}", "size": {}}}"#,
                1u64 << 41
            ),
            r#"{"size": 1}"#.to_owned(),
        ] {
            assert!(listing(&bad).is_err(), "{bad}");
        }
        assert!(Listing::parse(br#"{"sha": "main", "siblings": []}"#).is_err());
        assert!(Listing::parse(b"<html>").is_err());
        let many = vec![r#"{"rfilename": "x"}"#; MOST_FILES + 1].join(",");
        assert!(listing(&many).unwrap_err().contains("more than"));
    }
}
