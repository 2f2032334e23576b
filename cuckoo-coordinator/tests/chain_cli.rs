//! The commands of deployers, stakers and owners, with the real binary against a real chain node.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "operator/command.rs"]
mod command;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use command::{fails, run};
use cuckoo_core::testing::Anvil;
use cuckoo_core::{
    Address, Deployment, Key, RpcSettings, RpcStaking, SeededEntropy, StakingContract, SystemClock,
    Wei, cai, format_cai, parse_cai, save_key,
};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery staple";
/// Everything else is the demo's.
const SETTINGS: &str = "preset = \"demo\"\nminer_minimum = \"200\"\ncoordinator_minimum = \"1000\"\n\
                        reward_budget = \"500\"\n[court]\nbond = \"600\"\n";

/// A folder with keys, and the chain.
struct Desk {
    folder: TempDir,
    anvil: Anvil,
}

impl Desk {
    async fn new() -> Self {
        let desk = Self {
            folder: tempfile::tempdir().unwrap(),
            anvil: Anvil::start()
                .await
                .expect("anvil; `make setup` installs it"),
        };
        for (number, name) in ["owner", "staker", "operator", "operator-2", "poor"]
            .into_iter()
            .enumerate()
        {
            let entropy = SeededEntropy::from_number(number as u64);
            let key = Key::random(&entropy);
            save_key(
                &desk.path(&format!("{name}.json")),
                &key,
                PASSWORD,
                &entropy,
            )
            .unwrap();
            if ["owner", "staker"].contains(&name) {
                desk.anvil.fund(key.address(), cai(10_000)).await.unwrap();
            }
        }
        desk.write("deploy.toml", SETTINGS);
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn address(&self, name: &str) -> Address {
        let show = format!("key show --keystore {name}.json");
        run(&mut self.command(&show)).trim().parse().unwrap()
    }

    /// The binary with arguments that are split at spaces.
    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cuckoo-coordinator"));
        command
            .current_dir(self.folder.path())
            .args(arguments.split(' '))
            .env("CUCKOO_PASSWORD", PASSWORD)
            .env_remove("CUCKOO_LOG");
        command
    }

    /// A command at the market, by a key.
    fn by(&self, key: &str, arguments: &str) -> Command {
        let mut command = self.command(arguments);
        command.args(["--rpc", self.anvil.url(), "--keystore"]);
        command.arg(format!("{key}.json"));
        command
    }

    fn does(&self, key: &str, arguments: &str) -> String {
        run(self.by(key, arguments).arg("--yes"))
    }

    fn refuses(&self, key: &str, arguments: &str) -> String {
        fails(self.by(key, arguments).arg("--yes"))
    }

    fn deploy(&self) {
        let said = self.does("owner", "chain deploy --config deploy.toml");
        assert!(said.contains("written to deployment.toml"), "{said}");
    }

    async fn chain(&self) -> std::sync::Arc<dyn StakingContract> {
        let text = fs::read_to_string(self.path("deployment.toml")).unwrap();
        let value = |name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            let (_, value) = line.split_once(" = ").unwrap();
            value.trim_matches('"').to_owned()
        };
        let deployment = Deployment {
            chain_id: value("chain_id").parse().unwrap(),
            staking: value("staking").parse().unwrap(),
            payments: value("payments").parse().unwrap(),
        };
        let rpc = RpcSettings::new(self.anvil.url());
        RpcStaking::connect(&rpc, deployment, std::sync::Arc::new(SystemClock))
            .await
            .unwrap()
    }

    /// Registers coordinator 1 of `owner`, with 1,000 CAI.
    fn register(&self) {
        self.write(
            "coordinator.toml",
            &format!(
                "[chain]\nrpc = [\"{}\"]\ndeployment = \"deployment.toml\"\n[operator]\nkeystore = \"operator.json\"\n",
                self.anvil.url()
            ),
        );
        let register =
            "register --config coordinator.toml --owner owner.json --name demo --escrow 20";
        let before = run(self.command(register).arg("--dry-run"));
        assert!(before.contains("dry run: nothing was sent"), "{before}");
        assert!(
            before.contains("stake 1000 CAI") && before.contains("gas"),
            "{before}"
        );
        let said = run(self.command(register).arg("--yes"));
        assert!(said.contains("registered as node 1"), "{said}");
    }
}

