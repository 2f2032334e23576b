// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {CourtConfig, DisputeView, Phase} from "../src/IDisputeCourt.sol";
import {NodeKind} from "../src/IStaking.sol";
import {CourtHandler} from "./support/CourtHandler.sol";
import {CourtTest, OpenCourt} from "./support/CourtTest.sol";

/// @notice What holds for the court after any sequence of steps of any disputes. The handler itself checks, per step, that it
/// is refused exactly when its time is not there, that no jury has a party's node, and that a finish slashes whom it should.
contract CourtInvariants is CourtTest {
    CourtHandler private handler;

    function setUp() public override {
        super.setUp();
        CourtConfig memory c = courtConfig();
        (c.jurySize, c.quorum) = (3, 2);
        court = new OpenCourt(staking, c);
        authorise(address(court));
        address[] memory accounts = new address[](8);
        (accounts[0], accounts[1], accounts[2], accounts[3]) = (alice, bob, carol, erin);
        uint64[] memory nodes = new uint64[](8);
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (i > 3) accounts[i] = jurorOwner(i);
            nodes[i] = register(NodeKind.Miner, accounts[i], newKey());
            vote(accounts[i], nodes[i], (i + 1) * MINER_MINIMUM);
        }
        nextEpoch();
        for (uint256 i = 0; i < nodes.length; ++i) {
            enlist(nodes[i]);
        }
        bytes32 domain = domainSeparator("Cuckoo", block.chainid, address(staking));
        handler = new CourtHandler(court, staking, accused, coordinator, accusedKey, domain, accounts, nodes);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_court() public view {
        everyWeiIsABondOrACredit();
        nobodyGetsMore();
        aReceiptIsPunishedOnce();
        theTreeIsItsLeaves();
    }

    /// @dev Whatever happened: when all deadlines are over, every dispute can be finished, and all money comes out.
    function afterInvariant() public {
        vm.warp(block.timestamp + ANSWER_TIME + DRAW_TIME + COMMIT_TIME + REVEAL_TIME);
        for (uint256 dispute = 1; dispute <= court.disputeCount(); ++dispute) {
            handler.tryToFinish(dispute);
            assertPhase(dispute, Phase.Closed);
        }
        invariant_court();
        for (uint256 i = 0; i < handler.accountCount(); ++i) {
            handler.withdraw(i);
        }
        vm.assertEq(address(court).balance, 0, "money is stuck");
    }

    function everyWeiIsABondOrACredit() private view {
        uint256 sum;
        for (uint256 dispute = 1; dispute <= court.disputeCount(); ++dispute) {
            DisputeView memory d = court.disputeOf(dispute);
            if (d.phase != Phase.Closed) sum += d.answerer == address(0) ? BOND : 2 * BOND;
        }
        for (uint256 i = 0; i < handler.accountCount(); ++i) {
            sum += court.creditOf(handler.accounts(i));
        }
        vm.assertEq(address(court).balance, sum, "balance");
    }

    function nobodyGetsMore() private view {
        for (uint256 i = 0; i < handler.accountCount(); ++i) {
            address account = handler.accounts(i);
            uint256 got = handler.paidOut(account) + court.creditOf(account);
            vm.assertLe(
                got, handler.paidIn(account) + handler.earned(account), "more than its bonds and what it earned"
            );
        }
    }

    function aReceiptIsPunishedOnce() private view {
        for (uint256 dispute = 1; dispute <= court.disputeCount(); ++dispute) {
            bytes32 digest = court.disputeOf(dispute).receipt;
            vm.assertLe(handler.slashes(digest), 1, "slashes");
            vm.assertEq(staking.evidenceUsed(digest), handler.slashes(digest) == 1);
        }
    }

    function theTreeIsItsLeaves() private view {
        uint256 sum;
        for (uint256 i = 0; i < handler.nodeCount(); ++i) {
            uint64 node = handler.nodes(i);
            sum += court.juryWeightOf(node);
            vm.assertTrue(court.isEnlisted(node) || court.juryWeightOf(node) == 0, "weight of a node not on the list");
        }
        vm.assertEq(court.juryWeight(), sum, "total");
    }
}
