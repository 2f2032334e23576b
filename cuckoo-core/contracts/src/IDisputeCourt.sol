// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Receipt} from "./Receipts.sol";

/// @notice The settings of a court, fixed when it is deployed. Amounts are wei, times seconds.
/// @param bond what each side puts up: at least `jurySize * juryFee`
/// @param penalty what a convicted miner is slashed, as far as its pools reach
/// @param juryFee what a juror earns with a dispute
/// @param absencePenalty what a juror that was drawn and revealed no vote is slashed; at most a miner's minimum vote
/// @param answerTime how long the accused's side may answer
/// @param drawTime how long a jury may be drawn after the answer
/// @param commitTime how long jurors may commit after the draw
/// @param revealTime how long they may reveal after that. All four together are less than the unbonding period, so that
/// what is accused stays slashable until the verdict
/// @param drawBlocks blocks after the answer before a jury may be drawn, 1 to 256
/// @param jurySize jurors per dispute, odd, 1 to 31
/// @param quorum how many must be drawn, and reveal, for a verdict
struct CourtConfig {
    uint256 bond;
    uint256 penalty;
    uint256 juryFee;
    uint256 absencePenalty;
    uint64 answerTime;
    uint64 drawTime;
    uint64 commitTime;
    uint64 revealTime;
    uint64 drawBlocks;
    uint8 jurySize;
    uint8 quorum;
}

/// @notice What can be done with a dispute now.
/// @param None there is no such dispute
/// @param Answer `answer`
/// @param Draw `draw`, once its block is reached
/// @param Commit `commit`
/// @param Reveal `reveal`
/// @param Due `finish`
/// @param Closed nothing, but for `punish`
enum Phase {
    None,
    Answer,
    Draw,
    Commit,
    Reveal,
    Due,
    Closed
}

/// @notice How a dispute ended.
/// @param None it has not
/// @param Acquitted most jurors got the receipt's output
/// @param Convicted most jurors got one other output, or nobody answered
/// @param Unproven most jurors could not check, so that the challenger owes them their fees; may be opened again
/// @param Undecided too few jurors, or no majority; may be opened again
enum Outcome {
    None,
    Acquitted,
    Convicted,
    Unproven,
    Undecided
}

/// @notice One dispute as it stands. Times are seconds, 0 until known.
/// @param receipt digest of the disputed receipt
/// @param outputHash the output that the receipt claims
/// @param answerer 0 until somebody answers
/// @param deadline when the present phase ends; an answer or a draw ends it early, and so does the last juror's commitment
/// @param revealDeadline when the time to reveal ends
/// @param drawBlock the first block in which a jury may be drawn
struct DisputeView {
    Phase phase;
    Outcome outcome;
    bytes32 receipt;
    bytes32 outputHash;
    uint64 accused;
    uint64 coordinator;
    address challenger;
    address answerer;
    uint64 deadline;
    uint64 revealDeadline;
    uint64 drawBlock;
}

/// @notice One juror of a dispute.
/// @param vote the output that it got, 0 for none or not revealed
struct JurorView {
    uint64 node;
    bool committed;
    bool revealed;
    bytes32 vote;
}

/// @title The dispute court for wrong outputs: bonds of two sides, a jury of miners drawn by stake, a vote by
/// commitment, a slash.
/// @notice A dispute goes open, answer, draw, commit, reveal, finish. Every step has a deadline, after which anybody can
/// finish the dispute; what each gets is noted as a credit, which it withdraws.
/// The court has no admin and no pause. To slash it must be a verifier of the staking contract.
interface IDisputeCourt {
    // --- events: enough to follow every dispute and the weight of every juror ---
    event Enlisted(uint64 indexed node);
    event Delisted(uint64 indexed node);
    /// @notice A node is drawn in proportion to this weight (wei) from now on.
    event Weighed(uint64 indexed node, uint256 weight);
    event Opened(
        uint256 indexed dispute,
        uint64 indexed accused,
        address indexed challenger,
        bytes32 digest,
        Receipt receipt,
        uint64 answerDeadline
    );
    /// @notice Where `from` says that jurors find the task's input, whose hash is in the receipt.
    event Evidence(uint256 indexed dispute, address indexed from, string uri);
    event Answered(uint256 indexed dispute, address indexed answerer, uint64 drawBlock, uint64 drawDeadline);
    event Drawn(uint256 indexed dispute, bytes32 beacon, uint64[] jury, uint64 commitDeadline, uint64 revealDeadline);
    event Committed(uint256 indexed dispute, uint64 indexed juror, bytes32 commitment);
    /// @notice All jurors have committed before their time was over.
    event RevealsBegun(uint256 indexed dispute, uint64 revealDeadline);
    event Revealed(uint256 indexed dispute, uint64 indexed juror, bytes32 vote);
    /// @notice A dispute ended. `vote` is what the majority voted, 0 without one.
    event Finished(uint256 indexed dispute, Outcome outcome, bytes32 vote);
    event Credited(uint256 indexed dispute, address indexed account, uint256 amount);
    event Withdrawn(address indexed account, address to, uint256 amount);
    /// @notice A node was slashed for a wrong output or an absence; `taken` wei were there to take.
    event Punished(uint256 indexed dispute, uint64 indexed node, uint256 taken);
    /// @notice The staking contract refused a slash, say because the court is not a verifier; `punish` tries again.
    event PunishmentRefused(uint256 indexed dispute, uint64 indexed node, bytes reason);

