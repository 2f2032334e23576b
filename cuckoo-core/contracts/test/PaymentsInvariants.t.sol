// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {NodeKind} from "../src/IStaking.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {PaymentsHandler} from "./support/PaymentsHandler.sol";
import {Wallet} from "./support/Receivers.sol";

/// @notice What holds for `Payments` after any sequence of deposits, redemptions, payments from bonds and withdrawals.
contract PaymentsInvariants is MarketTest {
    PaymentsHandler private handler;

    function setUp() public override {
        super.setUp();
        uint256[2] memory keys = [newKey(), newKey()];
        Wallet wallet = new Wallet();
        register(NodeKind.Coordinator, alice, keys[0]);
        register(NodeKind.Coordinator, alice, keys[1]);
        register(NodeKind.Miner, bob, newKey());
        register(NodeKind.Miner, address(wallet), newKey());
        bytes32 domain = domainSeparator("Cuckoo Payments", block.chainid, address(payments));
        handler = new PaymentsHandler(payments, alice, verifier, bob, wallet, domain, keys);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_payments() public view {
        handler.check();
    }
}
