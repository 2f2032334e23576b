// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IPayments, Voucher} from "../src/IPayments.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Payments} from "../src/Payments.sol";
import {UnpaidVoucherVerifier} from "../src/UnpaidVoucherVerifier.sol";
import {Wallet} from "./support/Receivers.sol";
import {VerifierTest} from "./support/VerifierTest.sol";

contract UnpaidVoucherTest is VerifierTest {
    function demand(Voucher memory voucher) private {
        demand(voucher, signVoucher(coordinatorKey, voucher));
    }

    function demand(Voucher memory voucher, bytes memory signature) private {
        vm.prank(carol);
        unpaid.demand(voucher, signature);
    }

    function collect(Voucher memory voucher) private returns (uint256 fromEscrow, uint256 fromBond) {
        return collect(voucher, signVoucher(coordinatorKey, voucher));
    }

    function collect(Voucher memory voucher, bytes memory signature) private returns (uint256, uint256) {
        vm.prank(carol);
        return unpaid.collect(voucher, signature);
    }

    function waitNotice() private {
        vm.warp(block.timestamp + NOTICE);
    }

    function demandRefused(Voucher memory voucher, bytes memory reason) private {
        bytes memory signature = signVoucher(coordinatorKey, voucher);
        vm.expectRevert(reason);
        demand(voucher, signature);
        vm.assertEq(unpaid.collectableAt(voucher, signature), 0);
    }

    function collectRefused(Voucher memory voucher, bytes memory reason) private {
        bytes memory signature = signVoucher(coordinatorKey, voucher);
        uint256 stakeBefore = stakeOf(coordinator);
        uint256 redeemed = payments.redeemed(coordinator, miner);
        vm.expectRevert(reason);
        collect(voucher, signature);
        vm.assertEq(stakeOf(coordinator), stakeBefore);
        vm.assertEq(payments.redeemed(coordinator, miner), redeemed);
        vm.assertFalse(staking.evidenceUsed(unpaid.evidenceOf(coordinator, miner, redeemed)));
    }

    function demandRefusedSigner(Voucher memory voucher, bytes memory signature) private {
        vm.expectPartialRevert(IPayments.InvalidVoucherSigner.selector);
        demand(voucher, signature);
    }

    function exhausted(uint256 due) private view returns (bytes memory) {
        return abi.encodeWithSelector(UnpaidVoucherVerifier.BondExhausted.selector, coordinator, due);
    }

    /// @dev What a slash must take so that the wronged party's part is `due`.
    function slashFor(uint256 due) private view returns (uint256) {
        return (due * 10_000 + staking.wrongedBps() - 1) / staking.wrongedBps();
    }

    function earned() private view returns (uint256) {
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
        return toOwner + toStakers;
    }

    // --- the way of a demand ---

    function test_the_bond_pays_what_the_escrow_lacks() public {
        deposit(4 ether);
        Voucher memory voucher = owed(10 ether);
        vm.expectEmit(address(unpaid));
        emit UnpaidVoucherVerifier.Demanded(coordinator, miner, 10 ether, 10 ether, uint64(block.timestamp) + NOTICE);
        demand(voucher);
        waitNotice();
        vm.expectEmit(address(payments));
        emit IPayments.Redeemed(coordinator, miner, 4 ether, 10 ether);
        vm.expectEmit(address(staking));
        emit IStaking.Slashed(
            coordinator, unpaid.evidenceOf(coordinator, miner, 4 ether), address(unpaid), slashFor(6 ether), 0
        );
        vm.expectEmit(address(payments));
        emit IPayments.PaidFromBond(coordinator, miner, 6 ether);
        vm.expectEmit(address(unpaid));
        emit UnpaidVoucherVerifier.Collected(coordinator, miner, 4 ether, 6 ether);
        (uint256 fromEscrow, uint256 fromBond) = collect(voucher);
        vm.assertEq(fromEscrow, 4 ether);
        vm.assertEq(fromBond, 6 ether);
        vm.assertEq(payments.redeemed(coordinator, miner), 10 ether);
        vm.assertEq(earned(), 4 ether);
        vm.assertEq(stakeOf(coordinator), COORDINATOR_MINIMUM - slashFor(6 ether));
        // The owner is the reporter too.
        uint256 reporters = slashFor(6 ether) * REPORTER_BPS / 10_000;
        vm.assertEq(staking.freeStake(bob), 6 ether + reporters);
        vm.assertEq(staking.freeStake(carol), 0, "whoever sent it");
    }

    function test_a_voucher_pays_once() public {
        Voucher memory voucher = owed(10 ether);
        demand(voucher);
        waitNotice();
        collect(voucher);
        bytes memory nothing = abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 10 ether, 10 ether);
        collectRefused(voucher, nothing);
        demandRefusedAgain(voucher);
        deposit(10 ether);
        bytes memory signature = signVoucher(coordinatorKey, voucher);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingDue.selector, 10 ether, 10 ether));
        payments.redeem(voucher, signature);
        // The next voucher pays what it adds, from escrow as ever.
        signature = signVoucher(coordinatorKey, owed(11 ether));
        vm.assertEq(payments.redeem(owed(11 ether), signature), 1 ether);
    }

    function demandRefusedAgain(Voucher memory voucher) private {
        bytes memory signature = signVoucher(coordinatorKey, voucher);
        uint64 noticeEnds = unpaid.collectableAt(voucher, signature);
        vm.expectRevert(abi.encodeWithSelector(UnpaidVoucherVerifier.AlreadyDemanded.selector, noticeEnds));
        demand(voucher, signature);
        vm.assertEq(unpaid.collectableAt(voucher, signature), noticeEnds);
    }

    function test_no_demand_for_what_the_escrow_covers() public {
        deposit(10 ether);
        bytes memory covered =
            abi.encodeWithSelector(UnpaidVoucherVerifier.CoveredByEscrow.selector, 10 ether, 10 ether);
        demandRefused(owed(10 ether), covered);
        // Not while it is leaving either.
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 10 ether);
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        demandRefused(owed(10 ether), covered);
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
        demand(owed(10 ether));
    }

    function test_leaving_escrow_pays_before_the_bond() public {
        deposit(9 ether);
        demand(owed(10 ether));
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 9 ether);
        waitNotice();
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromEscrow, 9 ether);
        vm.assertEq(fromBond, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NoWithdrawalRequested.selector, coordinator));
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
    }

    function test_a_top_up_in_time_costs_no_stake() public {
        demand(owed(10 ether));
        vm.warp(block.timestamp + NOTICE - 1);
        deposit(10 ether);
        vm.warp(block.timestamp + 1);
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromEscrow, 10 ether);
        vm.assertEq(fromBond, 0);
        vm.assertEq(stakeOf(coordinator), COORDINATOR_MINIMUM);
        vm.assertFalse(staking.evidenceUsed(unpaid.evidenceOf(coordinator, miner, 10 ether)));
    }

    function test_a_redemption_in_time_ends_it() public {
        demand(owed(10 ether));
        deposit(10 ether);
        // By whoever; the escrow may be gone later.
        payments.redeem(owed(10 ether), signVoucher(coordinatorKey, owed(10 ether)));
        waitNotice();
        collectRefused(
            owed(10 ether), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 10 ether, 10 ether)
        );
    }

    function test_half_a_top_up_costs_half() public {
        demand(owed(10 ether));
        deposit(5 ether);
        payments.redeem(owed(10 ether), signVoucher(coordinatorKey, owed(10 ether)));
        deposit(1 ether);
        waitNotice();
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromEscrow, 1 ether);
        vm.assertEq(fromBond, 4 ether);
    }

    function test_not_before_the_notice_is_over() public {
        uint64 noticeEnds = uint64(block.timestamp) + NOTICE;
        collectRefused(owed(1 ether), abi.encodeWithSelector(UnpaidVoucherVerifier.NotDemanded.selector));
        demand(owed(1 ether));
        bytes memory running = abi.encodeWithSelector(UnpaidVoucherVerifier.NoticeRunning.selector, noticeEnds);
        collectRefused(owed(1 ether), running);
        vm.warp(noticeEnds - 1);
        collectRefused(owed(1 ether), running);
        vm.warp(noticeEnds);
        collect(owed(1 ether));
    }

    // --- nobody restarts or blocks one ---

    function test_demanding_again_does_not_restart_the_notice() public {
        demand(owed(10 ether));
        vm.warp(block.timestamp + NOTICE / 2);
        demandRefusedAgain(owed(10 ether));
    }

    function test_small_vouchers_are_in_no_ones_way() public {
        // An old one of the miner's, and one that the coordinator makes up.
        demand(owed(1 ether));
        vm.warp(block.timestamp + 1);
        demand(owed(10 ether));
        demand(owed(1 ether + 1));
        waitNotice();
        (, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromBond, 10 ether, "in whatever order");
        collectRefused(
            owed(1 ether), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 1 ether, 10 ether)
        );
    }

    function test_demands_of_a_pair_never_add_up() public {
        demand(owed(1 ether));
        demand(owed(10 ether));
        waitNotice();
        collect(owed(1 ether));
        (, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromBond, 9 ether);
        vm.assertEq(payments.redeemed(coordinator, miner), 10 ether);
    }

    function test_a_signature_that_was_not_demanded_collects_nothing() public {
        deposit(1 ether);
        demand(owed(10 ether));
        waitNotice();
        bytes memory reason = abi.encodeWithSelector(UnpaidVoucherVerifier.NotDemanded.selector);
        // Valid or not: with an invalid one the escrow would be passed over.
        bytes memory signature = mirrored(signVoucher(coordinatorKey, owed(10 ether)));
        vm.expectRevert(reason);
        collect(owed(10 ether), signature);
        vm.expectRevert(reason);
        collect(owed(10 ether), "");
        collectRefused(owed(11 ether), reason);
    }

    // --- bad vouchers ---

    function test_nothing_due() public {
        demandRefused(owed(0), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 0, 0));
        deposit(3 ether);
        payments.redeem(owed(2 ether), signVoucher(coordinatorKey, owed(2 ether)));
        demandRefused(
            owed(2 ether), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 2 ether, 2 ether)
        );
        demandRefused(owed(1), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 1, 2 ether));
    }

    function test_other_signers() public {
        Voucher memory voucher = owed(10 ether);
        demandRefusedSigner(voucher, signVoucher(newKey(), voucher));
        demandRefusedSigner(voucher, signVoucher(minerKey, voucher));
        uint256 other = newKey();
        register(NodeKind.Coordinator, carol, other);
        demandRefusedSigner(voucher, signVoucher(other, voucher));
        demandRefusedSigner(voucher, signVoucher(coordinatorKey, owed(9 ether)));
        demandRefusedSigner(voucher, mirrored(signVoucher(coordinatorKey, voucher)));
        demandRefusedSigner(voucher, "");
        demandRefusedSigner(voucher, new bytes(65));
        demandRefusedSigner(voucher, bytes.concat(signVoucher(coordinatorKey, voucher), hex"00"));
    }

    function test_signatures_for_another_chain_or_contract() public {
        Voucher memory voucher = owed(10 ether);
        bytes32 digest = voucherDigest(voucher, block.chainid + 1, address(payments));
        demandRefusedSigner(voucher, signature(coordinatorKey, digest));
        digest = voucherDigest(voucher, block.chainid, address(staking));
        demandRefusedSigner(voucher, signature(coordinatorKey, digest));
        digest = voucherDigest(voucher, block.chainid, address(unpaid));
        demandRefusedSigner(voucher, signature(coordinatorKey, digest));
    }

    function test_only_coordinators_owe_only_miners() public {
        Voucher memory voucher = owed(1 ether);
        (voucher.coordinator, voucher.miner) = (miner, miner);
        bytes memory signature = signVoucher(minerKey, voucher);
        vm.expectRevert(abi.encodeWithSelector(UnpaidVoucherVerifier.NotCoordinator.selector, miner));
        demand(voucher, signature);
        voucher.coordinator = 0;
        vm.expectRevert(abi.encodeWithSelector(UnpaidVoucherVerifier.NotCoordinator.selector, 0));
        demand(voucher, signature);
        (voucher.coordinator, voucher.miner) = (coordinator, coordinator);
        demandRefused(voucher, abi.encodeWithSelector(UnpaidVoucherVerifier.NotMiner.selector, coordinator));
        voucher.miner = 77;
        demandRefused(voucher, abi.encodeWithSelector(UnpaidVoucherVerifier.NotMiner.selector, 77));
    }

    // --- rotated keys ---

    function test_a_rotated_key_answers_while_it_is_accountable() public {
        rotate(coordinator, NodeKind.Coordinator, alice);
        vm.warp(block.timestamp + UNBONDING - NOTICE - 1);
        demand(owed(10 ether));
        waitNotice();
        deposit(4 ether);
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromEscrow, 4 ether);
        vm.assertEq(fromBond, 6 ether);
    }

    function test_no_demand_with_a_key_that_is_accountable_no_more() public {
        rotate(coordinator, NodeKind.Coordinator, alice);
        vm.warp(block.timestamp + UNBONDING);
        demandRefusedSigner(owed(10 ether), signVoucher(coordinatorKey, owed(10 ether)));
    }

    /// @dev Else a coordinator could rotate its key, wait, and refill its escrow when the voucher cannot be redeemed.
    function test_a_demand_outlives_its_key() public {
        uint256 next = rotate(coordinator, NodeKind.Coordinator, alice);
        vm.warp(block.timestamp + UNBONDING - 1);
        demand(owed(10 ether));
        waitNotice();
        deposit(10 ether);
        bytes memory signature = signVoucher(coordinatorKey, owed(10 ether));
        vm.expectPartialRevert(IPayments.InvalidVoucherSigner.selector);
        payments.redeem(owed(10 ether), signature);
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromEscrow, 0);
        vm.assertEq(fromBond, 10 ether);
        signature = signVoucher(next, owed(10 ether));
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingDue.selector, 10 ether, 10 ether));
        payments.redeem(owed(10 ether), signature);
    }

    function test_the_next_key_pays_a_demand_in_time() public {
        uint256 next = rotate(coordinator, NodeKind.Coordinator, alice);
        vm.warp(block.timestamp + UNBONDING - 1);
        demand(owed(10 ether));
        deposit(10 ether);
        vm.warp(block.timestamp + 1);
        payments.redeem(owed(10 ether), signVoucher(next, owed(10 ether)));
        waitNotice();
        collectRefused(
            owed(10 ether), abi.encodeWithSelector(UnpaidVoucherVerifier.NothingDue.selector, 10 ether, 10 ether)
        );
    }

    // --- what the bond reaches ---

    function test_an_exited_coordinator_whose_stake_is_unbonding() public {
        (uint256 shares,) = staking.voteOf(coordinator, alice);
        unvote(alice, coordinator, shares);
        vm.prank(alice);
        staking.exit(coordinator);
        demand(owed(10 ether));
        waitNotice();
        (, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromBond, 10 ether);
    }

    function test_stake_bound_at_the_demand_is_there_at_the_end_of_the_notice() public {
        demand(owed(10 ether));
        (uint256 shares,) = staking.voteOf(coordinator, alice);
        uint256 ticket = unvote(alice, coordinator, shares);
        waitNotice();
        vm.expectPartialRevert(IStaking.StillUnbonding.selector);
        vm.prank(alice);
        staking.release(ticket);
        (, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromBond, 10 ether);
    }

    function test_released_stake_is_out_of_reach_until_it_comes_back() public {
        (uint256 shares,) = staking.voteOf(coordinator, alice);
        uint256 ticket = unvote(alice, coordinator, shares);
        demand(owed(10 ether));
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        staking.release(ticket);
        collectRefused(owed(10 ether), exhausted(10 ether));
        vm.prank(alice);
        staking.vote(coordinator, 100 ether);
        (, uint256 fromBond) = collect(owed(10 ether));
        vm.assertEq(fromBond, 10 ether);
    }

    function test_what_the_bond_lacks_stays_due() public {
        uint256 due = COORDINATOR_MINIMUM;
        demand(owed(due));
        waitNotice();
        (, uint256 fromBond) = collect(owed(due));
        vm.assertEq(fromBond, COORDINATOR_MINIMUM * staking.wrongedBps() / 10_000, "all there is");
        vm.assertEq(stakeOf(coordinator), 0);
        collectRefused(owed(due), exhausted(due - fromBond));

        // Escrow pays first, a new bond the rest.
        deposit(1 ether);
        uint256 fromEscrow;
        vote(alice, coordinator, 100 ether);
        (fromEscrow, fromBond) = collect(owed(due));
        vm.assertEq(fromEscrow, 1 ether);
        vm.assertEq(fromBond, 30 ether);
    }

    function test_others_votes_pay_nobody() public {
        // A pool of which the owner has a hundredth.
        vote(carol, coordinator, 99 * COORDINATOR_MINIMUM);
        demand(owed(100 ether));
        waitNotice();
        (, uint256 fromBond) = collect(owed(100 ether));
        uint256 taken = slashFor(100 ether);
        uint256 cap = taken / 100;
        vm.assertApproxEqAbs(fromBond, cap * 3 / 5, 2, "wronged party's part of what the owner lost");
        vm.assertEq(payments.redeemed(coordinator, miner), fromBond);
        (, uint256 again) = collect(owed(100 ether));
        vm.assertGe(again, 1, "and again, for the rest");
        vm.assertEq(payments.redeemed(coordinator, miner), fromBond + again);
    }

    function test_an_owner_without_stake_has_no_bond() public {
        (uint256 shares,) = staking.voteOf(coordinator, alice);
        uint256 ticket = unvote(alice, coordinator, shares);
        vote(carol, coordinator, COORDINATOR_MINIMUM);
        vm.warp(block.timestamp + UNBONDING);
        vm.prank(alice);
        staking.release(ticket);
        demand(owed(10 ether));
        waitNotice();
        collectRefused(owed(10 ether), exhausted(10 ether));
    }

    function test_the_most_and_the_least() public {
        demand(owed(type(uint256).max));
        demand(owed(1));
        waitNotice();
        (, uint256 fromBond) = collect(owed(1));
        vm.assertEq(fromBond, 1);
        vm.assertEq(stakeOf(coordinator), COORDINATOR_MINIMUM - slashFor(1));
        (, fromBond) = collect(owed(type(uint256).max));
        vm.assertEq(fromBond, (COORDINATOR_MINIMUM - slashFor(1)) * staking.wrongedBps() / 10_000);
    }

    function testFuzz_the_owner_is_credited_exactly_what_is_due(uint256 cumulative, uint256 escrow, uint256 redeemed)
        public
    {
        uint256 most = COORDINATOR_MINIMUM * staking.wrongedBps() / 10_000;
        cumulative = bound(cumulative, 2, most);
        redeemed = bound(redeemed, 0, cumulative - 2);
        if (redeemed != 0) {
            deposit(redeemed);
            payments.redeem(owed(redeemed), signVoucher(coordinatorKey, owed(redeemed)));
        }
        escrow = bound(escrow, 1, cumulative - redeemed - 1);
        deposit(escrow);
        demand(owed(cumulative));
        waitNotice();
        (uint256 fromEscrow, uint256 fromBond) = collect(owed(cumulative));
        vm.assertEq(fromEscrow, escrow);
        vm.assertEq(fromBond, cumulative - redeemed - escrow);
        vm.assertEq(payments.redeemed(coordinator, miner), cumulative);
        uint256 reporters = slashFor(fromBond) * REPORTER_BPS / 10_000;
        vm.assertEq(staking.freeStake(bob), fromBond + reporters);
    }

    function test_an_owner_who_refuses_money_blocks_nothing() public {
        Wallet wallet = new Wallet();
        wallet.setAccepts(false);
        Voucher memory voucher = owed(10 ether);
        voucher.miner = register(NodeKind.Miner, address(wallet), newKey());
        deposit(4 ether);
        demand(voucher);
        waitNotice();
        (uint256 fromEscrow, uint256 fromBond) = collect(voucher);
        vm.assertEq(fromEscrow + fromBond, 10 ether);
    }

    // --- deployment ---

    function test_without_the_role() public {
        unpaid = new UnpaidVoucherVerifier(payments, NOTICE);
        demand(owed(10 ether));
        waitNotice();
        collectRefused(
            owed(10 ether),
            abi.encodeWithSelector(
                IAccessControl.AccessControlUnauthorizedAccount.selector, address(unpaid), staking.VERIFIER_ROLE()
            )
        );
    }

    function test_bounds() public {
        new UnpaidVoucherVerifier(payments, 1);
        new UnpaidVoucherVerifier(payments, UNBONDING - 1);
        bytes memory notice = abi.encodeWithSelector(UnpaidVoucherVerifier.InvalidConfig.selector, "noticePeriod");
        vm.expectRevert(notice);
        new UnpaidVoucherVerifier(payments, 0);
        vm.expectRevert(notice);
        new UnpaidVoucherVerifier(payments, UNBONDING);
        vm.expectRevert(notice);
        new UnpaidVoucherVerifier(payments, type(uint64).max);
        vm.expectRevert(abi.encodeWithSelector(UnpaidVoucherVerifier.InvalidConfig.selector, "payments"));
        new UnpaidVoucherVerifier(Payments(alice), NOTICE);
    }
}
