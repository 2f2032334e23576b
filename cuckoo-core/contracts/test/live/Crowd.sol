// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IStaking, Profile} from "../../src/IStaking.sol";

/// @notice An account that owns one miner and votes.
contract Citizen {
    IStaking private immutable _staking;

    constructor(IStaking staking, address operator, Profile memory profile, uint256 deadline, bytes memory consent)
        payable {
        _staking = staking;
        staking.stake{value: msg.value}();
        staking.registerMiner(operator, profile, 0, deadline, consent);
    }

    function vote(uint64 node, uint256 amount) external {
        _staking.vote(node, amount);
    }
}

/// @notice Fills a staking contract with many miners and votes in few transactions, for measurements of readers. Every
/// citizen is an account of its own that calls the staking contract itself.
contract Crowd {
    /// @param consent the operator's, for the citizen that is created next
    struct Entrant {
        address operator;
        Profile profile;
        bytes consent;
    }

    IStaking private immutable _staking;
    Citizen[] private _citizens;

    constructor(IStaking staking) {
        _staking = staking;
    }

    /// @notice Creates a citizen for each entrant, who stakes an equal part of what was sent and registers a miner.
    function admit(Entrant[] calldata entrants, uint256 deadline) external payable {
        uint256 each = msg.value / entrants.length;
        for (uint256 i = 0; i < entrants.length; ++i) {
            Entrant calldata entrant = entrants[i];
            _citizens.push(
                new Citizen{value: each}(_staking, entrant.operator, entrant.profile, deadline, entrant.consent)
            );
        }
    }

    /// @notice Citizens `first .. first+count` (from 0) each vote with `own` for their own miner and with `other` for each
    /// of the `others` that follow it, in a circle.
    function vote(uint64 first, uint64 count, uint256 own, uint64 others, uint256 other) external {
        uint64 all = uint64(_citizens.length);
        for (uint64 i = first; i < first + count; ++i) {
            Citizen citizen = _citizens[i];
            citizen.vote(i + 1, own);
            for (uint64 j = 1; j <= others; ++j) {
                citizen.vote((i + j) % all + 1, other);
            }
        }
    }
}
