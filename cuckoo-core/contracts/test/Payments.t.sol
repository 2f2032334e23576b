// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IPayments, Voucher} from "../src/IPayments.sol";
import {IStaking, NodeKind} from "../src/IStaking.sol";
import {Payments} from "../src/Payments.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {Hostile, Reenterer, Wallet} from "./support/Receivers.sol";

contract PaymentsTest is MarketTest {
    uint256 private key;
    uint64 private coordinator;
    uint64 private miner;

    function setUp() public override {
        super.setUp();
        key = newKey();
        coordinator = register(NodeKind.Coordinator, alice, key);
        miner = register(NodeKind.Miner, bob, newKey());
    }

    function voucher(uint256 cumulative) private view returns (Voucher memory) {
        return Voucher({coordinator: coordinator, miner: miner, cumulative: cumulative});
    }

    function fund(uint256 amount) private {
        vm.deal(carol, amount);
        vm.prank(carol);
        payments.deposit{value: amount}(coordinator);
    }

    function redeem(Voucher memory v) private returns (uint256) {
        return payments.redeem(v, signVoucher(key, v));
    }

    /// @dev What was redeemed for a miner and not paid out.
    function earned(uint64 node) private view returns (uint256) {
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(node);
        return toOwner + toStakers;
    }

    function refused(Voucher memory v, bytes memory signature) private {
        vm.expectPartialRevert(IPayments.InvalidVoucherSigner.selector);
        payments.redeem(v, signature);
    }

    // --- redemption ---

    function test_each_voucher_pays_what_it_adds() public {
        fund(10 ether);
        vm.expectEmit(address(payments));
        emit IPayments.Redeemed(coordinator, miner, 3 ether, 3 ether);
        vm.assertEq(redeem(voucher(3 ether)), 3 ether);
        vm.assertEq(earned(miner), 3 ether);
        vm.assertEq(redeem(voucher(5 ether)), 2 ether);
        vm.assertEq(earned(miner), 5 ether);
        vm.assertEq(payments.redeemed(coordinator, miner), 5 ether);
        (uint256 amount,,) = payments.escrowOf(coordinator);
        vm.assertEq(amount, 5 ether);
    }

    function test_a_voucher_pays_once() public {
        fund(10 ether);
        redeem(voucher(3 ether));
        bytes memory signature = signVoucher(key, voucher(3 ether));
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingDue.selector, 3 ether, 3 ether));
        payments.redeem(voucher(3 ether), signature);
        signature = signVoucher(key, voucher(2 ether));
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingDue.selector, 2 ether, 3 ether));
        payments.redeem(voucher(2 ether), signature);
        signature = signVoucher(key, voucher(0));
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingDue.selector, 0, 3 ether));
        payments.redeem(voucher(0), signature);
    }

    function test_what_the_escrow_lacks_stays_due() public {
        fund(4 ether);
        bytes memory signature = signVoucher(key, voucher(type(uint256).max));
        vm.assertEq(payments.redeem(voucher(type(uint256).max), signature), 4 ether);
        vm.assertEq(payments.redeemed(coordinator, miner), 4 ether);
        vm.expectRevert(abi.encodeWithSelector(IPayments.EscrowEmpty.selector, coordinator));
        payments.redeem(voucher(type(uint256).max), signature);
        fund(1 ether);
        vm.assertEq(payments.redeem(voucher(type(uint256).max), signature), 1 ether);
        vm.assertEq(earned(miner), 5 ether);
    }

    function testFuzz_vouchers_in_any_order_pay_the_highest(uint96[8] calldata cumulatives, uint96 escrow) public {
        if (escrow != 0) fund(escrow);
        uint256 highest;
        for (uint256 i = 0; i < cumulatives.length; ++i) {
            bytes memory signature = signVoucher(key, voucher(cumulatives[i]));
            try payments.redeem(voucher(cumulatives[i]), signature) {} catch {}
            if (cumulatives[i] > highest) highest = cumulatives[i];
        }
        uint256 owed = highest < escrow ? highest : escrow;
        vm.assertEq(earned(miner), owed);
        vm.assertEq(payments.redeemed(coordinator, miner), owed);
        vm.assertEq(address(payments).balance, escrow);
        (uint256 left,,) = payments.escrowOf(coordinator);
        vm.assertEq(left, escrow - owed);
    }

    function test_miners_and_coordinators_are_kept_apart() public {
        fund(10 ether);
        uint64 second = register(NodeKind.Miner, carol, newKey());
        uint256 otherKey = newKey();
        uint64 other = register(NodeKind.Coordinator, carol, otherKey);
        redeem(voucher(3 ether));
        redeem(Voucher(coordinator, second, 3 ether));
        vm.assertEq(earned(second), 3 ether);
        // Another coordinator's key is good for its own escrow alone, which is empty.
        refused(voucher(9 ether), signVoucher(otherKey, voucher(9 ether)));
        Voucher memory v = Voucher(other, miner, 1 ether);
        bytes memory signature = signVoucher(otherKey, v);
        vm.expectRevert(abi.encodeWithSelector(IPayments.EscrowEmpty.selector, other));
        payments.redeem(v, signature);
    }

    function test_only_miners_are_paid() public {
        fund(1 ether);
        Voucher memory v = Voucher(coordinator, coordinator, 1 ether);
        bytes memory signature = signVoucher(key, v);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotMiner.selector, coordinator));
        payments.redeem(v, signature);
        v.miner = 99;
        signature = signVoucher(key, v);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotMiner.selector, 99));
        payments.redeem(v, signature);
    }

    function test_exited_nodes_still_pay_and_are_paid() public {
        fund(2 ether);
        vm.prank(alice);
        staking.exit(coordinator);
        vm.prank(bob);
        staking.exit(miner);
        redeem(voucher(2 ether));
        vm.assertEq(earned(miner), 2 ether);
    }

    // --- signatures ---

    function test_signature_binds_each_field() public {
        fund(10 ether);
        bytes memory signature = signVoucher(key, voucher(1 ether));
        refused(voucher(2 ether), signature);
        uint64 second = register(NodeKind.Miner, carol, newKey());
        refused(Voucher(coordinator, second, 1 ether), signature);
        refused(Voucher(coordinator + 1, miner, 1 ether), signature);
        refused(voucher(1 ether), signVoucher(newKey(), voucher(1 ether)));
        payments.redeem(voucher(1 ether), signature);
    }

    function test_signature_binds_chain_and_contract() public {
        fund(1 ether);
        bytes memory signature = signVoucher(key, voucher(1 ether));
        Payments other = new Payments(staking, WITHDRAWAL_DELAY, STAKERS_BPS);
        vm.deal(carol, 1 ether);
        vm.prank(carol);
        other.deposit{value: 1 ether}(coordinator);
        vm.expectPartialRevert(IPayments.InvalidVoucherSigner.selector);
        other.redeem(voucher(1 ether), signature);
        vm.chainId(1210);
        refused(voucher(1 ether), signature);
    }

    function test_signature_mirrored_or_malformed() public {
        fund(10 ether);
        bytes memory signature = signVoucher(key, voucher(1 ether));
        refused(voucher(1 ether), mirrored(signature));
        refused(voucher(1 ether), "");
        refused(voucher(1 ether), new bytes(65));
        refused(voucher(1 ether), new bytes(64));
        refused(voucher(1 ether), bytes.concat(signature, hex"00"));
        // A miner's operator signs for no coordinator, a node number 0 is nobody's.
        refused(Voucher(0, miner, 1 ether), new bytes(65));
    }

    function testFuzz_only_the_operators_signature_pays(bytes calldata signature) public {
        fund(1 ether);
        refused(voucher(1 ether), signature);
    }

    function test_a_rotated_key_pays_while_it_is_accountable() public {
        fund(10 ether);
        uint256 successor = newKey();
        bytes memory consent = signConsent(successor, alice, NodeKind.Coordinator, 0, block.timestamp);
        vm.prank(alice);
        staking.rotateOperator(coordinator, vm.addr(successor), block.timestamp, consent);
        payments.redeem(voucher(1 ether), signVoucher(successor, voucher(1 ether)));
        redeem(voucher(2 ether));
        vm.warp(block.timestamp + UNBONDING - 1);
        redeem(voucher(3 ether));
        vm.warp(block.timestamp + 1);
        refused(voucher(4 ether), signVoucher(key, voucher(4 ether)));
        payments.redeem(voucher(4 ether), signVoucher(successor, voucher(4 ether)));
        vm.assertEq(earned(miner), 4 ether);
    }

    // --- escrow ---

    function test_deposits_are_for_coordinators() public {
        vm.deal(carol, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotCoordinator.selector, miner));
        vm.prank(carol);
        payments.deposit{value: 1 ether}(miner);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotCoordinator.selector, 99));
        vm.prank(carol);
        payments.deposit{value: 1 ether}(99);
        vm.expectRevert(IPayments.ZeroAmount.selector);
        payments.deposit(coordinator);
    }

    function test_withdrawal_waits_and_stays_redeemable() public {
        fund(10 ether);
        uint64 unlocksAt = uint64(block.timestamp) + WITHDRAWAL_DELAY;
        vm.expectEmit(address(payments));
        emit IPayments.WithdrawalRequested(coordinator, 6 ether, unlocksAt);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 6 ether);

        vm.warp(unlocksAt - 1);
        vm.expectRevert(abi.encodeWithSelector(IPayments.WithdrawalLocked.selector, coordinator, unlocksAt));
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));

        // What stays pays first, then what was announced to leave.
        redeem(voucher(4 ether));
        (uint256 amount, uint256 leaving,) = payments.escrowOf(coordinator);
        vm.assertEq(amount, 6 ether);
        vm.assertEq(leaving, 6 ether);
        redeem(voucher(5 ether));
        (amount, leaving,) = payments.escrowOf(coordinator);
        vm.assertEq(amount, 5 ether);
        vm.assertEq(leaving, 5 ether);

        vm.warp(unlocksAt);
        vm.expectEmit(address(payments));
        emit IPayments.EscrowWithdrawn(coordinator, alice, 5 ether);
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
        vm.assertEq(alice.balance, 5 ether);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NoWithdrawalRequested.selector, coordinator));
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
    }

    function test_an_old_announcement_does_not_free_new_money() public {
        fund(10 ether);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 10 ether);
        redeem(voucher(10 ether));
        fund(8 ether);
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NoWithdrawalRequested.selector, coordinator));
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
    }

    function test_a_new_request_starts_the_delay_again() public {
        fund(10 ether);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 1 ether);
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 10 ether);
        vm.expectPartialRevert(IPayments.WithdrawalLocked.selector);
        vm.prank(alice);
        payments.withdrawEscrow(coordinator, payable(alice));
    }

    function test_only_the_owner_withdraws() public {
        fund(10 ether);
        bytes memory notOwner = abi.encodeWithSelector(IPayments.NotCoordinatorOwner.selector, coordinator, carol);
        vm.expectRevert(notOwner);
        vm.prank(carol);
        payments.requestWithdrawal(coordinator, 1);
        vm.expectRevert(notOwner);
        vm.prank(carol);
        payments.withdrawEscrow(coordinator, payable(alice));
        vm.expectRevert(IPayments.ZeroAmount.selector);
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IPayments.InsufficientEscrow.selector, coordinator, 10 ether, 10 ether + 1)
        );
        vm.prank(alice);
        payments.requestWithdrawal(coordinator, 10 ether + 1);
    }

    function test_config_bounds() public {
        vm.expectRevert(abi.encodeWithSelector(IPayments.InvalidConfig.selector, "staking"));
        new Payments(IStaking(carol), 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.InvalidConfig.selector, "withdrawalDelay"));
        new Payments(staking, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.InvalidConfig.selector, "withdrawalDelay"));
        new Payments(staking, 365 days + 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.InvalidConfig.selector, "stakersBps"));
        new Payments(staking, 1, 5001);
    }

    // --- payouts ---

    function test_earnings_are_split_between_owner_and_stakers() public {
        fund(10 ether);
        redeem(voucher(4 ether));
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
        vm.assertEq(toStakers, 4 ether * uint256(STAKERS_BPS) / 10_000);
        vm.assertEq(toOwner, 4 ether - toStakers);

        vm.expectEmit(address(payments));
        emit IPayments.Collected(miner, bob, toOwner, toStakers);
        // Anybody may send it; the owner gets it.
        vm.prank(carol);
        vm.assertEq(payments.collect(miner), toOwner);
        vm.assertEq(bob.balance, toOwner);
        vm.assertEq(address(staking).balance, toStakers);
        vm.assertEq(earned(miner), 0);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NothingToCollect.selector, miner));
        payments.collect(miner);
    }

    function test_earnings_of_many_coordinators_are_one_payout() public {
        fund(10 ether);
        redeem(voucher(4 ether));
        uint256 otherKey = newKey();
        coordinator = register(NodeKind.Coordinator, carol, otherKey);
        fund(1 ether);
        payments.redeem(voucher(1 ether), signVoucher(otherKey, voucher(1 ether)));
        vm.assertEq(earned(miner), 5 ether);
        (uint256 toOwner,) = payments.earningsOf(miner);
        vm.assertEq(payments.collect(miner), toOwner);
    }

    function test_only_the_owner_sends_earnings_elsewhere() public {
        fund(1 ether);
        redeem(voucher(1 ether));
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotMinerOwner.selector, miner, carol));
        vm.prank(carol);
        payments.collectTo(miner, payable(carol));
        vm.expectRevert(IPayments.ZeroAddress.selector);
        vm.prank(bob);
        payments.collectTo(miner, payable(0));
        vm.prank(bob);
        uint256 amount = payments.collectTo(miner, payable(wronged));
        vm.assertEq(wronged.balance, amount);
    }

    function test_an_owner_who_refuses_money_keeps_its_claim() public {
        fund(10 ether);
        Wallet wallet = new Wallet();
        wallet.setAccepts(false);
        miner = register(NodeKind.Miner, address(wallet), newKey());
        redeem(voucher(2 ether));
        (uint256 toOwner,) = payments.earningsOf(miner);
        vm.expectRevert(abi.encodeWithSelector(IPayments.TransferFailed.selector, address(wallet), toOwner));
        payments.collect(miner);
        vm.assertEq(earned(miner), 2 ether);
        wallet.run(address(payments), 0, abi.encodeCall(IPayments.collectTo, (miner, payable(wronged))));
        vm.assertEq(wronged.balance, toOwner);
    }

    function test_an_owner_who_refuses_takes_its_escrow_elsewhere() public {
        Wallet wallet = new Wallet();
        coordinator = register(NodeKind.Coordinator, address(wallet), newKey());
        fund(3 ether);
        wallet.setAccepts(false);
        wallet.run(address(payments), 0, abi.encodeCall(IPayments.requestWithdrawal, (coordinator, 3 ether)));
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        vm.expectRevert(abi.encodeWithSelector(IPayments.TransferFailed.selector, address(wallet), 3 ether));
        wallet.run(
            address(payments), 0, abi.encodeCall(IPayments.withdrawEscrow, (coordinator, payable(address(wallet))))
        );
        wallet.run(address(payments), 0, abi.encodeCall(IPayments.withdrawEscrow, (coordinator, payable(wronged))));
        vm.assertEq(wronged.balance, 3 ether);
    }

    function test_hostile_owners_stop_nobody_elses_redemption() public {
        fund(10 ether);
        for (uint256 i = 0; i < 2; ++i) {
            Hostile hostile = new Hostile(i == 0);
            Voucher memory v = Voucher(coordinator, register(NodeKind.Miner, address(hostile), newKey()), 1 ether);
            vm.assertEq(redeem(v), 1 ether);
            vm.expectPartialRevert(IPayments.TransferFailed.selector);
            payments.collect{gas: 1_000_000}(v.miner);
            vm.assertEq(earned(v.miner), 1 ether);
        }
    }

    function test_collect_cannot_be_reentered() public {
        fund(10 ether);
        Reenterer thief = new Reenterer();
        miner = register(NodeKind.Miner, address(thief), newKey());
        redeem(voucher(1 ether));
        (uint256 toOwner,) = payments.earningsOf(miner);
        thief.onReceive(address(payments), abi.encodeCall(IPayments.collect, (miner)));
        payments.collect(miner);
        checkReentered(thief, toOwner);
    }

    function test_escrow_withdrawal_cannot_be_reentered() public {
        Reenterer thief = new Reenterer();
        fund(5 ether);
        coordinator = register(NodeKind.Coordinator, address(thief), newKey());
        fund(1 ether);
        thief.run(address(payments), 0, abi.encodeCall(IPayments.requestWithdrawal, (coordinator, 1 ether)));
        vm.warp(block.timestamp + WITHDRAWAL_DELAY);
        bytes memory withdraw = abi.encodeCall(IPayments.withdrawEscrow, (coordinator, payable(address(thief))));
        thief.onReceive(address(payments), withdraw);
        thief.run(address(payments), 0, withdraw);
        checkReentered(thief, 1 ether);
    }

    // --- payment from the bond ---

    function test_a_verifier_notes_what_the_bond_paid() public {
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotVerifier.selector, carol));
        vm.prank(carol);
        payments.noteBondPayment(coordinator, miner, 1 ether);
        vm.expectEmit(address(payments));
        emit IPayments.PaidFromBond(coordinator, miner, 2 ether);
        vm.prank(verifier);
        payments.noteBondPayment(coordinator, miner, 2 ether);
        fund(10 ether);
        vm.assertEq(redeem(voucher(3 ether)), 1 ether);
    }

    /// @dev Else the redemption after it would take the pair for one that was checked.
    function test_a_bond_pays_only_miners() public {
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotMiner.selector, coordinator));
        vm.prank(verifier);
        payments.noteBondPayment(coordinator, coordinator, 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IPayments.NotMiner.selector, 99));
        vm.prank(verifier);
        payments.noteBondPayment(coordinator, 99, 1 ether);
    }

    function checkReentered(Reenterer thief, uint256 balance) private view {
        vm.assertEq(thief.entered(), 1);
        vm.assertFalse(thief.succeeded());
        vm.assertEq(thief.failure(), abi.encodeWithSignature("ReentrancyGuardReentrantCall()"));
        vm.assertEq(address(thief).balance, balance);
    }
}
