// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {HandlerBase} from "./HandlerBase.sol";

/// @notice Slashes, exits of nodes, and pauses.
abstract contract NodeActions is HandlerBase {
    address private immutable _verifier;
    address private immutable _pauser;

    constructor(address verifier_, address pauser_) {
        (_verifier, _pauser) = (verifier_, pauser_);
    }

    function slash(uint256 which, uint256 amount, uint256 roles) public counted {
        uint64 node = nodeOf(which);
        uint256 total = poolsOf(node);
        amount = amount % 8 == 0 ? type(uint256).max : sized(amount, 1, total + 1);
        uint256[] memory before = staking.owed(node, accounts);
        uint256[] memory worths = worthsOf(node);
        uint256 others = elsewhere(node);
        bool open = staking.isOpen(node);

        uint256 taken = slashFor(node, amount, taker(roles), taker(roles >> 8));

        require(taken == (amount < total ? amount : total), "took other than asked");
        require(poolsOf(node) == total - taken && elsewhere(node) == others, "taken from elsewhere");
        require(staking.isOpen(node) == open, "retired by a single slash");
        checkOwed(node, before);
        checkWorths(node, worths, taken);
    }

    function slashFor(uint64 node, uint256 amount, address reporter, address wronged) private returns (uint256 taken) {
        (uint256 toReporter, uint256 toWronged) = (staking.freeStake(reporter), staking.freeStake(wronged));
        uint256 credited;
        vm.prank(_verifier);
        (taken, credited) = staking.slash(node, amount, bytes32(actions), reporter, wronged);
        if (reporter != address(0)) entitled[reporter] += staking.freeStake(reporter) - toReporter;
        if (wronged != reporter && wronged != address(0)) {
            require(staking.freeStake(wronged) - toWronged == credited, "credited other than said");
            entitled[wronged] += credited;
        }
        require(staking.freeStake(address(0)) == 0, "credited to nobody");
    }

    /// @dev Once in a while, and never the first; else it is slashed a little.
    function exit(uint256 which, uint256 seed) external counted {
        uint64 node = nodeOf(which);
        if (node == 1 || seed % 4 != 0 || !staking.isOpen(node)) return slash(which, seed | 1, seed);
        (, address owner) = staking.ownerOf(node);
        uint256[] memory before = staking.owed(node, accounts);
        vm.prank(owner);
        staking.exit(node);
        checkOwed(node, before);
        (uint256 counts,) = staking.countedOf(node);
        require(counts == 0, "an exited node counts");
    }

    /// @dev It ends when somebody wants to enter.
    function pause(uint256 seed) external counted {
        if (staking.paused()) return slash(seed, seed | 1, seed);
        halt();
    }

    function halt() internal {
        vm.prank(_pauser);
        staking.pause();
    }

    /// @dev One of the people, or nobody.
    function taker(uint256 seed) private view returns (address) {
        return seed % 4 == 0 ? address(0) : account(seed / 4);
    }

    function poolsOf(uint64 node) private view returns (uint256) {
        return uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
    }

    function elsewhere(uint64 node) private view returns (uint256 sum) {
        for (uint64 other = 1; other <= nodeCount; ++other) {
            if (other != node) sum += poolsOf(other);
        }
    }

    /// @dev What each account's vote for the node is worth, then each ticket of it; 0 for tickets of others.
    function worthsOf(uint64 node) private view returns (uint256[] memory worths) {
        worths = new uint256[](accounts.length + tickets.length);
        for (uint256 i = 0; i < accounts.length; ++i) {
            (, worths[i]) = staking.voteOf(node, accounts[i]);
        }
        for (uint256 i = 0; i < tickets.length; ++i) {
            (uint64 of_,, uint256 amount,) = staking.ticketOf(tickets[i].id);
            if (of_ == node) worths[accounts.length + i] = amount;
        }
    }

    function checkWorths(uint64 node, uint256[] memory before, uint256 taken) private view {
        uint256[] memory present = worthsOf(node);
        uint256 lost;
        for (uint256 i = 0; i < before.length; ++i) {
            require(present[i] <= before[i], "somebody gained from a slash");
            lost += before[i] - present[i];
        }
        // The sum of worths is short of the pools by at most a wei for each of them and each slash, before and after.
        require(lost + actions + before.length >= taken, "taken from nobody");
    }
}
