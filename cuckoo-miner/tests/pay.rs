//! How a miner gets its pay and its right, with the real binary against a real chain node.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    B256, CourtConfig, DeployConfig, Key, LeaseId, LocalMarket, Member, Receipt, RpcSettings,
    RpcStaking, SeededEntropy, Signed, SignedReceipt, SignedVoucher, StakingContract, SystemClock,
    TaskId, Usage, Voucher, Wei, cai, payload_hash, save_key,
};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse";
/// How long a coordinator has to pay, and each side of a dispute for each step: far more than a few commands take.
const NOTICE: u64 = 120;

/// A market with a coordinator and a miner, and the folder of the miner's owner.
struct Desk {
    folder: TempDir,
    anvil: Anvil,
    chain: Arc<dyn StakingContract>,
    coordinator: Member,
    miner: Member,
}

impl Desk {
    async fn new(escrow: Wei) -> Self {
        let anvil = Anvil::start().await.unwrap();
        let entropy = Arc::new(SeededEntropy::from_number(1));
        let treasury = Key::random(&*entropy);
        anvil.fund(treasury.address(), cai(10_000)).await.unwrap();
        let demo = DeployConfig::demo();
        let config = DeployConfig {
            miner_minimum: cai(200),
            coordinator_minimum: cai(1_000),
            unbonding_seconds: 5 * NOTICE,
            notice_seconds: NOTICE,
            court: CourtConfig {
                answer_seconds: NOTICE,
                draw_seconds: NOTICE,
                commit_seconds: NOTICE,
                reveal_seconds: NOTICE,
                ..demo.court
            },
            ..demo
        };
        let chain = RpcStaking::deploy(
            &RpcSettings::new(anvil.url()),
            &treasury,
            &config,
            Arc::new(SystemClock),
        )
        .await
        .unwrap();
        let market = LocalMarket::new(chain.clone(), treasury, entropy.clone());
        let coordinator = market
            .add_coordinator("host", cai(1_000), escrow)
            .await
            .unwrap();
        let miner = market.add_miner("gpu-1", cai(200)).await.unwrap();
        anvil.fund(miner.owner.address(), cai(1_000)).await.unwrap();
        // Votes count from the next epoch.
        anvil.advance(Duration::from_secs(2)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owner.json");
        save_key(&path, &miner.owner, PASSWORD, &*entropy).unwrap();
        let contracts = serde_json::to_value(chain.contracts()).unwrap();
        let addresses: String = contracts
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        fs::write(folder.path().join("deployment.toml"), addresses).unwrap();
        Self {
            folder,
            anvil,
            chain,
            coordinator,
            miner,
        }
    }

    fn owes(&self, cumulative: Wei) {
        let voucher = Voucher {
            coordinator: self.coordinator.node,
            miner: self.miner.node,
            cumulative,
        };
        let deployment = self.chain.deployment();
        let voucher = SignedVoucher::sign(voucher, &self.coordinator.operator, &deployment);
        self.write("vouchers.json", &serde_json::to_string(&[voucher]).unwrap());
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn execute(&self, arguments: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cuckoo-miner"))
            .current_dir(self.folder.path())
            .args(arguments.split(' '))
            .args(["--rpc", self.anvil.url()])
            .env("CUCKOO_PASSWORD", PASSWORD)
            .env_remove("CUCKOO_LOG")
            .output()
            .unwrap()
    }

    /// What the owner's command prints.
    fn does(&self, arguments: &str) -> String {
        let output = self.execute(&format!("{arguments} --keystore owner.json --yes"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What the owner's command complains of.
    fn refuses(&self, arguments: &str) -> String {
        let output = self.execute(&format!("{arguments} --keystore owner.json --yes"));
        assert!(!output.status.success(), "{arguments} succeeded");
        String::from_utf8(output.stderr).unwrap()
    }

    fn shows(&self, arguments: &str) -> String {
        let output = self.execute(arguments);
        assert!(output.status.success(), "{arguments}");
        String::from_utf8(output.stdout).unwrap()
    }

    async fn later(&self, seconds: u64) {
        self.anvil
            .advance(Duration::from_secs(seconds))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vouchers_become_pay_when_they_are_worth_their_gas() {
    let desk = Desk::new(cai(5)).await;
    let owner = desk.miner.owner.address();
    let redeem = "redeem --vouchers vouchers.json";
    let none = desk.does(redeem);
    assert!(none.contains("nothing is owed"), "{none}");

    // Worth a hundred wei: less than any gas.
    desk.owes(Wei::from(100));
    let little = desk.does(redeem);
    assert!(
        little.contains("not worth") && little.contains("--all"),
        "{little}"
    );

    desk.owes(cai(2));
    let before = desk.chain.balance(owner).await.unwrap();
    let dry = desk.shows("redeem --vouchers vouchers.json --keystore owner.json --dry-run");
    assert!(dry.contains("owes node 2 2 CAI"), "{dry}");
    assert!(dry.contains("dry run: nothing was sent"), "{dry}");
    assert_eq!(desk.chain.balance(owner).await.unwrap(), before);
    let said = desk.does(redeem);
    assert!(
        said.contains("1.8 CAI paid to the owner of node 2, 0.2 CAI to its stakers"),
        "{said}"
    );
    let after = desk.chain.balance(owner).await.unwrap();
    assert!(after > before + cai(1), "{said}");
    assert!(desk.does(redeem).contains("nothing is owed"));

    // Somebody else redeems the next one.
    desk.owes(cai(3));
    let text = fs::read_to_string(desk.folder.path().join("vouchers.json")).unwrap();
    let vouchers: Vec<SignedVoucher> = serde_json::from_str(&text).unwrap();
    desk.chain
        .redeem(&desk.coordinator.owner, &vouchers[0])
        .await
        .unwrap();
    let said = desk.does("collect");
    assert!(
        said.contains("node 2 earned 1 CAI") && said.contains("0.9 CAI paid"),
        "{said}"
    );
    assert!(desk.does("collect 2").contains("nothing waits"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_escrow_covers_is_paid_from_the_bond() {
    let desk = Desk::new(cai(4)).await;
    desk.owes(cai(4));
    let covered = desk.does("unpaid demand --vouchers vouchers.json");
    assert!(covered.contains("that is covered"), "{covered}");

    desk.owes(cai(10));
    let said = desk.does("redeem --vouchers vouchers.json");
    assert!(said.contains("of which its escrow has 4 CAI"), "{said}");
    let empty = desk.does("redeem --vouchers vouchers.json");
    assert!(empty.contains("unpaid demand"), "{empty}");
    let said = desk.does("unpaid demand --vouchers vouchers.json");
    assert!(said.contains("has until 20"), "{said}");
    let early = desk.refuses("unpaid collect --vouchers vouchers.json");
    assert!(early.contains("NoticeRunning"), "{early}");
    desk.later(NOTICE).await;
    let said = desk.does("unpaid collect --vouchers vouchers.json");
    assert!(said.contains("6 CAI were paid from its bond"), "{said}");
    let free = desk.chain.free_stake(desk.miner.owner.address()).await;
    // Six for the miner, whose owner is the reporter as well: a tenth of the fifteen that the bond lost.
    assert_eq!(free.unwrap(), cai(15) / Wei::from(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_output_goes_to_court() {
    let desk = Desk::new(Wei::ZERO).await;
    let said = desk.does("juror enlist 2");
    assert!(
        said.contains("a juror earns 50 CAI") && said.contains("may be drawn"),
        "{said}"
    );
    desk.does("juror refresh 2");
    desk.does("juror leave 2");
    let twice = desk.refuses("juror leave 2");
    assert!(twice.contains("error: "), "{twice}");

    let word = B256::repeat_byte(7);
    let receipt = Receipt {
        coordinator: desk.coordinator.node,
        miner: desk.miner.node,
        lease: LeaseId::from(word),
        task: TaskId::from(word),
        model_hash: payload_hash(b"model"),
        input_hash: payload_hash(b"input"),
        output_hash: payload_hash(b"output"),
        states_root: B256::ZERO,
        usage: Usage::default(),
    };
    let deployment = desk.chain.deployment();
    let receipt: SignedReceipt = Signed::sign(receipt, &desk.miner.operator, &deployment);
    desk.write("receipt.json", &serde_json::to_string(&receipt).unwrap());
    desk.write("other.json", "{}");
    let other = desk.refuses("dispute open --receipt other.json --evidence https://a/b");
    assert!(other.contains("not a signed receipt"), "{other}");
    let none = desk.refuses("dispute answer 1");
    assert!(none.contains("no dispute 1"), "{none}");

    let said = desk.does("dispute open --receipt receipt.json --evidence https://a/b");
    assert!(said.contains("with a bond of 500 CAI"), "{said}");
    assert!(
        said.contains("this is dispute 1") && said.contains("open to an answer"),
        "{said}"
    );
    desk.anvil
        .fund(desk.miner.owner.address(), cai(600))
        .await
        .unwrap();
    let said = desk.does("dispute answer 1");
    assert!(
        said.contains("answer dispute 1, with a bond of 500 CAI"),
        "{said}"
    );
    desk.later(0).await;
    // Nobody is on the list, so the jury is too small and the dispute ends at once.
    let said = desk.does("dispute draw 1");
    assert!(said.contains("undecided"), "{said}");
    let shown = desk.shows("dispute show 1");
    assert!(
        shown.contains("closed") && shown.contains("node 2 is accused"),
        "{shown}"
    );
    let late = desk.refuses("dispute finish 1");
    assert!(late.contains("WrongPhase"), "{late}");
    let said = desk.does("dispute withdraw");
    assert!(said.contains("1000 CAI were paid out"), "{said}");
}
