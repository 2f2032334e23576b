// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CourtConfig, IDisputeCourt, Outcome} from "../src/IDisputeCourt.sol";
import {IStaking} from "../src/IStaking.sol";
import {CourtTest, OpenCourt} from "./support/CourtTest.sol";
import {Hostile, Reenterer, Wallet} from "./support/Receivers.sol";

/// @notice Who is slashed, and the ways of the money.
contract PunishmentTest is CourtTest {
    function absence(uint256 dispute, uint64 juror) private view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(court), dispute, juror));
    }

    function revoke() private {
        bytes32 role = staking.VERIFIER_ROLE();
        vm.prank(admin);
        staking.revokeRole(role, address(court));
    }

    // --- absence ---

    function test_who_reveals_nothing_is_slashed_and_all_of_it_burnt() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = drawn();
        for (uint256 i = 0; i < 4; ++i) {
            commit(dispute, jury[i], TRUTH);
        }
        pass(court.disputeOf(dispute).deadline);
        for (uint256 i = 0; i < 3; ++i) {
            court.reveal(dispute, jury[i], TRUTH, SALT);
        }
        pass(court.disputeOf(dispute).revealDeadline);
        vm.prank(reporter);
        court.finish(dispute);
        for (uint256 i = 0; i < JURY; ++i) {
            bool absent = i >= 3;
            vm.assertEq(staking.activePool(jury[i]).amount, MINER_MINIMUM - (absent ? ABSENCE : 0), "pool");
            vm.assertEq(staking.evidenceUsed(absence(dispute, jury[i])), absent);
        }
        vm.assertEq(staking.freeStake(reporter), 0, "nothing for who finishes");
        vm.assertEq(staking.freeStake(staking.BURNT()), PENALTY * BURN_BPS / 10_000 + 2 * ABSENCE, "burnt");
    }

    function test_an_absent_juror_without_stake_is_slashed_nothing() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = drawn();
        address owner = ownerOf(jury[0]);
        (uint256 shares,) = staking.voteOf(jury[0], owner);
        uint256 ticket = unvote(owner, jury[0], shares);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(owner);
        staking.release(ticket);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Punished(dispute, jury[0], 0);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Undecided);
    }

    // --- the verdict's slash ---

    function test_a_penalty_above_the_pools_takes_what_is_there() public {
        uint256 dispute = open(receipt());
        slash(accused, MINER_MINIMUM - 5, "before");
        pass(court.disputeOf(dispute).deadline);
        vm.expectEmit(address(court));
        emit IDisputeCourt.Punished(dispute, accused, 5);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
    }

    function test_stake_that_leaves_when_accused_is_still_there() public {
        enlistJurors(JURY);
        uint256 dispute = open(receipt());
        (uint256 shares,) = staking.voteOf(accused, alice);
        uint256 ticket = unvote(alice, accused, shares);
        vm.warp(block.timestamp + ANSWER_TIME - 1);
        answer(dispute);
        vm.warp(block.timestamp + DRAW_TIME - 1);
        uint64[] memory jury = draw(dispute);
        vm.warp(block.timestamp + COMMIT_TIME - 1);
        for (uint256 i = 0; i < JURY; ++i) {
            commit(dispute, jury[i], TRUTH);
        }
        vm.warp(block.timestamp + REVEAL_TIME - 1);
        for (uint256 i = 0; i < JURY; ++i) {
            court.reveal(dispute, jury[i], TRUTH, SALT);
        }
        (,,, uint64 unlocksAt) = staking.ticketOf(ticket);
        vm.assertTrue(block.timestamp < unlocksAt);
        court.finish(dispute);
        vm.assertEq(staking.unbondingPool(accused).amount, MINER_MINIMUM - PENALTY);
    }

    function test_evidence_that_another_verifier_used_meanwhile_slashes_once() public {
        uint256 dispute = open(receipt());
        slash(accused, 1 ether, digestOf(receipt()));
        pass(court.disputeOf(dispute).deadline);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - 1 ether);
        vm.assertEq(court.creditOf(bob), BOND);
        court.punish(dispute);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - 1 ether);
    }

    function test_without_the_role_bonds_return_and_the_slash_waits() public {
        enlistJurors(JURY);
        (uint256 dispute, uint64[] memory jury) = drawn();
        poll(dispute, jury, votes(TRUTH, TRUTH, TRUTH));
        revoke();
        bytes memory reason = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, address(court), staking.VERIFIER_ROLE()
        );
        vm.expectEmit(address(court));
        emit IDisputeCourt.PunishmentRefused(dispute, accused, reason);
        court.finish(dispute);
        assertOutcome(dispute, Outcome.Convicted);
        vm.assertEq(court.creditOf(bob), 2 * BOND - 3 * FEE);
        vm.assertFalse(staking.evidenceUsed(digestOf(receipt())));
        court.punish(dispute);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM, "still refused");

        authorise(address(court));
        vm.prank(wronged);
        court.punish(dispute);
        court.punish(dispute);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - PENALTY, "once");
        vm.assertEq(staking.activePool(jury[4]).amount, MINER_MINIMUM - ABSENCE, "once");
        vm.assertEq(staking.freeStake(bob), PENALTY * REPORTER_BPS / 10_000, "still the challenger's");
        vm.assertEq(court.creditOf(bob), 2 * BOND - 3 * FEE);
    }

    function test_nothing_to_punish_before_the_end() public {
        uint256 dispute = open(receipt());
        vm.expectPartialRevert(IDisputeCourt.WrongPhase.selector);
        court.punish(dispute);
        vm.expectPartialRevert(IDisputeCourt.WrongPhase.selector);
        court.punish(99);
    }

    function test_punishing_an_acquittal_does_nothing() public {
        enlistJurors(JURY);
        (uint256 dispute,) = judged(votes(CLAIMED, CLAIMED, CLAIMED, CLAIMED, CLAIMED));
        court.punish(dispute);
        vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM);
    }

    /// @dev With any amount of gas a default is finished with its slash, or not at all.
    function test_too_little_gas_spares_nobody() public {
        uint256 dispute = open(receipt());
        pass(court.disputeOf(dispute).deadline);
        (uint256 finished, uint256 refused) = (0, 0);
        for (uint256 gas = 50_000; gas < 350_000; gas += 500) {
            uint256 snapshot = vm.snapshotState();
            try court.finish{gas: gas}(dispute) {
                ++finished;
                vm.assertEq(staking.activePool(accused).amount, MINER_MINIMUM - PENALTY, "finished without the slash");
            } catch (bytes memory reason) {
                if (bytes4(reason) == IDisputeCourt.OutOfGas.selector) ++refused;
            }
            vm.revertToState(snapshot);
        }
        vm.assertTrue(finished != 0, "never enough");
        vm.assertTrue(refused != 0, "no slash ran out");
    }

    // --- money ---

    function test_withdraw() public {
        uint256 dispute = open(receipt());
        pass(court.disputeOf(dispute).deadline);
        court.finish(dispute);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NothingToWithdraw.selector, erin));
        vm.prank(erin);
        court.withdraw(payable(erin));
        vm.expectRevert(IDisputeCourt.ZeroAddress.selector);
        vm.prank(bob);
        court.withdraw(payable(0));
        vm.expectEmit(address(court));
        emit IDisputeCourt.Withdrawn(bob, wronged, BOND);
        vm.prank(bob);
        vm.assertEq(court.withdraw(payable(wronged)), BOND);
        vm.assertEq(wronged.balance, BOND);
        vm.assertEq(address(court).balance, 0);
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.NothingToWithdraw.selector, bob));
        vm.prank(bob);
        court.withdraw(payable(bob));
    }

    /// @dev A dispute of a contract as challenger, convicted by default.
    function wonBy(Wallet wallet) private returns (uint256 dispute) {
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        vm.deal(address(wallet), BOND);
        bytes memory opening = abi.encodeCall(IDisputeCourt.open, (receipt(), signed, URI));
        wallet.run(address(court), BOND, opening);
        dispute = court.disputeCount();
        pass(court.disputeOf(dispute).deadline);
        court.finish(dispute);
        vm.assertEq(court.creditOf(address(wallet)), BOND);
    }

    function test_who_refuses_money_blocks_nothing_and_loses_nothing() public {
        Wallet[3] memory refusing = [new Wallet(), new Hostile(false), new Hostile(true)];
        refusing[0].setAccepts(false);
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < refusing.length; ++i) {
            wonBy(refusing[i]);
            vm.expectPartialRevert(IDisputeCourt.TransferFailed.selector);
            refusing[i].run(address(court), 0, abi.encodeCall(IDisputeCourt.withdraw, (payable(address(refusing[i])))));
            vm.assertEq(court.creditOf(address(refusing[i])), BOND);
            refusing[i].run(address(court), 0, abi.encodeCall(IDisputeCourt.withdraw, (payable(wronged))));
            vm.assertEq(wronged.balance, BOND);
            vm.revertToState(snapshot);
        }
    }

    function test_no_way_back_in_while_paying() public {
        Reenterer reenterer = new Reenterer();
        uint256 dispute = wonBy(reenterer);
        bytes[5] memory calls = [
            abi.encodeCall(IDisputeCourt.withdraw, (payable(address(reenterer)))),
            abi.encodeCall(IDisputeCourt.finish, (dispute)),
            abi.encodeCall(IDisputeCourt.punish, (dispute)),
            abi.encodeCall(IDisputeCourt.answer, (dispute)),
            abi.encodeCall(IDisputeCourt.draw, (dispute))
        ];
        uint256 snapshot = vm.snapshotState();
        for (uint256 i = 0; i < calls.length; ++i) {
            reenterer.onReceive(address(court), calls[i]);
            reenterer.run(address(court), 0, abi.encodeCall(IDisputeCourt.withdraw, (payable(address(reenterer)))));
            vm.assertEq(reenterer.entered(), 1, "called back");
            vm.assertFalse(reenterer.succeeded());
            bytes memory guarded =
                abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
            vm.assertEq(reenterer.failure(), guarded);
            vm.assertEq(address(reenterer).balance, BOND);
            vm.revertToState(snapshot);
        }
    }

    function test_the_court_takes_no_other_money() public {
        (bool ok,) = address(court).call{value: 1}("");
        vm.assertFalse(ok);
    }

    /// @dev Fees that do not divide by two, and a bond that is all fees.
    function testFuzz_every_wei_of_the_bonds_is_credited(uint256 fee, uint256 cast, uint256 present) public {
        CourtConfig memory c = courtConfig();
        c.juryFee = bound(fee, 1, 200 ether);
        c.bond = JURY * c.juryFee;
        court = new OpenCourt(staking, c);
        authorise(address(court));
        enlistJurors(JURY);
        bytes memory signed = signature(accusedKey, digestOf(receipt()));
        vm.prank(bob);
        uint256 dispute = court.open{value: c.bond}(receipt(), signed, URI);
        vm.prank(erin);
        court.answer{value: c.bond}(dispute);
        bytes32[4] memory choices = [bytes32(0), CLAIMED, TRUTH, "another"];
        bytes32[] memory list = new bytes32[](present % (JURY + 1));
        for (uint256 i = 0; i < list.length; ++i) {
            list[i] = choices[cast >> 2 * i & 3];
        }
        uint64[] memory jury = draw(dispute);
        poll(dispute, jury, list);
        court.finish(dispute);
        uint256 sum = court.creditOf(bob) + court.creditOf(erin);
        for (uint256 i = 0; i < jury.length; ++i) {
            sum += court.creditOf(ownerOf(jury[i]));
        }
        vm.assertEq(sum, 2 * c.bond, "credits");
        vm.assertEq(address(court).balance, 2 * c.bond, "balance");
    }
}
