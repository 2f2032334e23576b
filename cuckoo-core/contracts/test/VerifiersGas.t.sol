// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Faucet, FaucetConfig} from "../src/Faucet.sol";
import {Voucher} from "../src/IPayments.sol";
import {Receipt} from "../src/Receipts.sol";
import {VerifierTest} from "./support/VerifierTest.sol";

/// @notice What evidence and a faucet's gift cost, as `GasTest` measures the rest.
/// forge-config: default.isolate = true
contract VerifiersGasTest is VerifierTest {
    function measured(string memory name) private {
        vm.snapshotGasLastCall("verifiers", name);
    }

    function test_equivocation() public {
        // Alice and Carol have been credited before.
        stake(alice, 1 ether);
        stake(carol, 1 ether);
        slash(miner, 1 ether, "e");
        (Receipt memory one, Receipt memory other) = (receiptOf("lease", "one"), receiptOf("lease", "other"));
        (bytes memory a, bytes memory b) = (signReceipt(minerKey, one), signReceipt(minerKey, other));
        vm.prank(carol);
        equivocation.report(one, a, other, b);
        measured("report");
    }

    function test_unpaid_voucher() public {
        Voucher memory voucher = owed(10 ether);
        bytes memory signature = signVoucher(coordinatorKey, voucher);
        unpaid.demand(voucher, signature);
        measured("demand");
        vm.warp(block.timestamp + NOTICE);
        unpaid.collect(voucher, signature);
        measured("collect, bond alone, first of a pair");

        voucher = owed(20 ether);
        signature = signVoucher(coordinatorKey, voucher);
        unpaid.demand(voucher, signature);
        deposit(20 ether);
        vm.warp(block.timestamp + NOTICE);
        unpaid.collect(voucher, signature);
        measured("collect, escrow alone");

        voucher = owed(40 ether);
        signature = signVoucher(coordinatorKey, voucher);
        unpaid.demand(voucher, signature);
        vm.warp(block.timestamp + NOTICE);
        unpaid.collect(voucher, signature);
        measured("collect, escrow and bond");
    }

    function test_faucet() public {
        Faucet faucet = new Faucet(
            alice, FaucetConfig({amount: 1 ether, holdingCap: 10 ether, dayCap: 100 ether, coolDown: 1 hours})
        );
        vm.deal(address(faucet), 100 ether);
        faucet.drip(payable(bob));
        measured("drip, to a new account, first of a day");
        vm.warp(block.timestamp + 1 hours);
        faucet.drip(payable(bob));
        measured("drip, again");
    }
}
