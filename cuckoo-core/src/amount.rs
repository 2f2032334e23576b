//! Amounts of CAI: wei inside, decimal CAI for people.

use alloy::primitives::U256;
use alloy::primitives::utils::{ParseUnits, format_units, parse_units};

use crate::{Error, Result};

/// Wei of CAI: 10^18 wei are one CAI.
pub type Wei = U256;

/// `amount` whole CAI in wei.
pub fn cai(amount: u64) -> Wei {
    U256::from(amount) * U256::from(10).pow(U256::from(18))
}

/// Reads decimal CAI such as `20000` or `0.25`.
///
/// ```
/// use cuckoo_core::{cai, format_cai, parse_cai};
///
/// assert_eq!(parse_cai("20000")?, cai(20_000));
/// assert_eq!(format_cai(parse_cai("0.250")?), "0.25");
/// assert!(parse_cai("-1").is_err());
/// # Ok::<(), cuckoo_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for anything but a decimal number of at most 18 places, not negative.
pub fn parse_cai(text: &str) -> Result<Wei> {
    let amount = text.trim().trim_end_matches("CAI").trim_end();
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
    let digits = |part: &str, most: usize| {
        (1..=most).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    // The library reads nothing as zero, skips underscores and cuts places off; far more CAI than 10^40 do not exist.
    let well_formed = digits(whole, 40) && digits(fraction, 18);
    match well_formed.then(|| parse_units(amount, 18)) {
        Some(Ok(ParseUnits::U256(amount))) => Ok(amount),
        _ => Err(Error::invalid(format!(
            "`{text}` is not an amount of CAI; write it like 20000 or 0.25"
        ))),
    }
}

/// Writes wei as decimal CAI without trailing zeros.
pub fn format_cai(amount: Wei) -> String {
    match format_units(amount, 18) {
        Ok(text) => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        Err(_) => format!("{amount} wei"),
    }
}

/// Serde of an amount as decimal CAI in text: a number in TOML or JSON would lose wei.
pub mod cai_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Wei, format_cai, parse_cai};

    /// Writes an amount as [`format_cai`] does.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(amount: &Wei, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&format_cai(*amount))
    }

    /// Reads an amount as [`parse_cai`] does.
    ///
    /// # Errors
    /// The deserializer's, and for text that is no amount.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Wei, D::Error> {
        parse_cai(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// Serde of an amount in wei as text, as it is on the wire: decimal digits, or 0x and hexadecimal ones, which is what it
/// writes.
///
/// The library itself reads an empty text as zero, skips underscores and takes numbers, which lose wei in other languages.
pub mod wei_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    use super::Wei;

    /// Writes 0x and hexadecimal digits without leading zeros.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(amount: &Wei, to: S) -> Result<S::Ok, S::Error> {
        amount.serialize(to)
    }

    /// Reads decimal digits, or 0x and hexadecimal ones.
    ///
    /// # Errors
    /// The deserializer's, and for text that is no amount below 2^256.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Wei, D::Error> {
        read(&String::deserialize(from)?).map_err(D::Error::custom)
    }

    fn read(text: &str) -> Result<Wei, String> {
        let hexadecimal = text.strip_prefix("0x");
        let (digits, radix, most) = hexadecimal.map_or((text, 10, 78), |digits| (digits, 16, 64));
        let well_formed =
            (1..=most).contains(&digits.len()) && digits.chars().all(|digit| digit.is_digit(radix));
        let amount = well_formed.then(|| Wei::from_str_radix(digits, radix.into()).ok());
        amount.flatten().ok_or_else(|| {
            format!("`{text:.80}` is not an amount in wei; write decimal digits, or 0x and hexadecimal ones, in quotes")
        })
    }

    /// The same for an amount that may be absent; with `#[serde(default)]`.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

        use super::{Wei, read};

        /// Writes the amount as [`super::serialize`] does.
        ///
        /// # Errors
        /// The serializer's.
        pub fn serialize<S: Serializer>(amount: &Option<Wei>, to: S) -> Result<S::Ok, S::Error> {
            amount.serialize(to)
        }

        /// Reads the amount as [`super::deserialize`] does.
        ///
        /// # Errors
        /// As [`super::deserialize`].
        pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Wei>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(|text| read(&text).map_err(D::Error::custom))
                .transpose()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_round_trip() {
        for text in ["0", "1", "0.25", "20000", "2000000.000000000000000001"] {
            assert_eq!(format_cai(parse_cai(text).unwrap()), text);
        }
        assert_eq!(parse_cai("20000 CAI").unwrap(), cai(20_000));
        let endless = "9".repeat(77);
        for text in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "1_000",
            "1.2.3",
            "0x10",
            "0.0000000000000000001",
            &endless,
        ] {
            assert!(parse_cai(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wei_are_read_as_they_are_documented_and_written_as_ever() {
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        struct Price(#[serde(with = "wei_text")] Wei);
        let read = |json: &str| serde_json::from_str::<Price>(json).map(|price| price.0);
        let most = format!("\"{}\"", Wei::MAX);
        for (json, amount) in [
            (r#""0""#, Wei::ZERO),
            (r#""1000000000000000000""#, cai(1)),
            (r#""0xde0B6b3a7640000""#, cai(1)),
            (r#""0x00""#, Wei::ZERO),
            (&most, Wei::MAX),
        ] {
            assert_eq!(read(json).unwrap(), amount, "{json}");
            let again = serde_json::to_string(&Price(amount)).unwrap();
            assert_eq!(again, serde_json::to_string(&amount).unwrap());
            assert_eq!(read(&again).unwrap(), amount);
        }
        let beyond = format!("\"{}0\"", Wei::MAX);
        for json in [
            r#""""#,
            r#""0x""#,
            r#""_""#,
            r#""1_000""#,
            r#""0b1""#,
            r#""0X1""#,
            r#"" 1""#,
            r#""-1""#,
            r#""1.5""#,
            "1",
            "null",
            &beyond,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
