//! What a market's contracts are deployed with, and the values for each kind of network.

use alloy::primitives::Address;
use serde::{Deserialize, Serialize};

use crate::amount::{Wei, cai, cai_text};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;

/// What a market's contracts are deployed with. Times are seconds, amounts wei (in a file: decimal CAI as text), parts
/// hundredths of a percent. Only the rate of rewards can be changed later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeployConfig {
    /// Length of an epoch: votes count from the next one.
    pub epoch_seconds: u64,
    /// How long stake stays slashable after it was voted off a node.
    pub unbonding_seconds: u64,
    /// How long a coordinator's escrow stays redeemable after its withdrawal was announced.
    pub withdrawal_delay_seconds: u64,
    /// The least own vote of an active miner's owner.
    #[serde(with = "cai_text")]
    pub miner_minimum: Wei,
    /// The least own vote of an active coordinator's owner.
    #[serde(with = "cai_text")]
    pub coordinator_minimum: Wei,
    /// Share of a slash that is burnt.
    pub burn_bps: u16,
    /// Share of a slash that rewards who reported it; the rest goes to the wronged party.
    pub reporter_bps: u16,
    /// Share of redeemed vouchers that goes to the paid miner's stakers.
    pub stakers_bps: u16,
    /// What all active nodes together earn in an epoch.
    #[serde(with = "cai_text")]
    pub reward_per_epoch: Wei,
    /// CAI that the deployer puts into the budget of rewards.
    #[serde(with = "cai_text")]
    pub reward_budget: Wei,
    /// What signing two outputs for one lease costs, as far as the pools reach.
    #[serde(with = "cai_text")]
    pub equivocation_penalty: Wei,
    /// How long a coordinator has to pay a voucher that was demanded, before its bond pays.
    pub notice_seconds: u64,
    /// The dispute court's settings.
    pub court: CourtConfig,
    /// A faucet, on test networks.
    pub faucet: Option<FaucetConfig>,
    /// Whom the contracts obey in the end, through the timelock where there is one: the deployer when absent.
    pub admin: Option<Address>,
    /// Who may pause entries at once: the admin when absent.
    pub guardian: Option<Address>,
    /// How long everybody can see what the admin will do before it is done; without it the admin acts directly.
    pub timelock_seconds: Option<u64>,
}

/// The dispute court's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CourtConfig {
    /// What each side puts up: at least the fees of a full jury.
    #[serde(with = "cai_text")]
    pub bond: Wei,
    /// What a convicted miner is slashed, as far as its pools reach.
    #[serde(with = "cai_text")]
    pub penalty: Wei,
    /// What a juror earns with a dispute.
    #[serde(with = "cai_text")]
    pub jury_fee: Wei,
    /// What a juror that does not reveal is slashed.
    #[serde(with = "cai_text")]
    pub absence_penalty: Wei,
    /// How long the accused's side may answer.
    pub answer_seconds: u64,
    /// How long a jury may be drawn after that.
    pub draw_seconds: u64,
    /// How long jurors may re-compute and commit.
    pub commit_seconds: u64,
    /// How long they may reveal.
    pub reveal_seconds: u64,
    /// Blocks between the answer and the draw.
    pub draw_blocks: u64,
    /// Jurors of a dispute, odd.
    pub jury_size: u8,
    /// How many must reveal for a verdict.
    pub quorum: u8,
}

/// A faucet's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaucetConfig {
    /// What one asking gives.
    #[serde(with = "cai_text")]
    pub amount: Wei,
    /// Accounts that hold more get nothing.
    #[serde(with = "cai_text")]
    pub holding_cap: Wei,
    /// What all get together in a day.
    #[serde(with = "cai_text")]
    pub day_cap: Wei,
    /// How long an account waits for its next.
    pub cool_down_seconds: u64,
    /// CAI that the deployer puts in.
    #[serde(with = "cai_text")]
    pub funds: Wei,
}

impl Default for DeployConfig {
    /// The public network's, [`mainnet`](Self::mainnet).
    fn default() -> Self {
        Self::mainnet()
    }
}

impl Default for CourtConfig {
    /// The public network's.
    fn default() -> Self {
        Self {
            bond: cai(500),
            penalty: cai(20_000),
            jury_fee: cai(50),
            absence_penalty: cai(100),
            answer_seconds: DAY,
            draw_seconds: 6 * HOUR,
            commit_seconds: DAY,
            reveal_seconds: 12 * HOUR,
            draw_blocks: 8,
            jury_size: 7,
            quorum: 5,
        }
    }
}

impl DeployConfig {
    /// The public network's: daily epochs, eight days of unbonding, 20,000 and 2,000,000 CAI. `docs/contracts.md` gives the
    /// reason of each value.
    pub fn mainnet() -> Self {
        Self {
            epoch_seconds: DAY,
            unbonding_seconds: 8 * DAY,
            withdrawal_delay_seconds: 2 * DAY,
            miner_minimum: cai(20_000),
            coordinator_minimum: cai(2_000_000),
            burn_bps: 5_000,
            reporter_bps: 1_000,
            stakers_bps: 1_000,
            reward_per_epoch: cai(50_000),
            reward_budget: Wei::ZERO,
            equivocation_penalty: cai(20_000),
            notice_seconds: 3 * DAY,
            court: CourtConfig::default(),
            faucet: None,
            admin: None,
            guardian: None,
            timelock_seconds: Some(3 * DAY),
        }
    }

    /// A public test network's: the same amounts, hours instead of days, and a faucet.
    pub fn testnet() -> Self {
        Self {
            epoch_seconds: HOUR,
            unbonding_seconds: 8 * HOUR,
            withdrawal_delay_seconds: 2 * HOUR,
            notice_seconds: 3 * HOUR,
            court: CourtConfig {
                answer_seconds: HOUR,
                draw_seconds: HOUR,
                commit_seconds: HOUR,
                reveal_seconds: HOUR,
                jury_size: 3,
                quorum: 2,
                ..CourtConfig::default()
            },
            faucet: Some(FaucetConfig {
                amount: cai(25_000),
                holding_cap: cai(100_000),
                day_cap: cai(10_000_000),
                cool_down_seconds: HOUR,
                funds: Wei::ZERO,
            }),
            timelock_seconds: Some(HOUR),
            ..Self::mainnet()
        }
    }

    /// The same market in quick motion, for demos and tests: epochs of a second, a minute of unbonding, a jury of three, no
    /// timelock.
    pub fn demo() -> Self {
        Self {
            epoch_seconds: 1,
            unbonding_seconds: 60,
            withdrawal_delay_seconds: 60,
            reward_per_epoch: cai(10),
            notice_seconds: 10,
            court: CourtConfig {
                answer_seconds: 10,
                draw_seconds: 10,
                commit_seconds: 15,
                reveal_seconds: 15,
                draw_blocks: 1,
                jury_size: 3,
                quorum: 2,
                ..CourtConfig::default()
            },
            timelock_seconds: None,
            ..Self::mainnet()
        }
    }

    /// CAI that the deployer needs besides the fees, in wei.
    pub fn funds(&self) -> Wei {
        let faucet = self
            .faucet
            .as_ref()
            .map_or(Wei::ZERO, |faucet| faucet.funds);
        self.reward_budget.saturating_add(faucet)
    }
}
