// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {IStaking} from "../../src/IStaking.sol";
import {HandlerBase} from "./HandlerBase.sol";

/// @notice Stakers who come and go. An action that has nothing to act on acts on what has, so every call does something.
abstract contract StakeActions is HandlerBase {
    function stake(uint256 who, uint256 amount) external counted {
        putIn(account(who), sized(amount, 1, 1e25));
    }

    function vote(uint256 who, uint256 which, uint256 amount) public counted {
        address staker = account(who);
        uint256 free = staking.freeStake(staker);
        if (free == 0 || amount % 4 == 0) {
            putIn(staker, sized(amount / 4, 1, 1e25));
            free = staking.freeStake(staker);
        }
        amount = amount % 3 == 0 ? free : bound(amount, 1, free);
        uint64 node = nodeOf(which);
        if (!staking.isOpen(node)) {
            refused(staker, node, amount, IStaking.NodeExited.selector);
            // The first never exits.
            node = 1;
        }
        if (staking.paused()) {
            refused(staker, node, amount, Pausable.EnforcedPause.selector);
            resume();
        }
        cast(staker, node, amount);
    }

    function unvote(uint256 who, uint256 which, uint256 shares) public counted {
        (uint256 first, uint64 node) = (who % accounts.length, nodeOf(which));
        (uint256 held,) = staking.voteOf(node, account(first));
        for (uint256 i = 1; held == 0 && i < accounts.length * nodeCount; ++i) {
            (who, node) = (first + i, nodeOf(which % nodeCount + i / accounts.length));
            (held,) = staking.voteOf(node, account(who));
        }
        if (held == 0) return vote(who, which, shares);
        shares = shares % 4 == 0 ? held : bound(shares, 1, held);
        withdrawVote(node, who % accounts.length, shares);
    }

    function release(uint256 which) external counted {
        if (tickets.length == 0) return unvote(which, which >> 8, which >> 16);
        uint256 index = which % tickets.length;
        uint256 ticket = tickets[index].id;
        (, address staker, uint256 amount, uint64 unlocksAt) = staking.ticketOf(ticket);
        vm.prank(staker);
        try staking.release(ticket) returns (uint256 released) {
            require(block.timestamp >= unlocksAt, "released before its time");
            require(released == amount, "released other than shown");
            tickets[index] = tickets[tickets.length - 1];
            tickets.pop();
        } catch {
            require(block.timestamp < unlocksAt, "kept after its time");
        }
    }

    function withdraw(uint256 who, uint256 amount) external counted {
        address staker = account(who);
        uint256 free = staking.freeStake(staker);
        if (free == 0) return putIn(staker, sized(amount, 1, 1e25));
        takeOut(staker, bound(amount, 1, free));
    }

    /// @dev Time takes nothing away that was earned.
    function wait(uint256 time) external counted {
        uint256[][] memory before = new uint256[][](nodeCount + 1);
        for (uint64 node = 1; node <= nodeCount; ++node) {
            before[node] = staking.owed(node, accounts);
        }
        vm.warp(block.timestamp + (time % 5 == 0 ? staking.unbondingPeriod() : bound(time, 1, staking.epochLength())));
        for (uint64 node = 1; node <= nodeCount; ++node) {
            uint256[] memory present = staking.owed(node, accounts);
            for (uint256 i = 0; i < present.length; ++i) {
                require(present[i] >= before[node][i], "time took what was earned");
            }
        }
    }

    /// @dev Not caught: nothing may stop an exit.
    function withdrawVote(uint64 node, uint256 who, uint256 shares) internal {
        address staker = account(who);
        uint256 least = leastOf(node, staker);
        uint256[] memory before = staking.owed(node, accounts);
        vm.prank(staker);
        uint256 ticket = staking.unvote(node, shares);
        // Both are counted in ones.
        // forge-lint: disable-next-line(unsafe-typecast)
        tickets.push(Ticket({id: uint248(ticket), who: uint8(who)}));
        noteLeast(node, staker, least);
        checkOwed(node, before);
    }

    function takeOut(address staker, uint256 amount) internal {
        vm.prank(staker);
        staking.withdraw(amount, payable(staker));
        withdrawn += amount;
        // What others lost to rounding may be a wei or two of it.
        entitled[staker] = entitled[staker] > amount ? entitled[staker] - amount : 0;
    }

    function cast(address staker, uint64 node, uint256 amount) internal {
        uint256 least = leastOf(node, staker);
        uint256[] memory before = staking.owed(node, accounts);
        vm.prank(staker);
        require(staking.vote(node, amount) >= amount, "fewer shares than wei");
        noteLeast(node, staker, least);
        checkOwed(node, before);
    }

    function resume() internal {
        vm.prank(_admin);
        staking.unpause();
    }

    function putIn(address staker, uint256 amount) internal {
        vm.deal(staker, amount);
        if (staking.paused()) {
            vm.prank(staker);
            try staking.stake{value: amount}() {
                revert("stake came in");
            } catch (bytes memory reason) {
                require(selector(reason) == Pausable.EnforcedPause.selector, "stake refused");
            }
            resume();
        }
        vm.prank(staker);
        staking.stake{value: amount}();
        staked += amount;
        entitled[staker] += amount;
    }

    function refused(address staker, uint64 node, uint256 amount, bytes4 why) private {
        bool paused = staking.paused();
        vm.prank(staker);
        try staking.vote(node, amount) {
            revert("a vote came in");
        } catch (bytes memory reason) {
            require(selector(reason) == (paused ? Pausable.EnforcedPause.selector : why), "vote refused");
        }
    }

    function selector(bytes memory reason) private pure returns (bytes4) {
        // An error starts with its selector.
        // forge-lint: disable-next-line(unsafe-typecast)
        return bytes4(reason);
    }
}
