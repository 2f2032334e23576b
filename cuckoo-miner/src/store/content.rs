//! The hash that a file's content is named by: of large files their SHA-256, of small ones what git calls them.

use std::fmt;
use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// The name of a content, which is also that of its file among the blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ContentId {
    /// Of files in git's large file storage.
    Sha256([u8; 32]),
    /// Of all others: SHA-1 over `blob`, a space, the size as text, a zero byte and the content.
    Git([u8; 20]),
}

impl ContentId {
    /// Reads the hexadecimal form, as it stands in headers and lists and on disk.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if !text.is_ascii() {
            return None;
        }
        match text.len() {
            64 => bytes(text).map(Self::Sha256),
            40 => bytes(text).map(Self::Git),
            _ => None,
        }
    }

    /// Begins to hash a content of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> ContentHasher {
        match self {
            Self::Sha256(_) => ContentHasher::Sha256(Sha256::new()),
            Self::Git(_) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {size}\0"));
                ContentHasher::Git(hasher)
            }
        }
    }

    /// The name of what `content` holds, all `size` bytes of it.
    pub(super) fn of(&self, content: impl Read, size: u64) -> io::Result<Self> {
        let mut hasher = self.hasher(size);
        hasher.read(content)?;
        Ok(hasher.finish())
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: &[u8] = match self {
            Self::Sha256(bytes) => bytes,
            Self::Git(bytes) => bytes,
        };
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |place: usize| (*digits.get(place)? as char).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}

/// A [`ContentId`] in the making.
#[derive(Clone)]
pub(super) enum ContentHasher {
    Sha256(Sha256),
    Git(Sha1),
}

impl ContentHasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
        }
    }

    /// Takes in all that `content` gives; how much that was.
    pub(super) fn read(&mut self, mut content: impl Read) -> io::Result<u64> {
        let mut piece = vec![0; PIECE];
        let mut all = 0;
        loop {
            match content.read(&mut piece) {
                Ok(0) => return Ok(all),
                Ok(length) => {
                    self.update(&piece[..length]);
                    all += length as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn finish(self) -> ContentId {
        match self {
            Self::Sha256(hasher) => ContentId::Sha256(hasher.finalize().into()),
            Self::Git(hasher) => ContentId::Git(hasher.finalize().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, `| sha256sum`.
        for name in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ] {
            let id = ContentId::parse(name).unwrap();
            assert_eq!(id.to_string(), name);
            assert_eq!(id.of(&b"hello\n"[..], 6).unwrap(), id);
            assert_ne!(id.of(&b"hellp\n"[..], 6).unwrap(), id);
        }
    }

    #[test]
    fn other_texts_name_nothing() {
        for text in [
            "",
            "../x",
            &"g".repeat(40),
            &"a".repeat(41),
            &"é".repeat(20),
            &"+1".repeat(20),
        ] {
            assert_eq!(ContentId::parse(text), None, "{text}");
        }
    }
}
