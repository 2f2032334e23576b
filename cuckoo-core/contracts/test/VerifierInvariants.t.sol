// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {EquivocationVerifier} from "../src/EquivocationVerifier.sol";
import {Payments} from "../src/Payments.sol";
import {Staking} from "../src/Staking.sol";
import {VerifierHandler} from "./support/VerifierHandler.sol";
import {Vm} from "./support/Vm.sol";

/// @notice What holds after any sequence of promises, payments, defaults and faults. The handler checks, per action, that
/// nothing is refused or granted without cause, that the escrow pays before the bond, and that nobody is paid out of votes
/// that are not the defaulting owner's.
contract VerifierInvariants {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    VerifierHandler private handler;
    Staking private staking;
    Payments private payments;

    function setUp() public {
        handler = new VerifierHandler();
        (address staking_, address payments_,) = handler.market();
        (staking, payments) = (Staking(staking_), Payments(payments_));
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev One function, so that one campaign checks all of it.
    function invariant_evidence() public view {
        eachVoucherPaysOnce();
        everyRedeemedWeiReachedTheMiner();
        eachEvidenceSlashedOnce();
    }

    /// @dev What was redeemed was promised, and came from escrow or bond, never from both.
    function eachVoucherPaysOnce() private view {
        for (uint256 i = 0; i < 4; ++i) {
            (uint64 coordinator, uint64 miner) = (handler.coordinators(i / 2), handler.miners(i % 2));
            uint256 redeemed = payments.redeemed(coordinator, miner);
            vm.assertEq(
                redeemed, handler.fromEscrow(coordinator, miner) + handler.fromBond(coordinator, miner), "redeemed"
            );
            vm.assertLe(redeemed, handler.promised(coordinator, miner), "promised");
        }
    }

    /// @dev As earnings not yet paid out, as money, as a cut of its stakers, or as free stake.
    function everyRedeemedWeiReachedTheMiner() private view {
        for (uint256 j = 0; j < 2; ++j) {
            uint64 miner = handler.miners(j);
            (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
            uint256 redeemed =
                payments.redeemed(handler.coordinators(0), miner) + payments.redeemed(handler.coordinators(1), miner);
            vm.assertEq(redeemed, toOwner + toStakers + handler.paidOut(miner) + handler.credited(miner), "received");
            vm.assertGe(staking.freeStake(handler.minerOwners(j)), handler.credited(miner), "credited");
        }
    }

    function eachEvidenceSlashedOnce() private view {
        for (uint256 i = 0; i < handler.evidenceCount(); ++i) {
            bytes32 evidence = handler.evidences(i);
            vm.assertEq(handler.slashes(evidence), 1, "slashed once");
            vm.assertTrue(staking.evidenceUsed(evidence), "used");
        }
    }
}
