// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice What a node is registered as.
enum NodeKind {
    None,
    Miner,
    Coordinator
}

/// @notice What an owner tells the public about a node.
struct Profile {
    string name;
    string description;
    string endpoint;
}

/// @notice One node as the market reads it.
/// @param active registered, not exited, and the owner's own vote is at or above the minimum of its kind
/// @param weight sum of the votes (wei) that count in the current epoch
/// @param ownerVote value (wei) of the owner's own vote
struct NodeView {
    uint64 id;
    NodeKind kind;
    address owner;
    address operator;
    uint16 commissionBps;
    bool active;
    uint256 weight;
    uint256 ownerVote;
    Profile profile;
}

/// @notice The settings of a staking contract, fixed when it is deployed.
/// @param admin who may grant roles and set the rate of rewards: the timelock, once a market is set up
/// @param epochLength seconds; votes count from the epoch after the one they are cast in
/// @param unbondingPeriod seconds that stake stays slashable after an unvote; at least one epoch
/// @param minerMinimum least own vote (wei) of a miner's owner
/// @param coordinatorMinimum least own vote (wei) of a coordinator's owner
/// @param burnBps part of a slash that is burnt, in hundredths of a percent
/// @param reporterBps part of a slash that its reporter gets, in hundredths of a percent; the wronged party gets the rest
struct StakingConfig {
    address admin;
    uint64 epochLength;
    uint64 unbondingPeriod;
    uint256 minerMinimum;
    uint256 coordinatorMinimum;
    uint16 burnBps;
    uint16 reporterBps;
}

/// @title Stake, votes, nodes and slashing in native CAI.
/// @notice Amounts are wei of CAI. Times are seconds.
interface IStaking {
    // --- events: enough to rebuild every node and weight ---
    event Staked(address indexed staker, uint256 amount, uint256 free);
    event Withdrawn(address indexed staker, address to, uint256 amount);
    event Registered(
        uint64 indexed node, NodeKind kind, address indexed owner, address indexed operator, uint16 commissionBps
    );
    event ProfileChanged(uint64 indexed node, string name, string description, string endpoint);
    event OperatorRotated(
        uint64 indexed node, address indexed previous, address indexed operator, uint64 accountableUntil
    );
    /// @notice By its owner, or by the last of very many slashes.
    event Exited(uint64 indexed node);
    event Voted(uint64 indexed node, address indexed staker, uint256 amount, uint256 shares);
    event Unvoted(
        uint64 indexed node, address indexed staker, uint256 shares, uint256 amount, uint256 ticket, uint64 unlocksAt
    );
    event Released(uint256 indexed ticket, address indexed staker, uint256 amount);
    event Slashed(
        uint64 indexed node, bytes32 indexed evidence, address indexed verifier, uint256 active, uint256 unbonding
    );
    event RewardsFunded(address indexed from, uint256 amount, uint256 budget);
    event RewardRateSet(uint256 perEpoch);
    /// @notice CAI for a node's stakers, paid out to them over the next epoch after the owner's commission.
    event Rewarded(uint64 indexed node, uint256 amount, uint256 commission);
    event Claimed(uint64 indexed node, address indexed staker, address to, uint256 amount);
    /// @notice A part of a slash was added to an account's free stake.
    event Credited(bytes32 indexed evidence, address indexed account, uint256 amount);

