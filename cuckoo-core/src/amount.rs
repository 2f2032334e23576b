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
}
