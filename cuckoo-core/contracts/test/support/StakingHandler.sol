// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking} from "../../src/IStaking.sol";
import {Pool} from "../../src/Pools.sol";
import {OpenStaking} from "./MarketTest.sol";
import {Vm} from "./Vm.sol";

/// @notice Random stakers, and what they may count on, noted independently of the contract.
/// @dev The model of weight: in an epoch each staker counts for the *least* number of shares held at any time since the
/// epoch began, because fresh shares leave first and what left once does not count again.
contract StakingHandler {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    OpenStaking public immutable staking;
    address public immutable verifier;
    uint64 public immutable nodeCount;
    address[] public accounts;

    uint256 public staked;
    uint256 public withdrawn;
    uint256 public actions;
    /// @notice What each account put in or was credited, less what it took out, in wei.
    mapping(address account => uint256) public entitled;
    /// @notice Tickets not yet released.
    uint256[] public tickets;

    mapping(uint64 node => mapping(address staker => uint256)) private _least;
    uint64 private _leastEpoch;
    mapping(uint64 node => uint16) private _denomination;

    constructor(OpenStaking staking_, address verifier_, uint64 nodeCount_, address[] memory accounts_) {
        (staking, verifier, nodeCount, accounts) = (staking_, verifier_, nodeCount_, accounts_);
    }

    modifier noted() {
        ++actions;
        _;
        note();
    }

    function stake(uint256 who, uint256 amount) external noted {
        address staker = account(who);
        amount = bound(amount, 1, 1e25);
        vm.deal(staker, amount);
        vm.prank(staker);
        staking.stake{value: amount}();
        staked += amount;
        entitled[staker] += amount;
    }

    function vote(uint256 who, uint256 which, uint256 amount) external noted {
        address staker = account(who);
        uint256 free = staking.freeStake(staker);
        if (free == 0) return;
        amount = bound(amount, 1, free);
        vm.prank(staker);
        try staking.vote(node(which), amount) {}
        catch (bytes memory reason) {
            // The only excuse for refusing: less than a share, after a total loss and rounding.
            require(bytes4(reason) == IStaking.VoteTooSmall.selector, "vote refused");
        }
    }

    /// @dev Not caught: nothing may stop an exit.
    function unvote(uint256 who, uint256 which, uint256 shares) external noted {
        address staker = account(who);
        (uint256 held,) = staking.voteOf(node(which), staker);
        if (held == 0) return;
        shares = shares % 4 == 0 ? held : bound(shares, 1, held);
        vm.prank(staker);
        tickets.push(staking.unvote(node(which), shares));
    }

    function release(uint256 which) external noted {
        if (tickets.length == 0) return;
        uint256 index = which % tickets.length;
        (, address staker, uint256 amount, uint64 unlocksAt) = staking.ticketOf(tickets[index]);
        vm.prank(staker);
        try staking.release(tickets[index]) returns (uint256 released) {
            require(block.timestamp >= unlocksAt, "released before its time");
            require(released == amount, "released other than shown");
            tickets[index] = tickets[tickets.length - 1];
            tickets.pop();
        } catch {
            require(block.timestamp < unlocksAt, "kept after its time");
        }
    }

    function withdraw(uint256 who, uint256 amount) external noted {
        address staker = account(who);
        uint256 free = staking.freeStake(staker);
        if (free == 0) return;
        amount = bound(amount, 1, free);
        vm.prank(staker);
        staking.withdraw(amount, payable(staker));
        withdrawn += amount;
        // What others lost to rounding may be a wei or two of it.
        entitled[staker] = entitled[staker] > amount ? entitled[staker] - amount : 0;
    }

    function slash(uint256 which, uint256 amount, bytes32 evidence) external noted {
        uint64 slashed = node(which);
        uint256 total = uint256(staking.activePool(slashed).amount) + staking.unbondingPool(slashed).amount;
        amount = amount % 8 == 0 ? type(uint256).max : bound(amount, 1, total + 1);
        if (staking.evidenceUsed(evidence)) return;
        (uint256[] memory votes, uint256[] memory waiting) = worths();
        (address reporter, address wronged) = (account(uint256(evidence)), account(uint256(evidence) >> 8));
        (uint256 toReporter, uint256 toWronged) = (staking.freeStake(reporter), staking.freeStake(wronged));

        vm.prank(verifier);
        (uint256 taken,) = staking.slash(slashed, amount, evidence, reporter, wronged);
        require(taken <= amount && taken <= total, "took too much");

        (uint256[] memory votesAfter, uint256[] memory waitingAfter) = worths();
        uint256 lost;
        for (uint256 i = 0; i < votes.length; ++i) {
            require(votesAfter[i] <= votes[i], "a vote gained from a slash");
            require(i / accounts.length + 1 == slashed || votesAfter[i] == votes[i], "another node's vote was hit");
            lost += votes[i] - votesAfter[i];
        }
        for (uint256 i = 0; i < waiting.length; ++i) {
            require(waitingAfter[i] <= waiting[i], "a ticket gained from a slash");
            lost += waiting[i] - waitingAfter[i];
        }
        // The sum of worths is short of the pools by at most a wei for each of them and each slash, before and after.
        require(lost + actions + votes.length + waiting.length >= taken, "taken from nobody");

        entitled[reporter] += staking.freeStake(reporter) - toReporter;
        if (wronged != reporter) entitled[wronged] += staking.freeStake(wronged) - toWronged;
    }

    function wait(uint256 time) external noted {
        vm.warp(block.timestamp + (time % 5 == 0 ? staking.unbondingPeriod() : bound(time, 1, staking.epochLength())));
    }

    /// @notice The weight that the model gives a node, in wei.
    function expectedWeight(uint64 of_) external view returns (uint256) {
        uint256 shares;
        for (uint256 i = 0; i < accounts.length; ++i) {
            shares += leastOf(of_, accounts[i]);
        }
        Pool memory pool = staking.activePool(of_);
        return shares * (uint256(pool.amount) + 1) / (uint256(pool.shares) + 1);
    }

    function accountCount() external view returns (uint256) {
        return accounts.length;
    }

    function ticketCount() external view returns (uint256) {
        return tickets.length;
    }

    /// @dev The least holding so far, or the present one when an epoch began since the last action.
    function leastOf(uint64 of_, address staker) private view returns (uint256) {
        (uint256 held,) = staking.voteOf(of_, staker);
        if (_leastEpoch != staking.epoch()) return held;
        uint256 least = _least[of_][staker] / 1000 ** (staking.activePool(of_).denomination - _denomination[of_]);
        return least < held ? least : held;
    }

    function note() private {
        for (uint64 of_ = 1; of_ <= nodeCount; ++of_) {
            for (uint256 i = 0; i < accounts.length; ++i) {
                _least[of_][accounts[i]] = leastOf(of_, accounts[i]);
            }
            _denomination[of_] = staking.activePool(of_).denomination;
        }
        _leastEpoch = staking.epoch();
    }

    function worths() private view returns (uint256[] memory votes, uint256[] memory waiting) {
        votes = new uint256[](nodeCount * accounts.length);
        for (uint256 i = 0; i < votes.length; ++i) {
            (, votes[i]) = staking.voteOf(uint64(i / accounts.length + 1), accounts[i % accounts.length]);
        }
        waiting = new uint256[](tickets.length);
        for (uint256 i = 0; i < waiting.length; ++i) {
            (,, waiting[i],) = staking.ticketOf(tickets[i]);
        }
    }

    function account(uint256 who) private view returns (address) {
        return accounts[who % accounts.length];
    }

    function node(uint256 which) private view returns (uint64) {
        return uint64(which % nodeCount) + 1;
    }

    function bound(uint256 x, uint256 low, uint256 high) private pure returns (uint256) {
        return x >= low && x <= high ? x : low + x % (high - low + 1);
    }
}
