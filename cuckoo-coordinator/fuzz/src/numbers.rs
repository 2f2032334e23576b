//! Amounts, times and names as text.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use cuckoo_core::{
    Address, B256, LeaseId, ModelId, NodeId, TaskId, Timestamp, Wei, format_cai, parse_cai,
    wei_text,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{read, survives};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Amount(#[serde(with = "wei_text")] Wei);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct MaybeAmount(#[serde(with = "wei_text::option")] Option<Wei>);

/// Text as each of them, and as JSON of each.
pub fn numbers(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(amount) = parse_cai(text) {
        let written = format_cai(amount);
        assert_eq!(parse_cai(&written).ok(), Some(amount), "{written}");
    }
    let string = Value::from(text);
    if let Ok(amount) = Amount::deserialize(&string) {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(plain && !digits.is_empty(), "`{text}` is no amount");
        survives(&amount);
    }
    if let Ok(amount) = MaybeAmount::deserialize(&string) {
        survives(&amount);
    }
    parsed::<TaskId>(text);
    parsed::<LeaseId>(text);
    parsed::<ModelId>(text);
    for json in [data, string.to_string().as_bytes()] {
        read::<ModelId>(json);
        read::<TaskId>(json);
        read::<B256>(json);
        read::<Address>(json);
        read::<NodeId>(json);
        if let Some(time) = read::<Timestamp>(json) {
            let day = Duration::from_secs(86_400);
            assert!(time.before(day) <= time && time <= time.after(day));
            assert!(time.since(time.before(day)) <= day);
        }
    }
}

fn parsed<T>(text: &str)
where
    T: FromStr + Display + PartialEq + Debug + Serialize + for<'a> Deserialize<'a>,
    T::Err: Debug,
{
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse::<T>().expect("its own text"), value);
        survives(&value);
    }
}
