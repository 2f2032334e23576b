// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IPayments, Voucher} from "../src/IPayments.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Receipt} from "../src/Receipts.sol";
import {VerifierTest} from "./support/VerifierTest.sol";

/// @notice A market that was handed over: OpenZeppelin's timelock is the only admin, a guardian can pause, and the account
/// that deployed it all can do nothing any more.
contract GovernanceTest is VerifierTest {
    uint256 private constant DELAY = 3 days;

    address private immutable council = vm.addr(0xc0);
    address private immutable guardian = vm.addr(0x9a);
    TimelockController private timelock;
    bytes32 private adminRole;
    bytes32 private verifierRole;
    bytes32 private pauserRole;

    function setUp() public override {
        super.setUp();
        address[] memory proposers = new address[](1);
        address[] memory executors = new address[](1);
        // Executor 0: anyone may carry out what has waited.
        (proposers[0], executors[0]) = (council, address(0));
        timelock = new TimelockController(DELAY, proposers, executors, address(0));
        (adminRole, verifierRole, pauserRole) =
        (staking.DEFAULT_ADMIN_ROLE(), staking.VERIFIER_ROLE(), staking.PAUSER_ROLE());

        vm.prank(admin);
        staking.grantRole(pauserRole, guardian);
        vm.prank(admin);
        staking.grantRole(adminRole, address(timelock));
        vm.prank(admin);
        staking.renounceRole(adminRole, admin);
    }

    function unauthorized(address account, bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role);
    }

    function schedule(bytes memory call_) private {
        vm.prank(council);
        timelock.schedule(address(staking), 0, call_, 0, 0, DELAY);
    }

    function execute(bytes memory call_) private {
        vm.prank(carol);
        timelock.execute(address(staking), 0, call_, 0, 0);
    }

    /// @dev Not by anyone directly, not unscheduled, not early; then it works, once.
    function onlyThroughTheTimelock(bytes memory call_) private {
        address[4] memory callers = [admin, council, guardian, carol];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.prank(callers[i]);
            (bool ok, bytes memory reason) = address(staking).call(call_);
            vm.assertFalse(ok);
            vm.assertEq(reason, unauthorized(callers[i], adminRole));
        }
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        execute(call_);
        vm.expectRevert(unauthorized(carol, timelock.PROPOSER_ROLE()));
        vm.prank(carol);
        timelock.schedule(address(staking), 0, call_, 0, 0, DELAY);
        vm.expectRevert(abi.encodeWithSelector(TimelockController.TimelockInsufficientDelay.selector, DELAY - 1, DELAY));
        vm.prank(council);
        timelock.schedule(address(staking), 0, call_, 0, 0, DELAY - 1);
        schedule(call_);
        vm.warp(block.timestamp + DELAY - 1);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        execute(call_);
        vm.warp(block.timestamp + 1);
        execute(call_);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        execute(call_);
    }

    function pause() private {
        vm.prank(guardian);
        staking.pause();
    }

    // --- the timelock ---

    function test_naming_a_verifier() public {
        vm.assertFalse(staking.hasRole(verifierRole, carol));
        onlyThroughTheTimelock(abi.encodeCall(IAccessControl.grantRole, (verifierRole, carol)));
        vm.prank(carol);
        (uint256 taken,) = staking.slash(miner, 1 ether, "e", reporter, wronged);
        vm.assertEq(taken, 1 ether);
    }

    function test_dismissing_a_verifier() public {
        slash(miner, 1 ether, "e");
        onlyThroughTheTimelock(abi.encodeCall(IAccessControl.revokeRole, (verifierRole, verifier)));
        vm.expectRevert(unauthorized(verifier, verifierRole));
        vm.prank(verifier);
        staking.slash(miner, 1 ether, "f", reporter, wronged);
    }

    function test_setting_the_rate_of_rewards() public {
        onlyThroughTheTimelock(abi.encodeCall(IStaking.setRewardRate, (5 ether)));
        vm.assertEq(staking.rewardPerEpoch(), 5 ether);
    }

    function test_ending_a_pause() public {
        pause();
        onlyThroughTheTimelock(abi.encodeCall(IStaking.unpause, ()));
        vm.assertFalse(staking.paused());
        stake(carol, 1 ether);
    }

    function test_naming_another_admin_or_guardian() public {
        onlyThroughTheTimelock(abi.encodeCall(IAccessControl.grantRole, (pauserRole, carol)));
        onlyThroughTheTimelock(abi.encodeCall(IAccessControl.grantRole, (adminRole, carol)));
        vm.prank(carol);
        staking.setRewardRate(1);
    }

    function test_what_was_called_off_does_not_happen() public {
        bytes memory call_ = abi.encodeCall(IStaking.setRewardRate, (5 ether));
        schedule(call_);
        bytes32 id = timelock.hashOperation(address(staking), 0, call_, 0, 0);
        vm.prank(council);
        timelock.cancel(id);
        vm.warp(block.timestamp + DELAY);
        vm.expectPartialRevert(TimelockController.TimelockUnexpectedOperationState.selector);
        execute(call_);
    }

    function test_the_timelock_governs_itself() public {
        bytes memory call_ = abi.encodeCall(TimelockController.updateDelay, (1));
        vm.expectRevert(abi.encodeWithSelector(TimelockController.TimelockUnauthorizedCaller.selector, council));
        vm.prank(council);
        timelock.updateDelay(1);
        vm.prank(council);
        timelock.schedule(address(timelock), 0, call_, 0, 0, DELAY);
        vm.warp(block.timestamp + DELAY);
        timelock.execute(address(timelock), 0, call_, 0, 0);
        vm.assertEq(timelock.getMinDelay(), 1);
    }

    // --- the guardian ---

    function test_the_guardian_pauses_at_once_and_cannot_unpause() public {
        pause();
        vm.assertTrue(staking.paused());
        vm.expectRevert(unauthorized(guardian, adminRole));
        vm.prank(guardian);
        staking.unpause();
        vm.expectRevert(unauthorized(guardian, verifierRole));
        vm.prank(guardian);
        staking.slash(miner, 1, "e", reporter, wronged);
        vm.expectRevert(unauthorized(council, pauserRole));
        vm.prank(council);
        staking.pause();
    }

    function test_a_pause_stops_entries() public {
        stake(carol, 10 ether);
        pause();
        bytes memory paused = abi.encodeWithSelector(Pausable.EnforcedPause.selector);
        vm.deal(carol, 1 ether);
        vm.expectRevert(paused);
        vm.prank(carol);
        staking.stake{value: 1 ether}();
        vm.expectRevert(paused);
        vm.prank(carol);
        staking.vote(miner, 1 ether);
        uint256 key = newKey();
        bytes memory consent = signConsent(key, carol, NodeKind.Miner, 0, block.timestamp);
        vm.expectRevert(paused);
        vm.prank(carol);
        staking.registerMiner(vm.addr(key), profile(), 0, block.timestamp, consent);
        consent = signConsent(key, carol, NodeKind.Coordinator, 0, block.timestamp);
        vm.expectRevert(paused);
        vm.prank(carol);
        staking.registerCoordinator(vm.addr(key), profile(), 0, block.timestamp, consent);
    }

    // --- a paused market lets everybody out ---

    function test_stake_and_rewards_come_out_of_a_paused_market() public {
        uint256 shares = vote(carol, miner, 10 ether);
        uint256 early = unvote(carol, miner, shares / 2);
        vm.deal(address(this), 1 ether);
        staking.reward{value: 1 ether}(miner);
        pause();
        uint256 ticket = unvote(carol, miner, shares - shares / 2);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(carol);
        staking.release(early);
        vm.prank(carol);
        staking.release(ticket);
        vm.prank(carol);
        staking.withdraw(10 ether, payable(carol));
        vm.assertEq(carol.balance, 10 ether);
        vm.prank(bob);
        uint256 earned = staking.claim(miner, payable(bob));
        vm.assertGe(earned, 0.9 ether, "the only vote that was left to earn it");
        uint64[] memory both = new uint64[](2);
        (both[0], both[1]) = (miner, coordinator);
        vm.prank(alice);
        staking.claimMany(both, payable(alice));
    }

    function test_nodes_leave_a_paused_market() public {
        pause();
        vm.prank(bob);
        staking.exit(miner);
        (uint256 shares,) = staking.voteOf(miner, bob);
        uint256 ticket = unvote(bob, miner, shares);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(bob);
        vm.assertEq(staking.release(ticket), MINER_MINIMUM);
    }

    function test_a_key_can_be_replaced_while_paused() public {
        pause();
        uint256 key = rotate(miner, NodeKind.Miner, bob);
        (uint64 node,) = staking.nodeOfOperator(vm.addr(key));
        vm.assertEq(node, miner);
    }

    function test_payments_go_on_in_a_paused_market() public {
        deposit(10 ether);
        pause();
        payments.redeem(owed(4 ether), signVoucher(coordinatorKey, owed(4 ether)));
        payments.collect(miner);
        vm.assertEq(bob.balance, 4 ether * uint256(10_000 - STAKERS_BPS) / 10_000);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 6 ether);
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.prank(alice);
        vm.assertEq(payments.withdrawEscrow(coordinator, payable(alice)), 6 ether);
    }

    function test_faults_cost_stake_in_a_paused_market() public {
        pause();
        Receipt memory one = receiptOf("lease", "one");
        Receipt memory other = receiptOf("lease", "other");
        uint256 taken = equivocation.report(one, signReceipt(minerKey, one), other, signReceipt(minerKey, other));
        vm.assertEq(taken, PENALTY);
        Voucher memory voucher = owed(10 ether);
        unpaid.demand(voucher, signVoucher(coordinatorKey, voucher));
        vm.warp(block.timestamp + NOTICE);
        (, uint256 fromBond) = unpaid.collect(voucher, signVoucher(coordinatorKey, voucher));
        vm.assertEq(fromBond, 10 ether);
    }

    /// @dev What the admin of `Staking` could do to `Payments` is what a verifier can: it has no other part in it.
    function test_bond_payments_are_noted_by_verifiers_alone() public {
        address[3] memory callers = [address(timelock), guardian, admin];
        for (uint256 i = 0; i < callers.length; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IPayments.NotVerifier.selector, callers[i]));
            vm.prank(callers[i]);
            payments.noteBondPayment(coordinator, miner, 1);
        }
    }
}
