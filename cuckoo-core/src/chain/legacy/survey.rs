//! Finding all miners and voters at one block: from miner to voters, from voter to miners, until there is nobody new.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use alloy::primitives::Address;
use alloy::sol_types::SolCall;

use super::LegacyNetwork;
use super::abi::{getMinersForVoterCall, getStakeInfoCall, getVotersForMinerCall};
use super::ballot::Ballot;
use crate::amount::Wei;
use crate::chain::RpcStaking;
use crate::chain::evm::{Call, Evm, Failure};
use crate::{Error, Result};

/// Calls in one request at most.
const TOGETHER: usize = 100;
/// Miners in all.
const MAX_MINERS: usize = 10_000;
/// Voters in one miner's list. To read more would take more gas than nodes allow a call.
const MAX_LIST: usize = 50_000;
/// Voters in all.
const MAX_VOTERS: usize = 100_000;
/// Votes in all.
const MAX_VOTES: usize = 1_000_000;

/// One reading of a network.
pub(super) struct Survey<'a> {
    chain: &'a RpcStaking,
    network: LegacyNetwork,
    at: &'a <RpcStaking as Evm>::At,
}

impl<'a> Survey<'a> {
    pub(super) fn new(
        chain: &'a RpcStaking,
        network: LegacyNetwork,
        at: &'a <RpcStaking as Evm>::At,
    ) -> Self {
        Self { chain, network, at }
    }

    /// Whether the contracts answer at all.
    pub(super) async fn check(&self) -> Result<()> {
        self.stakes(BTreeSet::from([Address::ZERO])).await?;
        self.voters(&[Address::ZERO]).await?;
        self.miners(&[Address::ZERO]).await?;
        Ok(())
    }

    /// Every vote that is found from these miners on.
    pub(super) async fn ballot(&self, seeds: &[Address]) -> Result<Ballot> {
        let mut ballot = Ballot::default();
        let mut votes = 0;
        let mut new_miners: BTreeSet<_> = seeds.iter().copied().collect();
        while !new_miners.is_empty() {
            bounded(
                "miners in all",
                ballot.miners.len() + new_miners.len(),
                MAX_MINERS,
            )?;
            let asked: Vec<_> = std::mem::take(&mut new_miners).into_iter().collect();
            ballot.miners.extend(&asked);
            let voters: BTreeSet<_> = self.voters(&asked).await?.into_iter().flatten().collect();
            let new_voters: Vec<_> = voters
                .into_iter()
                .filter(|voter| !ballot.votes.contains_key(voter))
                .collect();
            bounded(
                "voters in all",
                ballot.votes.len() + new_voters.len(),
                MAX_VOTERS,
            )?;
            for (voter, miners) in new_voters.iter().zip(self.miners(&new_voters).await?) {
                let miners: BTreeSet<_> = miners.into_iter().collect();
                votes += miners.len();
                bounded("votes in all", votes, MAX_VOTES)?;
                new_miners.extend(miners.difference(&ballot.miners));
                ballot.votes.insert(*voter, miners);
            }
        }
        Ok(ballot)
    }

    /// What each account staked.
    pub(super) async fn stakes(
        &self,
        accounts: BTreeSet<Address>,
    ) -> Result<BTreeMap<Address, Wei>> {
        let accounts: Vec<_> = accounts.into_iter().collect();
        let call = |account| getStakeInfoCall { staker: account };
        let answers = self.ask(self.network.staking, &accounts, call, 2).await?;
        let stakes = answers.into_iter().map(|info| info.tokensStaked);
        Ok(accounts.into_iter().zip(stakes).collect())
    }

    async fn voters(&self, miners: &[Address]) -> Result<Vec<Vec<Address>>> {
        let call = |miner| getVotersForMinerCall { miner };
        self.ask(self.network.voting, miners, call, MAX_LIST).await
    }

    async fn miners(&self, voters: &[Address]) -> Result<Vec<Vec<Address>>> {
        let call = |voter| getMinersForVoterCall { voter };
        self.ask(self.network.voting, voters, call, MAX_MINERS)
            .await
    }

    /// Asks the same about each account; `most` words of answer each.
    async fn ask<C: SolCall>(
        &self,
        contract: Address,
        accounts: &[Address],
        call: impl Fn(Address) -> C,
        most: usize,
    ) -> Result<Vec<C::Return>> {
        let calls: Vec<_> = accounts
            .iter()
            .map(|account| Call {
                to: contract,
                data: call(*account).abi_encode().into(),
            })
            .collect();
        let answers = self.chain.call_many(self.at, &calls, TOGETHER).await?;
        let read = |(account, answer): (&Address, Result<bytes::Bytes, Failure>)| {
            let answer = answer.map_err(|failure| {
                Error::chain(format!(
                    "{contract} refuses `{}` for {account}",
                    C::SIGNATURE
                ))
                .with_source(failure.into_error())
            })?;
            // A list's offset and length come before its items.
            let words = (answer.len() / 32).saturating_sub(2);
            bounded(
                format_args!("answers of `{}` for {account}", C::SIGNATURE),
                words,
                most,
            )?;
            C::abi_decode_returns(&answer).map_err(|source| {
                Error::chain(format!(
                    "the contract at {contract} does not answer `{}` as the legacy network's does; check the network's \
                     addresses",
                    C::SIGNATURE
                ))
                .with_source(source.to_string())
            })
        };
        accounts.iter().zip(answers).map(read).collect()
    }
}

fn bounded(what: impl Display, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(Error::chain(format!(
        "{what}: {count}, more than the {most} that this version reads; check the network's addresses"
    )))
}
