// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {Voucher} from "../src/IPayments.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {MarketTest} from "./support/MarketTest.sol";

/// @notice A pause stops what comes in. Whatever gets somebody out, paid or slashed goes on.
contract PauseTest is MarketTest {
    bytes32 private constant ADMIN_ROLE = 0;

    address private immutable guard = vm.addr(0x6a);
    uint64 private miner;
    uint64 private coordinator;
    uint256 private minerKey;
    uint256 private key;

    function setUp() public override {
        super.setUp();
        bytes32 role = staking.PAUSER_ROLE();
        vm.prank(admin);
        staking.grantRole(role, guard);
        (minerKey, key) = (newKey(), newKey());
        miner = register(NodeKind.Miner, alice, minerKey);
        coordinator = register(NodeKind.Coordinator, bob, key);
        vote(alice, miner, MINER_MINIMUM);
        nextEpoch();
    }

    modifier paused() {
        vm.prank(guard);
        staking.pause();
        _;
    }

    function missing(address account, bytes32 role) private {
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role));
        vm.prank(account);
    }

    // --- who ---

    function test_only_pausers_pause_and_only_the_admin_unpauses() public {
        bytes32 role = staking.PAUSER_ROLE();
        missing(carol, role);
        staking.pause();
        missing(admin, role);
        staking.pause();
        vm.assertFalse(staking.paused());
        vm.prank(guard);
        staking.pause();
        vm.assertTrue(staking.paused());
        missing(guard, ADMIN_ROLE);
        staking.unpause();
        missing(carol, ADMIN_ROLE);
        staking.unpause();
        vm.prank(admin);
        staking.unpause();
        vm.assertFalse(staking.paused());
        vote(bob, miner, 1 ether);
    }

    // --- what stops ---

    function test_no_stake_comes_in() public paused {
        vm.deal(bob, 1 ether);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vm.prank(bob);
        staking.stake{value: 1 ether}();
    }

    function test_no_vote_is_cast() public {
        stake(bob, 1 ether);
        vm.prank(guard);
        staking.pause();
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vm.prank(bob);
        staking.vote(miner, 1 ether);
    }

    function test_no_node_registers() public paused {
        uint256 fresh = newKey();
        bytes memory consent = signConsent(fresh, carol, NodeKind.Miner, 0, block.timestamp);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vm.prank(carol);
        staking.registerMiner(vm.addr(fresh), profile(), 0, block.timestamp, consent);
        consent = signConsent(fresh, carol, NodeKind.Coordinator, 0, block.timestamp);
        vm.expectRevert(Pausable.EnforcedPause.selector);
        vm.prank(carol);
        staking.registerCoordinator(vm.addr(fresh), profile(), 0, block.timestamp, consent);
    }

    // --- what goes on ---

    function test_stake_gets_out() public paused {
        uint256 ticket = unvote(alice, miner, MINER_MINIMUM);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        vm.assertEq(staking.release(ticket), MINER_MINIMUM);
        vm.prank(alice);
        staking.withdraw(MINER_MINIMUM, payable(alice));
        vm.assertEq(alice.balance, MINER_MINIMUM);
    }

    function test_rewards_accrue_and_get_out() public paused {
        fundRewards(100 ether);
        setRewardRate(10 ether);
        sync(miner);
        reward(miner, 10 ether);
        nextEpoch();
        sync(miner);
        nextEpoch();
        vm.assertApproxEqAbs(claim(alice, miner), 20.5 ether, 1e4, "a gift, an epoch's part, and its next commission");
        uint64[] memory list = new uint64[](1);
        list[0] = miner;
        vm.prank(alice);
        staking.claimMany(list, payable(alice));
    }

    function test_owners_keep_their_say() public paused {
        uint256 fresh = newKey();
        bytes memory consent = signConsent(fresh, alice, NodeKind.Miner, 0, block.timestamp);
        vm.prank(alice);
        staking.rotateOperator(miner, vm.addr(fresh), block.timestamp, consent);
        vm.prank(alice);
        staking.setProfile(miner, profile());
        vm.prank(alice);
        staking.exit(miner);
    }

    function test_faults_are_slashed_and_takers_paid() public paused {
        slash(miner, 1000 ether, "e");
        vm.prank(wronged);
        staking.withdraw(300 ether, payable(wronged));
        vm.prank(reporter);
        staking.withdraw(200 ether, payable(reporter));
        vm.assertEq(wronged.balance + reporter.balance, 500 ether);
    }

    function test_work_is_paid_and_escrow_gets_out() public paused {
        vm.deal(bob, 10 ether);
        vm.prank(bob);
        payments.deposit{value: 10 ether}(coordinator);
        Voucher memory voucher = Voucher(coordinator, miner, 4 ether);
        payments.redeem(voucher, signVoucher(key, voucher));
        payments.collect(miner);
        vm.assertEq(alice.balance, 3.6 ether);
        voucher.cumulative = 5 ether;
        payments.redeem(voucher, signVoucher(key, voucher));
        vm.prank(alice);
        payments.collectTo(miner, payable(carol));
        vm.assertEq(carol.balance, 0.9 ether);
        vm.prank(bob);
        payments.requestWithdrawal(coordinator, 5 ether);
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.prank(bob);
        payments.withdrawEscrow(coordinator, payable(bob));
        vm.assertEq(bob.balance, 5 ether);
    }
}