/// What follows `before` in a text, up to the next space.
fn after<'a>(text: &'a str, before: &str) -> &'a str {
    let (_, rest) = text
        .split_once(before)
        .unwrap_or_else(|| panic!("no `{before}` in {text}"));
    rest.split([' ', '\n', ',', ';']).next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn from_settings_to_addresses_that_everything_reads() {
    let desk = Desk::new().await;
    let owner = desk.address("owner");
    let deploy = "chain deploy --config deploy.toml --out market.toml";
    let plan = run(desk.by("owner", deploy).arg("--dry-run"));
    assert!(plan.contains("200 CAI for a miner, 1000 CAI"), "{plan}");
    assert!(plan.contains("leaves it: 500 CAI"), "{plan}");
    assert!(plan.contains("dry run: nothing was sent"), "{plan}");
    assert!(!desk.path("market.toml").exists());
    let unasked = fails(&mut desk.by("owner", deploy));
    assert!(unasked.contains("--yes"), "{unasked}");

    let said = desk.does("owner", deploy);
    // Everything that was planned was said again, and then done.
    assert!(
        said.starts_with(plan.split("dry run").next().unwrap()),
        "{said}"
    );
    let most = parse_cai(after(&said, "up to ")).unwrap();
    let fee = parse_cai(after(&said, "\nfees ")).unwrap();
    assert!(fee > Wei::ZERO && fee <= most, "{said}");

    let text = fs::read_to_string(desk.path("market.toml")).unwrap();
    for name in [
        "chain_id = 31337",
        "staking",
        "payments",
        "equivocation",
        "unpaid_voucher",
        "court",
        "since_block",
    ] {
        assert!(text.contains(&format!("\n{name}")), "{name} in {text}");
    }
    let again = desk.refuses("owner", deploy);
    assert!(
        again.contains("exists already") && again.contains("--out"),
        "{again}"
    );
    assert_eq!(fs::read_to_string(desk.path("market.toml")).unwrap(), text);

    let mut status = desk.command("chain status --deployment market.toml --rpc");
    let status = run(status.arg(desk.anvil.url()));
    for part in [
        "200 CAI for a miner",
        "10 CAI an epoch, from a budget of 500 CAI",
        "bond 600 CAI",
        "0 nodes",
    ] {
        assert!(status.contains(part), "{part} in {status}");
    }
    let court = after(&text, "court = ").trim_matches('"');
    assert!(
        status.to_lowercase().contains(&format!("court {court}")),
        "{status}"
    );

    let both = desk.by("owner", "chain deploy --demo --preset demo");
    assert!(fails(&mut { both }).contains("--preset"));
    let poor = desk.refuses("poor", "chain deploy --preset demo");
    assert!(
        poor.contains("holds 0 CAI") && poor.contains("send it more"),
        "{poor}"
    );
    for (settings, named) in [
        ("preset = \"demo\"\ncolour = 1", "colour"),
        (
            "preset = \"demo\"\nminer_minimum = \"lots\"",
            "miner_minimum",
        ),
        (
            "preset = \"demo\"\nunbonding_seconds = 0",
            "unbonding_seconds is out of range",
        ),
        (
            "preset = \"demo\"\n[court]\nbond = \"1\"",
            "bond is out of range",
        ),
        (
            "preset = \"demo\"\n[court]\njury_size = 4",
            "jury_size is out of range",
        ),
    ] {
        desk.write("wrong.toml", settings);
        let nonce = desk.anvil.nonce(owner).await.unwrap();
        let error = desk.refuses("owner", "chain deploy --config wrong.toml");
        assert!(error.contains(named), "{named}: {error}");
        assert_eq!(
            desk.anvil.nonce(owner).await.unwrap(),
            nonce,
            "nothing was sent"
        );
    }
    let lost = fails(&mut desk.by("owner", "chain deploy --config nowhere.toml"));
    assert!(lost.contains("deploy.example.toml"), "{lost}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stakers_way_in_and_out() {
    let desk = Desk::new().await;
    desk.deploy();
    desk.register();
    let chain = desk.chain().await;
    let staker = desk.address("staker");

    let said = desk.does("staker", "stake 1000");
    assert!(said.contains("add 1000 CAI to the free stake"), "{said}");
    assert!(
        said.contains("done: transaction 0x") && said.contains("free stake is 1000 CAI"),
        "{said}"
    );

    // A dry run says what the real run says, and changes nothing.
    let state = async || {
        let nonce = desk.anvil.nonce(staker).await.unwrap();
        (chain.balance(staker).await.unwrap(), nonce)
    };
    let before = state().await;
    for command in [
        "stake 1",
        "vote 1 600",
        "withdraw 1000",
        "escrow deposit 1 5",
        "claim",
    ] {
        let said = run(desk.by("staker", command).arg("--dry-run"));
        if command != "claim" {
            assert!(
                said.contains("dry run") && said.contains("gas"),
                "{command}: {said}"
            );
        }
    }
    assert_eq!(state().await, before);

    let said = desk.does("staker", "vote 1 600");
    assert!(said.contains("vote 600 CAI for node 1"), "{said}");
    desk.anvil.advance(Duration::from_secs(2)).await.unwrap();
    let said = desk.does("staker", "sync");
    assert!(said.contains("rewards of node 1 up to date"), "{said}");
    // What it earns from now on is paid out over an epoch from the next time on.
    desk.anvil.advance(Duration::from_secs(20)).await.unwrap();
    desk.does("staker", "sync 1");
    desk.anvil.advance(Duration::from_secs(2)).await.unwrap();
    let account = run(&mut desk.by("staker", "account"));
    for part in [
        "free stake 400 CAI",
        "vote for node 1: 600 CAI",
        &staker.to_string(),
    ] {
        assert!(account.contains(part), "{part} in {account}");
    }

    // The owner and the staker share what the budget pays; the staker's part is its own.
    let owed = chain
        .claimable(cuckoo_core::NodeId(1), staker)
        .await
        .unwrap();
    assert!(owed > Wei::ZERO);
    let balance = chain.balance(staker).await.unwrap();
    let said = desk.does("staker", "claim");
    let paid = parse_cai(said.lines().last().unwrap().split(' ').next().unwrap()).unwrap();
    let fee = parse_cai(after(&said, "fee ")).unwrap();
    assert!(paid >= owed, "{said}");
    assert_eq!(
        chain.balance(staker).await.unwrap(),
        balance + paid - fee,
        "{said}"
    );

    let said = desk.does("staker", "unvote 1 100.5");
    assert!(said.contains("vote for node 1 is worth 600 CAI"), "{said}");
    assert_eq!(after(&said, "ticket "), "1", "{said}");
    assert!(
        said.contains("worth 100.5 CAI now, unlocks at 20"),
        "{said}"
    );
    let early = desk.refuses("staker", "release 1");
    assert!(early.contains("StillUnbonding"), "{early}");
    let said = desk.does("staker", "unvote 1 all");
    assert!(said.contains("worth 499.5 CAI now"), "{said}");
    let account = run(&mut desk.by("staker", "account --ticket 2"));
    assert!(
        account.contains("ticket 2") && account.contains("499.5 CAI from node 1"),
        "{account}"
    );

    desk.anvil.advance(Duration::from_secs(61)).await.unwrap();
    desk.does("staker", "release 1");
    let said = desk.does("staker", "release 2");
    assert!(
        said.contains("499.5 CAI were added") && said.contains("free stake is 1000 CAI"),
        "{said}"
    );
    let said = desk.does("staker", "withdraw 1000");
    assert!(said.contains("free stake is 0 CAI"), "{said}");

    for (command, told) in [
        ("release 1", "no ticket 1"),
        ("unvote 1 all", "no vote"),
        ("vote 9 1", "node 9"),
        ("vote 1 1", "InsufficientFreeStake"),
        ("withdraw 1", "InsufficientFreeStake"),
        ("stake 1000000", "send it more"),
        ("stake 1,5", "not an amount of CAI"),
        ("stake -1", "-1"),
        ("vote x 1", "not a node"),
        ("unvote 1 most", "or `all`"),
        ("faucet drip", "names no `faucet`"),
    ] {
        let error = desk.refuses("staker", command);
        assert!(error.contains(told), "{command}: {error}");
    }
    let lost = desk.refuses("nobody", "stake 1");
    assert!(lost.contains("key new"), "{lost}");
    let wrong = fails(
        desk.by("staker", "stake 1 --yes")
            .env("CUCKOO_PASSWORD", "guess"),
    );
    assert!(
        wrong.contains("wrong password") && !wrong.contains("guess"),
        "{wrong}"
    );
    let unasked = fails(&mut desk.by("staker", "stake 1"));
    assert!(
        unasked.contains("--yes") && unasked.contains("--dry-run"),
        "{unasked}"
    );
    let nowhere = fails(&mut desk.command("stake 1 --keystore staker.json"));
    assert!(nowhere.contains("--config"), "{nowhere}");
    let unreached = fails(
        desk.by("staker", "stake 1 --deployment none.toml")
            .arg("--yes"),
    );
    assert!(
        unreached.contains("no deployment at none.toml"),
        "{unreached}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_changes_keys_profile_and_escrow_and_leaves() {
    let desk = Desk::new().await;
    desk.deploy();
    desk.register();
    let chain = desk.chain().await;
    let owner = desk.address("owner");

    let rotate = "rotate 1 --operator operator-2.json";
    let dry = run(desk.by("owner", rotate).arg("--dry-run"));
    assert!(dry.contains("dry run"), "{dry}");
    let node = async || chain.snapshot().await.unwrap().nodes.remove(0);
    assert_eq!(node().await.operator, desk.address("operator"));
    let said = desk.does("owner", rotate);
    assert!(
        said.contains("stays accountable for another 1 min"),
        "{said}"
    );
    assert_eq!(node().await.operator, desk.address("operator-2"));
    let own = desk.refuses("owner", "rotate 1 --operator owner.json");
    assert!(own.contains("same key"), "{own}");
    let stranger = desk.refuses("staker", "rotate 1 --operator poor.json");
    assert!(stranger.contains("NotNodeOwner"), "{stranger}");

    desk.does("owner", "profile 1 --description pictures");
    let profile = node().await.profile;
    assert_eq!(
        (profile.name.as_str(), profile.description.as_str()),
        ("demo", "pictures")
    );
    assert!(
        desk.refuses("owner", "profile 1")
            .contains("nothing to change")
    );
    assert!(
        desk.refuses("owner", "profile 7 --name x")
            .contains("no node 7")
    );

    let said = desk.does("staker", "escrow deposit 1 30");
    assert!(
        said.contains("holds 20 CAI") && said.contains("holds 50 CAI"),
        "{said}"
    );
    let said = desk.does("owner", "escrow request 1 45");
    assert!(said.contains("of which 45 CAI may leave from 20"), "{said}");
    let early = desk.refuses("owner", "escrow withdraw 1");
    assert!(early.contains("WithdrawalLocked"), "{early}");
    desk.anvil.advance(Duration::from_secs(61)).await.unwrap();
    let before = chain.balance(owner).await.unwrap();
    let said = desk.does("owner", "escrow withdraw 1");
    assert!(
        said.contains("45 CAI were paid out") && said.contains("holds 5 CAI"),
        "{said}"
    );
    let fee = parse_cai(after(&said, "fee ")).unwrap();
    assert_eq!(
        chain.balance(owner).await.unwrap(),
        before + cai(45) - fee,
        "{}",
        format_cai(fee)
    );

    let said = desk.does("owner", "exit 1");
    assert!(said.contains("cannot be taken back"), "{said}");
    assert!(!node().await.active);
}

#[test]
fn help_teaches_with_an_example_for_every_command() {
    for command in [
        "register",
        "rotate",
        "exit",
        "profile",
        "escrow deposit",
        "escrow request",
        "escrow withdraw",
        "stake",
        "vote",
        "unvote",
        "release",
        "withdraw",
        "claim",
        "sync",
        "account",
        "faucet drip",
        "chain deploy",
        "chain status",
        "key new",
        "key import",
        "key show",
        "run",
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cuckoo-coordinator"));
        let help = run(program.args(command.split(' ')).arg("--help"));
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(
            help.contains(&format!("cuckoo-coordinator {command}")),
            "{command}: {help}"
        );
        assert!(
            !help.contains("PROGRAM") && !help.contains("SETTINGS"),
            "{command}: {help}"
        );
        assert!(
            !help.contains("--password "),
            "no password on the command line"
        );
    }
    assert!(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy.example.toml")
            .is_file()
    );
}
