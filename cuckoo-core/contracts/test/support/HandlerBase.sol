// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Pool} from "../../src/Pools.sol";
import {OpenStaking} from "./OpenStaking.sol";
import {Vm} from "./Vm.sol";

/// @notice What the random actions share: the people, the nodes, and what everybody may count on, noted independently of the
/// contract.
/// @dev The model of weight: in an epoch each staker counts for the *least* number of shares held at any time since the
/// epoch began, because fresh shares leave first and what left once does not count again.
abstract contract HandlerBase {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    /// @dev Wei; what the divisions of one action may move between what people are owed.
    uint256 internal constant ROUNDING = 4;

    /// @param epoch 1 more than the epoch in which it was noted
    struct Least {
        uint256 shares;
        uint16 denomination;
        uint64 epoch;
    }

    /// @param who the place of its staker among the accounts
    struct Ticket {
        uint248 id;
        uint8 who;
    }

    OpenStaking internal immutable staking;
    address internal immutable _admin;
    uint64 internal immutable nodeCount;
    address[] internal accounts;

    uint256 public actions;
    uint256 internal staked;
    uint256 internal withdrawn;
    /// @dev What each account put in or was credited, less what it took out, in wei.
    mapping(address account => uint256) internal entitled;
    /// @dev Not yet released.
    Ticket[] internal tickets;

    mapping(uint64 node => mapping(address staker => Least)) private _least;

    constructor(OpenStaking staking_, address admin_, uint64 nodeCount_, address[] memory accounts_) {
        (staking, _admin, nodeCount, accounts) = (staking_, admin_, nodeCount_, accounts_);
    }

    modifier counted() {
        ++actions;
        _;
    }

    /// @dev The least holding so far, or the present one while nothing was noted in this epoch.
    function leastOf(uint64 node, address staker, uint256 held, uint16 denomination, uint64 epoch)
        internal
        view
        returns (uint256)
    {
        Least storage least = _least[node][staker];
        if (least.epoch != epoch + 1) return held;
        uint256 behind = denomination - least.denomination;
        uint256 shares = behind > 10 ? 0 : least.shares / 1000 ** behind;
        return shares < held ? shares : held;
    }

    function leastOf(uint64 node, address staker) internal view returns (uint256) {
        (uint256 held,) = staking.voteOf(node, staker);
        return leastOf(node, staker, held, staking.activePool(node).denomination, staking.epoch());
    }

    /// @dev Notes what a staker holds after an action, given the least that it held before.
    function noteLeast(uint64 node, address staker, uint256 before) internal {
        (uint256 held,) = staking.voteOf(node, staker);
        _least[node][staker] = Least({
            shares: before < held ? before : held,
            denomination: staking.activePool(node).denomination,
            epoch: staking.epoch() + 1
        });
    }

    /// @dev Time alone earns: no action changes what anybody may claim, but a claim and an owner's commission.
    function checkOwed(uint64 node, uint256[] memory before) internal view {
        uint256[] memory present = staking.owed(node, accounts);
        for (uint256 i = 0; i < before.length; ++i) {
            bool same = present[i] <= before[i] + ROUNDING && before[i] <= present[i] + ROUNDING;
            require(same, "an action changed what was earned");
        }
    }

    function account(uint256 who) internal view returns (address) {
        return accounts[who % accounts.length];
    }

    function nodeOf(uint256 which) internal view returns (uint64) {
        // At most `nodeCount`.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint64(which % nodeCount) + 1;
    }

    /// @dev A number of any size between the bounds, small ones as often as large ones.
    function sized(uint256 seed, uint256 low, uint256 high) internal pure returns (uint256) {
        uint256 digits = 10 ** (seed % 28);
        return bound(seed / 28, low, high < low + digits ? high : low + digits);
    }

    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        return x >= low && x <= high ? x : low + x % (high - low + 1);
    }
}