    // --- errors ---
    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);
    error ZeroAmount();
    error ZeroAddress();
    /// @notice The contract holds as much CAI as its arithmetic is proven for.
    error TooMuchStake(uint256 balance, uint256 limit);
    error InsufficientFreeStake(address staker, uint256 free, uint256 wanted);
    error InsufficientShares(uint64 node, address staker, uint256 shares, uint256 wanted);
    error UnknownNode(uint64 node);
    error NodeExited(uint64 node);
    error NotNodeOwner(uint64 node, address caller);
    error UnknownTicket(uint256 ticket);
    error NotTicketStaker(uint256 ticket, address caller);
    error StillUnbonding(uint256 ticket, uint64 unlocksAt);
    /// @notice An operator key serves one node, once: take a new key.
    error OperatorTaken(address operator, uint64 node);
    error ConsentExpired(uint256 deadline);
    /// @notice The consent was not signed by the operator for this owner, kind, nonce, deadline, chain and contract.
    error InvalidConsent(address operator, address signer);
    error CommissionTooHigh(uint16 commissionBps);
    error ProfileTooLong(string field, uint256 length, uint256 limit);
    error TooManyNodes(uint256 count, uint256 limit);
    error EvidenceUsed(bytes32 evidence);
    error TransferFailed(address to, uint256 amount);

    // --- stake and votes ---
    /// @notice Adds the sent CAI to the caller's free stake.
    function stake() external payable;
    /// @notice Moves free stake into a node's pool for shares; it gains weight from the next epoch.
    function vote(uint64 node, uint256 amount) external returns (uint256 shares);
    /// @notice Moves shares out of a node's pool into unbonding, where they stay slashable.
    function unvote(uint64 node, uint256 shares) external returns (uint256 ticket);
    /// @notice After the unbonding period, turns a ticket into free stake of its staker.
    function release(uint256 ticket) external returns (uint256 amount);
    /// @notice Pays free stake out.
    function withdraw(uint256 amount, address payable to) external;

    // --- nodes ---
    /// @notice Registers a node owned by the caller. `consent` is the operator's EIP-712 signature over
    /// OperatorConsent(address owner,address operator,uint8 kind,uint256 nonce,uint256 deadline).
    function registerMiner(
        address operator,
        Profile calldata profile,
        uint16 commissionBps,
        uint256 deadline,
        bytes calldata consent
    ) external returns (uint64 node);
    function registerCoordinator(
        address operator,
        Profile calldata profile,
        uint16 commissionBps,
        uint256 deadline,
        bytes calldata consent
    ) external returns (uint64 node);
    function setProfile(uint64 node, Profile calldata profile) external;
    /// @notice Replaces the operator; the old key stays accountable for the unbonding period.
    function rotateOperator(uint64 node, address operator, uint256 deadline, bytes calldata consent) external;
    /// @notice Retires a node for good; its stakers unvote as usual.
    function exit(uint64 node) external;

    // --- rewards ---
    /// @notice Adds the sent CAI to the budget that active nodes share by weight, at the set rate.
    function fund() external payable;
    /// @notice Adds the sent CAI to what one node's stakers earn: its owner's commission at once, the rest over the time of
    /// an epoch, to whoever holds votes then.
    function reward(uint64 node) external payable;
    /// @notice Sets what all nodes together earn from the budget in an epoch, in wei. Only the admin.
    function setRewardRate(uint256 perEpoch) external;
    /// @notice Brings nodes' parts of the budget up to date with their weights. Anyone, whenever a weight has changed: what
    /// lowers a weight does it itself, what raises one counts from the next time somebody calls this.
    function sync(uint64[] calldata ids) external;
    /// @notice Pays out what the caller earned with votes for a node, an owner's commission included.
    function claim(uint64 node, address payable to) external returns (uint256 amount);
    /// @notice The same for at most 100 nodes at once.
    function claimMany(uint64[] calldata ids, address payable to) external returns (uint256 amount);

    // --- slashing ---
    /// @notice Takes up to `amount` wei from a node's active and unbonding pools in proportion, once per `evidence`.
    /// Splits it burn / reporter / wronged party. Reporter and wronged party together never get more than the node's owner
    /// loses of its own stake; what is above is burnt. Only verifiers. A node that has lost everything thousands of times is
    /// retired.
    /// @return taken wei taken from the pools
    /// @return toWronged wei credited to the wronged party
    function slash(uint64 node, uint256 amount, bytes32 evidence, address reporter, address wronged)
        external
        returns (uint256 taken, uint256 toWronged);

    // --- pause ---
    /// @notice Stops `stake`, `vote` and registration; every way out stays open. Only pausers.
    function pause() external;
    /// @notice Ends a pause. Only the admin.
    function unpause() external;

    // --- reads ---
    function epoch() external view returns (uint64);
    function epochLength() external view returns (uint64);
    function unbondingPeriod() external view returns (uint64);
    function minimumVote(NodeKind kind) external view returns (uint256);
    function freeStake(address staker) external view returns (uint256);
    function consentNonce(address operator) external view returns (uint256);
    function nodeCount() external view returns (uint64);
    /// @notice One node; of kind `None` when there is no such node.
    function nodeById(uint64 id) external view returns (NodeView memory);
    /// @notice Kind and owner alone, cheap for other contracts; `None` and 0 when there is no such node.
    function ownerOf(uint64 node) external view returns (NodeKind kind, address owner);
    /// @notice Whether a node is registered and not exited, and its owner's own vote at or above the minimum of its kind.
    function isActive(uint64 node) external view returns (bool);
    /// @notice Nodes `first .. first+count`, ids start at 1.
    function nodes(uint64 first, uint64 count) external view returns (NodeView[] memory);
    /// @notice The node an operator key answers for now, 0 if none. `accountableUntil` is 0 for the current key,
    /// a time for one that rotated away.
    function nodeOfOperator(address operator) external view returns (uint64 node, uint64 accountableUntil);
    function weightOf(uint64 node) external view returns (uint256);
    function voteOf(uint64 node, address staker) external view returns (uint256 shares, uint256 amount);
    /// @notice What `claim` would pay now, in wei.
    function claimable(uint64 node, address staker) external view returns (uint256);
    /// @notice CAI for rewards that no node has earned yet, in wei.
    function rewardBudget() external view returns (uint256);
    function rewardPerEpoch() external view returns (uint256);
    /// @notice Part of a slash that the wronged party gets unless the cap bites, in hundredths of a percent.
    function wrongedBps() external view returns (uint16);
    function evidenceUsed(bytes32 evidence) external view returns (bool);
    function ticketOf(uint256 ticket)
        external
        view
        returns (uint64 node, address staker, uint256 amount, uint64 unlocksAt);
}
