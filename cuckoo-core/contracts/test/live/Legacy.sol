// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Answers as the staking contract of the first Cuckoo Chain does, with what a test sets.
contract LegacyStakes {
    mapping(address staker => uint256) private _stakes;

    function set(address[] calldata stakers, uint256[] calldata stakes) external {
        for (uint256 i = 0; i < stakers.length; ++i) {
            _stakes[stakers[i]] = stakes[i];
        }
    }

    function getStakeInfo(address staker) external view returns (uint256 tokensStaked, uint256 rewards) {
        tokensStaked = _stakes[staker];
        rewards = tokensStaked / 100;
    }
}

/// @notice Answers as the voting contract of the first Cuckoo Chain does, with what a test sets: both lists by themselves,
/// so that they can contain duplicates and contradict each other, as the real ones may.
contract LegacyVotes {
    mapping(address miner => address[]) private _voters;
    mapping(address voter => address[]) private _miners;
    mapping(address miner => uint256) private _flood;
    mapping(address account => bool) private _refused;

    /// @notice Adds a vote to both lists, as often as it is asked to.
    function add(address[] calldata voters, address[] calldata miners) external {
        for (uint256 i = 0; i < voters.length; ++i) {
            _voters[miners[i]].push(voters[i]);
            _miners[voters[i]].push(miners[i]);
        }
    }

    /// @notice Leaves a voter in a miner's list that the voter has taken the vote from.
    function addStale(address voter, address miner) external {
        _voters[miner].push(voter);
    }

    /// @notice From now on names so many made-up voters for a miner.
    function flood(address miner, uint256 voters) external {
        _flood[miner] = voters;
    }

    /// @notice From now on reverts when it is asked about this account.
    function refuse(address account) external {
        _refused[account] = true;
    }

    function getVotersForMiner(address miner) external view returns (address[] memory voters) {
        require(!_refused[miner], "refused");
        uint256 flood_ = _flood[miner];
        if (flood_ == 0) return _voters[miner];
        voters = new address[](flood_);
        for (uint160 i = 0; i < flood_; ++i) {
            voters[i] = address(i + 1);
        }
    }

    function getMinersForVoter(address voter) external view returns (address[] memory) {
        require(!_refused[voter], "refused");
        return _miners[voter];
    }

    function hasVotedForMiner(address voter, address miner) external view returns (bool) {
        address[] storage miners = _miners[voter];
        for (uint256 i = 0; i < miners.length; ++i) {
            if (miners[i] == miner) return true;
        }
        return false;
    }
}
