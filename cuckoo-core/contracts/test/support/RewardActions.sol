// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {HandlerBase} from "./HandlerBase.sol";

/// @notice Whoever gives, and whoever claims.
abstract contract RewardActions is HandlerBase {
    /// @dev Wei given to the budget or to a node.
    uint256 internal given;
    uint256 internal claimed;

    function fund(uint256 amount) external counted {
        amount = sized(amount, 1, 1e24);
        uint256 budget = staking.rewardBudget();
        vm.deal(address(this), amount);
        staking.fund{value: amount}();
        given += amount;
        require(staking.rewardBudget() == budget + amount, "funded other than given");
    }

    function reward(uint256 which, uint256 amount) external counted {
        uint64 node = nodeOf(which);
        amount = sized(amount, 1, 1e24);
        (, address owner) = staking.ownerOf(node);
        uint256[] memory before = staking.owed(node, accounts);
        vm.deal(address(this), amount);
        staking.reward{value: amount}(node);
        given += amount;
        for (uint256 i = 0; i < before.length; ++i) {
            if (accounts[i] == owner) before[i] += amount * staking.commissionOf(node) / 10_000;
        }
        checkOwed(node, before);
    }

    function sync(uint256 which) external counted {
        uint64[] memory nodes = some(which);
        uint256[] memory before = staking.owed(nodes[0], accounts);
        staking.sync(nodes);
        checkOwed(nodes[0], before);
        for (uint256 i = 0; i < nodes.length; ++i) {
            (uint256 counts, uint256 weight) = staking.countedOf(nodes[i]);
            require(counts == weight, "counts for another weight");
        }
    }

    function claim(uint256 who, uint256 which) external counted {
        collect(account(who), nodeOf(which));
    }

    function claimMany(uint256 who, uint256 which) external counted {
        address staker = account(who);
        uint64[] memory nodes = some(which);
        uint256 due;
        for (uint256 i = 0; i < nodes.length; ++i) {
            bool again;
            for (uint256 j = 0; j < i; ++j) {
                again = again || nodes[j] == nodes[i];
            }
            if (!again) due += staking.claimable(nodes[i], staker);
        }
        vm.prank(staker);
        require(staking.claimMany(nodes, payable(staker)) == due, "claimed other than shown");
        claimed += due;
    }

    function setRate(uint256 perEpoch) external counted {
        perEpoch = perEpoch % 8 == 0 ? 0 : sized(perEpoch, 1, 1e23);
        uint256 budget = staking.rewardBudget();
        vm.prank(_admin);
        staking.setRewardRate(perEpoch);
        require(staking.rewardBudget() == budget, "a rate worked backwards");
    }

    function collect(address staker, uint64 node) internal returns (uint256 amount) {
        uint256 due = staking.claimable(node, staker);
        uint256 balance = staker.balance;
        vm.prank(staker);
        amount = staking.claim(node, payable(staker));
        require(amount == due && staker.balance == balance + due, "claimed other than shown");
        require(staking.claimable(node, staker) == 0, "left to be claimed");
        claimed += amount;
    }

    /// @dev Up to five nodes, some twice, beginning with a random one.
    function some(uint256 seed) private view returns (uint64[] memory nodes) {
        nodes = new uint64[](seed % 5 + 1);
        for (uint256 i = 0; i < nodes.length; ++i) {
            nodes[i] = nodeOf(seed >> (8 * (i + 1)));
        }
    }
}