    // --- errors ---
    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);
    error NotKeeper(uint64 node, address caller);
    error NotActiveMiner(uint64 node);
    error AlreadyEnlisted(uint64 node);
    error NotEnlisted(uint64 node);
    error WrongBond(uint256 sent, uint256 bond);
    error InvalidURI(uint256 length, uint256 limit);
    error NotCoordinator(uint64 node);
    /// @notice The receipt is in dispute already.
    error InDispute(uint256 dispute);
    /// @notice The receipt has had its verdict.
    error AlreadyJudged(uint256 dispute);
    /// @notice The receipt's miner was slashed for it by another verifier.
    error AlreadyPunished(bytes32 receipt);
    error WrongPhase(uint256 dispute, Phase phase, Phase needed);
    error TooEarly(uint256 dispute, uint256 drawBlock);
    error NotJuror(uint256 dispute, uint64 node);
    error EmptyCommitment();
    error AlreadyCommitted(uint256 dispute, uint64 juror);
    error NotCommitted(uint256 dispute, uint64 juror);
    error AlreadyRevealed(uint256 dispute, uint64 juror);
    /// @notice Vote and salt are not what this juror committed to in this dispute of this court.
    error WrongReveal(uint256 dispute, uint64 juror);
    error ZeroAddress();
    error NothingToWithdraw(address account);
    error TransferFailed(address to, uint256 amount);
    /// @notice A slash ran out of the gas that the caller gave: send more.
    error OutOfGas();

    // --- jurors ---
    /// @notice Puts an active miner on the list that juries are drawn from, by its weight. Its owner or operator. Who is
    /// drawn and reveals no vote is slashed `absencePenalty`.
    function enlist(uint64 node) external;
    /// @notice Takes a miner off the list; it still serves where it was drawn. Its owner or operator.
    function delist(uint64 node) external;
    /// @notice Sets the weight that an enlisted node is drawn by to its present weight, 0 while it is not active. Anybody.
    function refresh(uint64 node) external;

    // --- disputes ---
    /// @notice Disputes the output of a receipt, for the bond. `signature` is that of an operator that answers for the
    /// receipt's miner now, `evidence` an URI (1 to 256 bytes) of the task's input.
    function open(Receipt calldata receipt, bytes calldata signature, string calldata evidence)
        external
        payable
        returns (uint256 dispute);
    /// @notice Names another place of the task's input, while jurors may still look. Anybody: a verdict should not hang on the
    /// one place that the challenger named.
    function submitEvidence(uint256 dispute, string calldata evidence) external;
    /// @notice Stands up for the accused, for the bond. Anybody.
    function answer(uint256 dispute) external payable;
    /// @notice Draws the jury, or closes the dispute undecided when too few jurors can be drawn. Anybody, from the draw's
    /// block on. Nodes of the accused's owner, of the coordinator's owner, of the challenger and of the answerer, as
    /// owners or as operators, are never drawn.
    function draw(uint256 dispute) external;
    /// @notice Commits a juror to keccak256(abi.encode(chain id, court, dispute, juror, vote, salt)), once. By its owner or
    /// operator. `vote` is the hash of the output that the juror got: the receipt's own when it agrees, 0 when it could
    /// not check. `salt` must be 32 random bytes, else others guess the vote.
    function commit(uint256 dispute, uint64 juror, bytes32 commitment) external;
    /// @notice Opens a commitment. Whoever knows the salt.
    function reveal(uint256 dispute, uint64 juror, bytes32 vote, bytes32 salt) external;
    /// @notice Ends a dispute that is due: credits bonds and fees, slashes whom the verdict convicts and jurors that
    /// revealed nothing. Anybody.
    function finish(uint256 dispute) external;
    /// @notice Tries again the slashes of a closed dispute that the staking contract refused. Anybody.
    function punish(uint256 dispute) external;
    /// @notice Pays out all that the caller was credited.
    function withdraw(address payable to) external returns (uint256 amount);

    // --- reads ---
    function config() external view returns (CourtConfig memory);
    function isEnlisted(uint64 node) external view returns (bool);
    /// @notice What a node is drawn by, in wei.
    function juryWeightOf(uint64 node) external view returns (uint256);
    /// @notice What all enlisted nodes are drawn by, in wei.
    function juryWeight() external view returns (uint256);
    /// @notice Disputes are 1 .. disputeCount.
    function disputeCount() external view returns (uint256);
    /// @notice The last dispute about a receipt's digest, 0 if none.
    function disputeOfReceipt(bytes32 receipt) external view returns (uint256);
    function disputeOf(uint256 dispute) external view returns (DisputeView memory);
    function jurorsOf(uint256 dispute) external view returns (JurorView[] memory);
    function phaseOf(uint256 dispute) external view returns (Phase);
    /// @notice What `withdraw` would pay, in wei.
    function creditOf(address account) external view returns (uint256);
}
