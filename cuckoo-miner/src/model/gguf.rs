//! The header of a GGUF file: metadata, and where each tensor is (ggml's `docs/gguf.md`, versions 2 and 3).
//!
//! The blocks of tensors are candle's to widen; the header is read here, since what it says comes from outside: candle's
//! reader divides by the alignment that a file names, multiplies sizes without a look, and takes the last of two tensors
//! with one name. Here no length is believed beyond the bytes that are left, all headers together stay below
//! [`TABLE_LIMIT`], and every tensor lies within the file before anybody asks for it.

mod input;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use serde_json::{Map, Value as Json};

use super::error::{Error, Result};
use super::folder::TABLE_LIMIT;
use super::settings::Settings;
use super::weights::Storage;
use input::Input;

const ALIGNMENT: &str = "general.alignment";
const LARGEST_ALIGNMENT: u64 = 1 << 20;

/// What a key of the metadata holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Single(Json),
    Texts(Vec<String>),
    /// Numbers of any type; truths as 0 and 1.
    Numbers(Vec<f64>),
}

/// A tensor in the file.
#[derive(Debug)]
pub(crate) struct Place {
    /// Slowest dimension first, as layers count them; the file has it the other way round.
    pub(crate) shape: Vec<usize>,
    pub(crate) storage: Storage,
    /// Where its bytes begin, from the file's beginning.
    pub(crate) start: u64,
    pub(crate) bytes: usize,
}

/// All that a file says before its tensors' numbers.
#[derive(Debug)]
pub(crate) struct Header {
    file: String,
    values: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Place>,
}

impl Header {
    /// Reads the header of the file at `path`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let name = match path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => path.display().to_string(),
        };
        let open = || -> io::Result<(File, u64)> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) = open().map_err(|source| Error::Read {
            file: name.clone(),
            source,
        })?;
        Self::parse(name, BufReader::new(file), size)
    }

    fn parse(file: String, reader: impl Read, size: u64) -> Result<Self> {
        let mut input = Input {
            file,
            subject: "its beginning".to_owned(),
            reader,
            read: 0,
            end: size.min(TABLE_LIMIT),
        };
        if input.array()? != *b"GGUF" {
            return Err(input.error("is not that of such a file"));
        }
        let version = input.whole()?;
        if !(2..=3).contains(&version) {
            return Err(input.error(format!(
                "names version {version}; versions 2 and 3, little-endian, are read"
            )));
        }
        let (tensors, keys) = (input.long()?, input.long()?);
        let mut values = BTreeMap::new();
        for i in 0..keys {
            input.subject = format!("key {i} of {keys}");
            let key = input.text()?;
            input.subject = format!("key `{key}`");
            let value = input.value()?;
            if values.insert(key, value).is_some() {
                return Err(input.error("is there twice"));
            }
        }
        let alignment = alignment(&values).ok_or_else(|| {
            input.subject = format!("key `{ALIGNMENT}`");
            input.error(format!("is no power of two from 1 to {LARGEST_ALIGNMENT}"))
        })?;
        let mut places = BTreeMap::new();
        for i in 0..tensors {
            input.subject = format!("tensor {i} of {tensors}");
            let name = input.text()?;
            input.subject = format!("tensor `{name}`");
            let place = input.place(alignment)?;
            if places.insert(name, place).is_some() {
                return Err(input.error("is there twice"));
            }
        }
        let data = input.read.next_multiple_of(alignment);
        for (name, place) in &mut places {
            let start = data.checked_add(place.start);
            let end = start.and_then(|start| start.checked_add(place.bytes as u64));
            match (start, end) {
                (Some(start), Some(end)) if end <= size => place.start = start,
                _ => {
                    input.subject = format!("tensor `{name}`");
                    return Err(input.error(format!(
                        "takes {} bytes, {} after the header, of a file of {size}",
                        place.bytes, place.start
                    )));
                }
            }
        }
        Ok(Self {
            file: input.file,
            values,
            tensors: places,
        })
    }

    /// The file's name, for errors.
    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    /// All tensors, by name.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.tensors
            .iter()
            .map(|(name, place)| (name.as_str(), place))
    }

    /// The shape of a tensor; `None` for one that is not there.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }

    /// A key's value that is no list.
    pub(crate) fn single(&self, key: &str) -> Option<&Json> {
        match self.values.get(key) {
            Some(Value::Single(value)) => Some(value),
            _ => None,
        }
    }

    /// A text; absent is an error.
    pub(crate) fn text(&self, key: &str) -> Result<&str> {
        match self.single(key) {
            Some(Json::String(text)) => Ok(text),
            Some(_) => Err(self.error(key, "is no text")),
            None => Err(self.error(key, "is missing")),
        }
    }

    /// A list of texts, or absent.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<&[String]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Texts(texts)) => Ok(Some(texts)),
            Some(_) => Err(self.error(key, "is no list of texts")),
        }
    }

    /// A list of numbers, or absent.
    pub(crate) fn numbers(&self, key: &str) -> Result<Option<&[f64]>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(Value::Numbers(numbers)) => Ok(Some(numbers)),
            Some(_) => Err(self.error(key, "is no list of numbers")),
        }
    }

    /// The keys that begin with `prefix`, to be taken by their whole names.
    pub(crate) fn settings(&self, prefix: &str) -> Settings {
        // A list is no setting, so its entries, of which there may be millions, are left out.
        let json = |value: &Value| match value {
            Value::Single(value) => value.clone(),
            Value::Texts(_) | Value::Numbers(_) => Json::Array(Vec::new()),
        };
        let values: Map<String, Json> = self
            .values
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), json(value)))
            .collect();
        Settings::new(&self.file, values)
    }

    /// An error about a key.
    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> Error {
        Error::Setting {
            file: self.file.clone(),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }
}

/// To what tensors' places are rounded up; `None` for a number that is none.
fn alignment(values: &BTreeMap<String, Value>) -> Option<u64> {
    let alignment = match values.get(ALIGNMENT) {
        None => 32,
        Some(Value::Single(value)) => value.as_u64()?,
        Some(_) => return None,
    };
    (alignment.is_power_of_two() && alignment <= LARGEST_ALIGNMENT).then_some(alignment)
}

#[cfg(test)]
mod tests;
