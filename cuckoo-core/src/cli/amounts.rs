//! Values on the command line.

use std::str::FromStr;

use crate::amount::{Wei, format_cai, parse_cai};
use crate::{Error, NodeId, Result, U256, Vote};

/// Reads a node's number, as `chain status` lists it.
///
/// # Errors
/// `Invalid` for anything but a number from 1 up.
pub fn parse_node(text: &str) -> Result<NodeId> {
    match text.parse() {
        Ok(number @ 1..) => Ok(NodeId(number)),
        _ => Err(Error::invalid(format!(
            "`{text}` is not a node; give its number, such as 3 (`cuckoo-coordinator chain status` lists them)"
        ))),
    }
}

/// Reads the number of a ticket or a dispute.
///
/// # Errors
/// `Invalid` for anything but a number from 1 up.
pub fn parse_number(text: &str) -> Result<U256> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match U256::from_str(text) {
        Ok(number) if digits && !number.is_zero() => Ok(number),
        _ => Err(Error::invalid(format!(
            "`{text}` is not a number; it was printed when what it names was made"
        ))),
    }
}

/// A part of a vote, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// In wei.
    Amount(Wei),
    All,
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "all" {
            return Ok(Self::All);
        }
        match parse_cai(text) {
            Ok(amount) if !amount.is_zero() => Ok(Self::Amount(amount)),
            _ => Err(Error::invalid(format!(
                "`{text}` is not an amount of CAI; write it like 20000 or 0.25, or `all`"
            ))),
        }
    }
}

impl Part {
    /// The shares of `vote` that are worth this, rounded up: whoever wants 10 CAI out gets no less.
    pub(super) fn shares(self, vote: Vote, node: NodeId) -> Result<U256> {
        if vote.shares.is_zero() {
            return Err(Error::not_found(format!(
                "there is no vote of this account for {node}; `account` lists its votes"
            )));
        }
        match self {
            Self::All => Ok(vote.shares),
            Self::Amount(amount) if amount <= vote.amount => {
                let shares = amount
                    .checked_mul(vote.shares)
                    .map_or(vote.shares, |worth| {
                        worth.div_ceil(vote.amount.max(U256::ONE))
                    });
                Ok(shares.min(vote.shares))
            }
            Self::Amount(amount) => Err(Error::rejected(format!(
                "the vote for {node} is worth {} CAI, less than {}; take less, or `all`",
                format_cai(vote.amount),
                format_cai(amount)
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cai;

    #[test]
    fn numbers_and_parts_are_read_strictly() {
        assert_eq!(parse_node("7").unwrap(), NodeId(7));
        for text in ["0", "-1", "", "x", "99999999999999999999"] {
            assert!(parse_node(text).is_err(), "{text}");
        }
        assert_eq!(parse_number("12").unwrap(), U256::from(12));
        for text in ["0", "0x10", "", "-3", "1e3"] {
            assert!(parse_number(text).is_err(), "{text}");
        }
        assert_eq!("all".parse::<Part>().unwrap(), Part::All);
        assert!("0".parse::<Part>().is_err());
        assert!("most".parse::<Part>().is_err());
    }

    #[test]
    fn a_part_of_a_vote_is_rounded_up_and_never_more_than_there_is() {
        let vote = |shares: u64, amount: u64| Vote {
            shares: U256::from(shares),
            amount: U256::from(amount),
        };
        let shares = |part: Part, vote| {
            part.shares(vote, NodeId(1))
                .map(|shares| shares.to::<u64>())
        };
        let wei = |amount: u64| Part::Amount(U256::from(amount));
        assert_eq!(shares(wei(10), vote(100, 100)).unwrap(), 10);
        // After a slash of a third: 10 wei are 15 shares, 11 are 16.5.
        assert_eq!(shares(wei(10), vote(150, 100)).unwrap(), 15);
        assert_eq!(shares(wei(11), vote(150, 100)).unwrap(), 17);
        assert_eq!(shares(Part::All, vote(150, 100)).unwrap(), 150);
        assert!(shares(wei(101), vote(150, 100)).is_err());
        assert!(shares(Part::All, vote(0, 0)).is_err());
        // A vote that was slashed to nothing can still be taken out whole.
        assert_eq!(shares(Part::All, vote(5, 0)).unwrap(), 5);
        assert!(Part::Amount(cai(1)).shares(vote(5, 0), NodeId(1)).is_err());
    }
}
