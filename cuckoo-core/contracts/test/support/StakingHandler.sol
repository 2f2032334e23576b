// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {HandlerBase} from "./HandlerBase.sol";
import {NodeActions} from "./NodeActions.sol";
import {OpenStaking} from "./OpenStaking.sol";
import {RewardActions} from "./RewardActions.sol";
import {StakeActions} from "./StakeActions.sol";
import {StakingChecks} from "./StakingChecks.sol";

/// @notice All actions, and the way out for everybody.
contract StakingHandler is StakeActions, RewardActions, NodeActions, StakingChecks {
    constructor(
        OpenStaking staking_,
        address admin_,
        address verifier_,
        address pauser_,
        uint64 nodeCount_,
        address[] memory accounts_
    ) HandlerBase(staking_, admin_, nodeCount_, accounts_) NodeActions(verifier_, pauser_) {
        // Nodes begin active, and weigh from the first action on.
        for (uint64 node = 1; node <= nodeCount_; ++node) {
            (, address owner) = staking_.ownerOf(node);
            putIn(owner, 3_000_000 ether);
            cast(owner, node, 3_000_000 ether);
        }
        vm.warp(block.timestamp + staking_.epochLength());
    }

    /// @notice Everybody leaves with everything, during a pause: unvotes, releases, withdraws and claims. Not among the random
    /// actions.
    function unwind() external counted {
        if (!staking.paused()) halt();
        for (uint64 node = 1; node <= nodeCount; ++node) {
            for (uint256 i = 0; i < accounts.length; ++i) {
                (uint256 held,) = staking.voteOf(node, accounts[i]);
                if (held == 0) continue;
                withdrawVote(node, i, held);
            }
        }
        vm.warp(block.timestamp + staking.unbondingPeriod());
        for (; tickets.length != 0; tickets.pop()) {
            Ticket memory ticket = tickets[tickets.length - 1];
            vm.prank(accounts[ticket.who]);
            staking.release(ticket.id);
        }
        for (uint256 i = 0; i < accounts.length; ++i) {
            uint256 free = staking.freeStake(accounts[i]);
            if (free != 0) takeOut(accounts[i], free);
        }
        claimAll();
        // What was given to nodes by then is nobody's: it returns to the budget.
        vm.warp(block.timestamp + staking.epochLength());
        claimAll();
        checkAllLeft();
    }

    function claimAll() private {
        for (uint64 node = 1; node <= nodeCount; ++node) {
            for (uint256 i = 0; i < accounts.length; ++i) {
                collect(accounts[i], node);
            }
        }
    }
}
