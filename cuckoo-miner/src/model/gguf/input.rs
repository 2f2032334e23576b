//! A GGUF file read from its beginning, one value after another.

use std::io::Read;

use candle_core::quantized::GgmlDType;
use safetensors::Dtype;
use serde_json::Value as Json;

use super::{Place, Value};
use crate::model::error::{Error, Result};
use crate::model::folder::TABLE_LIMIT;
use crate::model::weights::Storage;

/// Vocabularies have a few hundred thousand.
const LONGEST_LIST: u64 = 1 << 22;

/// How ggml's types are stored, by their number.
fn storage(kind: u32) -> Option<Storage> {
    Some(match kind {
        0 => Storage::Plain(Dtype::F32),
        1 => Storage::Plain(Dtype::F16),
        2 => Storage::Blocks(GgmlDType::Q4_0),
        3 => Storage::Blocks(GgmlDType::Q4_1),
        6 => Storage::Blocks(GgmlDType::Q5_0),
        7 => Storage::Blocks(GgmlDType::Q5_1),
        8 => Storage::Blocks(GgmlDType::Q8_0),
        10 => Storage::Blocks(GgmlDType::Q2K),
        11 => Storage::Blocks(GgmlDType::Q3K),
        12 => Storage::Blocks(GgmlDType::Q4K),
        13 => Storage::Blocks(GgmlDType::Q5K),
        14 => Storage::Blocks(GgmlDType::Q6K),
        30 => Storage::Plain(Dtype::BF16),
        _ => return None,
    })
}

/// The file, read from its beginning; never beyond `end`.
pub(super) struct Input<R> {
    pub(super) file: String,
    /// What is being read, for errors.
    pub(super) subject: String,
    pub(super) reader: R,
    pub(super) read: u64,
    pub(super) end: u64,
}

impl<R: Read> Input<R> {
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::Gguf {
            file: self.file.clone(),
            problem: format!("{} {}", self.subject, problem.into()),
        }
    }

    /// Fails when so many bytes are not left.
    fn room(&self, bytes: u64) -> Result<()> {
        let left = self.end - self.read;
        match bytes > left {
            true => Err(self.error(format!(
                "needs {bytes} bytes where {left} of the file (or of the {TABLE_LIMIT} that a header may have) are left"
            ))),
            false => Ok(()),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.room(bytes.len() as u64)?;
        if let Err(error) = self.reader.read_exact(bytes) {
            return Err(self.error(format!("cannot be read: {error}")));
        }
        self.read += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn whole(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn long(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text. Some writers end it with a zero, some tokens are no UTF-8; both are taken, as by other readers.
    pub(super) fn text(&mut self) -> Result<String> {
        let length = self.long()?;
        self.room(length)?;
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) fn value(&mut self) -> Result<Value> {
        const TEXT: u32 = 8;
        const LIST: u32 = 9;
        let kind = self.whole()?;
        if kind == TEXT {
            return self.text().map(|text| Value::Single(text.into()));
        }
        if kind != LIST {
            let value = self.number(kind)?;
            return match value.is_null() {
                true => Err(self.error("is not finite")),
                false => Ok(Value::Single(value)),
            };
        }
        let (kind, count) = (self.whole()?, self.long()?);
        let least = match kind {
            TEXT => 8,
            LIST => return Err(self.error("is a list of lists, which no language model has")),
            _ => 1,
        };
        self.room(count.saturating_mul(least))?;
        if count > LONGEST_LIST {
            return Err(self.error(format!("has {count} entries, more than {LONGEST_LIST}")));
        }
        if kind == TEXT {
            let texts = (0..count).map(|_| self.text()).collect::<Result<_>>()?;
            return Ok(Value::Texts(texts));
        }
        let mut numbers = Vec::new();
        for _ in 0..count {
            let number = self.number(kind)?;
            let truth = number.as_bool().map(|truth| f64::from(u8::from(truth)));
            numbers.push(number.as_f64().or(truth).unwrap_or(f64::NAN));
        }
        Ok(Value::Numbers(numbers))
    }

    /// A number or truth of one of the types; null for one that is not finite.
    fn number(&mut self, kind: u32) -> Result<Json> {
        Ok(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => self.whole()?.into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            6 => decimal(f32::from_le_bytes(self.array()?)),
            7 => match u8::from_le_bytes(self.array()?) {
                0 => false.into(),
                1 => true.into(),
                other => return Err(self.error(format!("is {other} and not true or false"))),
            },
            10 => self.long()?.into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            12 => f64::from_le_bytes(self.array()?).into(),
            other => return Err(self.error(format!("has type {other}, which there is not"))),
        })
    }

    /// Where a tensor is, its start still counted from the end of the header.
    pub(super) fn place(&mut self, alignment: u64) -> Result<Place> {
        let dimensions = self.whole()?;
        if !(1..=4).contains(&dimensions) {
            return Err(self.error(format!("has {dimensions} dimensions, not 1 to 4")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.long()?);
        }
        let kind = self.whole()?;
        let start = self.long()?;
        let Some(storage) = storage(kind) else {
            return Err(self.error(format!(
                "is of ggml's type {kind}; F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K are run"
            )));
        };
        let (block, size) = match storage {
            Storage::Plain(dtype) => (1, dtype.bitsize() as u64 / 8),
            Storage::Blocks(kind) => (kind.block_size() as u64, kind.type_size() as u64),
        };
        let numbers = shape
            .iter()
            .try_fold(1_u64, |n, size| n.checked_mul(*size))
            .filter(|numbers| *numbers > 0);
        let bytes = numbers
            .and_then(|numbers| (numbers / block).checked_mul(size))
            .and_then(|bytes| usize::try_from(bytes).ok());
        let (Some(bytes), true) = (bytes, shape[0].is_multiple_of(block)) else {
            return Err(self.error(format!(
                "has shape {shape:?}, which no whole blocks of {block} numbers fill"
            )));
        };
        if !start.is_multiple_of(alignment) {
            return Err(self.error(format!("begins at {start}, no multiple of {alignment}")));
        }
        let shape = shape.iter().rev().map(|size| usize::try_from(*size).ok());
        let Some(shape) = shape.collect::<Option<Vec<_>>>() else {
            return Err(self.error("is larger than this machine counts"));
        };
        Ok(Place {
            shape,
            storage,
            start,
            bytes,
        })
    }
}

/// The shortest decimal number that is this one in `f32`: what its writer began with.
fn decimal(number: f32) -> Json {
    number
        .to_string()
        .parse::<f64>()
        .map_or(Json::Null, Json::from)
}
