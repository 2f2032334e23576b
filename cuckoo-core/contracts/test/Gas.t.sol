// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Voucher} from "../src/IPayments.sol";
import {NodeKind} from "../src/IStaking.sol";
import {Staking} from "../src/Staking.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {OpenStaking} from "./support/OpenStaking.sol";

/// @notice What each action costs as a transaction of its own, intrinsic gas and call data included. The figures are
/// committed under `snapshots/`; a change fails the test run until they are written anew.
/// forge-config: default.isolate = true
contract GasTest is MarketTest {
    uint256 private key;
    uint64 private coordinator;
    uint64 private miner;

    /// @dev With the contract as it is deployed: what tests add to it moves its dispatch.
    function deployStaking() internal override returns (OpenStaking) {
        return OpenStaking(address(new Staking(config())));
    }

    function setUp() public override {
        super.setUp();
        key = newKey();
        coordinator = register(NodeKind.Coordinator, alice, key);
        miner = newMiner(bob);
        vm.deal(carol, 100 ether);
    }

    function measured(string memory name) private {
        vm.snapshotGasLastCall("gas", name);
    }

    function test_staking() public {
        vm.prank(carol);
        staking.stake{value: 10 ether}();
        measured("stake, first");
        vm.prank(carol);
        staking.stake{value: 10 ether}();
        measured("stake, again");
        vm.prank(carol);
        staking.vote(miner, 4 ether);
        measured("vote, first of a staker");
        vm.prank(carol);
        staking.vote(miner, 4 ether);
        measured("vote, again in an epoch");
        nextEpoch();
        vm.prank(carol);
        staking.vote(miner, 4 ether);
        measured("vote, again in a later epoch");
        // From here on rewards are being paid out, and the staker has some already.
        vm.deal(alice, 10 ether);
        vm.prank(alice);
        staking.reward{value: 10 ether}(miner);
        measured("reward");
        vm.warp(block.timestamp + EPOCH / 4);
        vm.prank(carol);
        staking.claim(miner, payable(carol));
        measured("claim, first");
        vm.warp(block.timestamp + EPOCH / 4);
        vm.prank(carol);
        staking.vote(miner, 1 ether);
        measured("vote, again while rewards are paid out");
        vm.prank(carol);
        staking.claim(miner, payable(carol));
        measured("claim, again");
        vm.prank(carol);
        staking.unvote(miner, 4 ether);
        measured("unvote, fresh, first of a node");
        vm.prank(carol);
        uint256 ticket = staking.unvote(miner, 4 ether);
        measured("unvote");
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(carol);
        staking.release(ticket);
        measured("release");
        vm.prank(carol);
        staking.withdraw(4 ether, payable(carol));
        measured("withdraw");
        slash(miner, 1 ether, "e");
        measured("slash, first");
        slash(miner, 1 ether, "f");
        measured("slash, again");
    }

    function test_nodes() public {
        uint256 operator = newKey();
        register(NodeKind.Miner, carol, operator);
        measured("registerMiner");
        operator = newKey();
        bytes memory consent = signConsent(operator, bob, NodeKind.Miner, 0, block.timestamp);
        vm.prank(bob);
        staking.rotateOperator(miner, vm.addr(operator), block.timestamp, consent);
        measured("rotateOperator");
        vm.prank(bob);
        staking.exit(miner);
        measured("exit");
    }

    function test_payments() public {
        vm.prank(carol);
        payments.deposit{value: 50 ether}(coordinator);
        measured("deposit, first");
        vm.prank(carol);
        payments.deposit{value: 50 ether}(coordinator);
        measured("deposit, again");
        // The owner has been paid before, as most have.
        vm.deal(bob, 1 ether);
        Voucher memory voucher = Voucher(coordinator, miner, 10 ether);
        payments.redeem(voucher, signVoucher(key, voucher));
        measured("redeem, first of a pair");
        voucher.cumulative = 20 ether;
        payments.redeem(voucher, signVoucher(key, voucher));
        measured("redeem, steady");
        payments.collect(miner);
        measured("collect");
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 10 ether);
        measured("requestWithdrawal");
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
        measured("withdrawEscrow");
    }
}
