// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";
import {CourtConfig, DisputeView, IDisputeCourt, JurorView, Outcome, Phase} from "./IDisputeCourt.sol";
import {IStaking, NodeKind} from "./IStaking.sol";
import {Jurors} from "./Jurors.sol";
import {Pools} from "./Pools.sol";
import {Receipt, Receipts} from "./Receipts.sol";

/// @title The dispute court for wrong outputs.
/// @notice The randomness of a draw is `block.prevrandao` of the block that it is called in. What is left to bias it: who
/// calls can see the jury of a block shortly before and wait for one that it likes, and who proposes a block can give it up
/// to get another. As anybody may draw, and the first draw counts, a side that is awake and draws in the first block
/// that may leaves the other no choice; a side that sleeps leaves it one try per block until the deadline. A proposer
/// has one more try, at the price of its block.
contract DisputeCourt is Jurors, ReentrancyGuardTransient {
    /// @dev `deadline` is that of the phase, up to the commitments. A juror's bit in `committed` and `revealed` is that of
    /// its place in `jury`. `ballots` holds its commitment, and its vote once revealed.
    struct Case {
        address challenger;
        uint64 accused;
        Outcome outcome;
        address answerer;
        uint64 coordinator;
        uint32 committed;
        uint64 deadline;
        uint64 revealDeadline;
        uint64 drawBlock;
        uint32 revealed;
        bytes32 receipt;
        bytes32 outputHash;
        uint64[] jury;
        mapping(uint256 place => bytes32) ballots;
    }

    uint256 private constant MAX_JURY = 31;
    uint256 private constant MAX_DRAW_BLOCKS = 256;
    uint256 private constant MAX_URI = 256;

    uint256 private immutable _bond;
    uint256 private immutable _penalty;
    uint256 private immutable _juryFee;
    uint256 private immutable _absencePenalty;
    uint64 private immutable _answerTime;
    uint64 private immutable _drawTime;
    uint64 private immutable _commitTime;
    uint64 private immutable _revealTime;
    uint64 private immutable _drawBlocks;
    uint8 private immutable _jurySize;
    uint8 private immutable _quorum;

    /// @inheritdoc IDisputeCourt
    uint256 public override disputeCount;
    /// @inheritdoc IDisputeCourt
    mapping(bytes32 receipt => uint256) public override disputeOfReceipt;
    /// @inheritdoc IDisputeCourt
    mapping(address account => uint256) public override creditOf;
    mapping(uint256 dispute => Case) private _cases;

    constructor(IStaking staking_, CourtConfig memory c) Jurors(staking_) {
        // Chains that have no beacon of their own give a constant, by which everybody could compute juries beforehand.
        if (block.prevrandao < type(uint64).max) revert InvalidConfig("prevrandao");
        _within("jurySize", c.jurySize, 1, MAX_JURY);
        if (c.jurySize % 2 == 0) revert InvalidConfig("jurySize");
        _within("quorum", c.quorum, 1, c.jurySize);
        _within("juryFee", c.juryFee, 1, Pools.MAX_STAKE);
        _within("bond", c.bond, c.jurySize * c.juryFee, Pools.MAX_STAKE);
        _within("penalty", c.penalty, 1, Pools.MAX_STAKE);
        _within("absencePenalty", c.absencePenalty, 1, staking_.minimumVote(NodeKind.Miner));
        _within("drawBlocks", c.drawBlocks, 1, MAX_DRAW_BLOCKS);
        _within("answerTime", c.answerTime, 1, 365 days);
        _within("drawTime", c.drawTime, 1, 365 days);
        _within("commitTime", c.commitTime, 1, 365 days);
        _within("revealTime", c.revealTime, 1, 365 days);
        if (uint256(c.answerTime) + c.drawTime + c.commitTime + c.revealTime >= staking_.unbondingPeriod()) {
            revert InvalidConfig("unbondingPeriod");
        }
        (_bond, _penalty, _juryFee, _absencePenalty) = (c.bond, c.penalty, c.juryFee, c.absencePenalty);
        (_answerTime, _drawTime, _commitTime, _revealTime) = (c.answerTime, c.drawTime, c.commitTime, c.revealTime);
        (_drawBlocks, _jurySize, _quorum) = (c.drawBlocks, c.jurySize, c.quorum);
    }

    /// @inheritdoc IDisputeCourt
    function open(Receipt calldata receipt, bytes calldata signature, string calldata evidence)
        external
        payable
        override
        nonReentrant
        returns (uint256 dispute)
    {
        _checkBond();
        bytes32 digest = Receipts.check(receipt, signature, staking);
        _checkNotJudged(digest);
        (NodeKind kind,) = staking.ownerOf(receipt.coordinator);
        if (kind != NodeKind.Coordinator) revert NotCoordinator(receipt.coordinator);

        dispute = ++disputeCount;
        disputeOfReceipt[digest] = dispute;
        Case storage c = _cases[dispute];
        (c.challenger, c.accused, c.coordinator) = (msg.sender, receipt.miner, receipt.coordinator);
        (c.receipt, c.outputHash) = (digest, receipt.outputHash);
        c.deadline = uint64(block.timestamp) + _answerTime;
        emit Opened(dispute, receipt.miner, msg.sender, digest, receipt, c.deadline);
        _evidence(dispute, evidence);
    }

    /// @inheritdoc IDisputeCourt
    function submitEvidence(uint256 dispute, string calldata evidence) external override {
        Phase phase = phaseOf(dispute);
        if (phase == Phase.None || phase > Phase.Commit) revert WrongPhase(dispute, phase, Phase.Commit);
        _evidence(dispute, evidence);
    }

    /// @inheritdoc IDisputeCourt
    function answer(uint256 dispute) external payable override nonReentrant {
        Case storage c = _inPhase(dispute, Phase.Answer);
        _checkBond();
        c.answerer = msg.sender;
        c.deadline = uint64(block.timestamp) + _drawTime;
        c.drawBlock = uint64(block.number) + _drawBlocks;
        emit Answered(dispute, msg.sender, c.drawBlock, c.deadline);
    }

    /// @inheritdoc IDisputeCourt
    function draw(uint256 dispute) external override nonReentrant {
        Case storage c = _inPhase(dispute, Phase.Draw);
        if (block.number < c.drawBlock) revert TooEarly(dispute, c.drawBlock);
        bytes32 beacon = keccak256(abi.encode(block.prevrandao, block.chainid, address(this), dispute));
        uint64[] memory jury = _drawJury(beacon, _jurySize, _parties(c));
        if (jury.length < _quorum) return _close(dispute, c, Outcome.Undecided, 0);
        c.jury = jury;
        c.deadline = uint64(block.timestamp) + _commitTime;
        c.revealDeadline = c.deadline + _revealTime;
        emit Drawn(dispute, beacon, jury, c.deadline, c.revealDeadline);
    }

    /// @inheritdoc IDisputeCourt
    function commit(uint256 dispute, uint64 juror, bytes32 commitment) external override {
        Case storage c = _inPhase(dispute, Phase.Commit);
        uint256 place = _placeOf(dispute, c, juror);
        _onlyKeeper(juror);
        if (commitment == 0) revert EmptyCommitment();
        if (_has(c.committed, place)) revert AlreadyCommitted(dispute, juror);
        c.committed = _with(c.committed, place);
        c.ballots[place] = commitment;
        emit Committed(dispute, juror, commitment);
        if (c.committed == 2 ** c.jury.length - 1) {
            c.deadline = uint64(block.timestamp);
            c.revealDeadline = c.deadline + _revealTime;
            emit RevealsBegun(dispute, c.revealDeadline);
        }
    }

    /// @inheritdoc IDisputeCourt
    function reveal(uint256 dispute, uint64 juror, bytes32 vote, bytes32 salt) external override {
        Case storage c = _inPhase(dispute, Phase.Reveal);
        uint256 place = _placeOf(dispute, c, juror);
        if (!_has(c.committed, place)) revert NotCommitted(dispute, juror);
        if (_has(c.revealed, place)) revert AlreadyRevealed(dispute, juror);
        bytes32 commitment = keccak256(abi.encode(block.chainid, address(this), dispute, juror, vote, salt));
        if (commitment != c.ballots[place]) revert WrongReveal(dispute, juror);
        c.revealed = _with(c.revealed, place);
        c.ballots[place] = vote;
        emit Revealed(dispute, juror, vote);
    }

    /// @inheritdoc IDisputeCourt
    function finish(uint256 dispute) external override nonReentrant {
        Case storage c = _inPhase(dispute, Phase.Due);
        if (c.answerer == address(0)) return _close(dispute, c, Outcome.Convicted, 0);
        (Outcome outcome, bytes32 vote) = _count(c);
        _close(dispute, c, outcome, vote);
    }

    /// @inheritdoc IDisputeCourt
    function punish(uint256 dispute) external override nonReentrant {
        _punish(dispute, _inPhase(dispute, Phase.Closed));
    }

    /// @inheritdoc IDisputeCourt
    function withdraw(address payable to) external override nonReentrant returns (uint256 amount) {
        if (to == address(0)) revert ZeroAddress();
        amount = creditOf[msg.sender];
        if (amount == 0) revert NothingToWithdraw(msg.sender);
        creditOf[msg.sender] = 0;
        emit Withdrawn(msg.sender, to, amount);
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    /// @inheritdoc IDisputeCourt
    function config() external view override returns (CourtConfig memory) {
        return CourtConfig({
            bond: _bond,
            penalty: _penalty,
            juryFee: _juryFee,
            absencePenalty: _absencePenalty,
            answerTime: _answerTime,
            drawTime: _drawTime,
            commitTime: _commitTime,
            revealTime: _revealTime,
            drawBlocks: _drawBlocks,
            jurySize: _jurySize,
            quorum: _quorum
        });
    }

    /// @inheritdoc IDisputeCourt
    function disputeOf(uint256 dispute) external view override returns (DisputeView memory) {
        Case storage c = _cases[dispute];
        return DisputeView({
            phase: phaseOf(dispute),
            outcome: c.outcome,
            receipt: c.receipt,
            outputHash: c.outputHash,
            accused: c.accused,
            coordinator: c.coordinator,
            challenger: c.challenger,
            answerer: c.answerer,
            deadline: c.deadline,
            revealDeadline: c.revealDeadline,
            drawBlock: c.drawBlock
        });
    }

    /// @inheritdoc IDisputeCourt
    function jurorsOf(uint256 dispute) external view override returns (JurorView[] memory jurors) {
        Case storage c = _cases[dispute];
        jurors = new JurorView[](c.jury.length);
        for (uint256 i = 0; i < jurors.length; ++i) {
            bool revealed = _has(c.revealed, i);
            jurors[i] = JurorView(c.jury[i], _has(c.committed, i), revealed, revealed ? c.ballots[i] : bytes32(0));
        }
    }

    /// @inheritdoc IDisputeCourt
    function phaseOf(uint256 dispute) public view override returns (Phase) {
        Case storage c = _cases[dispute];
        if (c.challenger == address(0)) return Phase.None;
        if (c.outcome != Outcome.None) return Phase.Closed;
        bool over = block.timestamp >= c.deadline;
        if (c.jury.length == 0) {
            if (over) return Phase.Due;
            return c.answerer == address(0) ? Phase.Answer : Phase.Draw;
        }
        if (!over) return Phase.Commit;
        // Due as soon as no commitment is left to open, be it that none was made.
        return block.timestamp >= c.revealDeadline || c.revealed == c.committed ? Phase.Due : Phase.Reveal;
    }

    /// @dev Ends a dispute: first all credits, then the slashes.
    function _close(uint256 dispute, Case storage c, Outcome outcome, bytes32 vote) private {
        c.outcome = outcome;
        emit Finished(dispute, outcome, vote);
        uint256 fees = _payJurors(dispute, c, outcome, vote);
        uint256 forChallenger = _bond;
        uint256 forAnswerer = c.answerer == address(0) ? 0 : _bond;
        if (outcome == Outcome.Acquitted) {
            (forChallenger, forAnswerer) = (0, 2 * _bond - fees);
        } else if (outcome == Outcome.Convicted) {
            (forChallenger, forAnswerer) = (forChallenger + forAnswerer - fees, 0);
        } else if (outcome == Outcome.Unproven) {
            forChallenger -= fees;
        } else {
            (forChallenger, forAnswerer) = (forChallenger - fees / 2, forAnswerer - (fees - fees / 2));
        }
        _credit(dispute, c.challenger, forChallenger);
        _credit(dispute, c.answerer, forAnswerer);
        _punish(dispute, c);
    }

    /// @dev Pays those who voted with the majority, or all who voted when there was none.
    function _payJurors(uint256 dispute, Case storage c, Outcome outcome, bytes32 vote) private returns (uint256 fees) {
        for (uint256 i = 0; i < c.jury.length; ++i) {
            if (!_has(c.revealed, i)) continue;
            if (outcome != Outcome.Undecided && c.ballots[i] != vote) continue;
            // At most 31 calls of a view.
            // slither-disable-next-line calls-loop
            (, address owner) = staking.ownerOf(c.jury[i]);
            _credit(dispute, owner, _juryFee);
            fees += _juryFee;
        }
    }

    function _credit(uint256 dispute, address account, uint256 amount) private {
        if (amount == 0) return;
        creditOf[account] += amount;
        emit Credited(dispute, account, amount);
    }

    /// @dev An absence is burnt whole: nobody gains from making a juror miss its vote, or from missing its own.
    function _punish(uint256 dispute, Case storage c) private {
        if (c.outcome == Outcome.Convicted) {
            (, address wronged) = staking.ownerOf(c.coordinator);
            _slash(dispute, c.accused, _penalty, c.receipt, c.challenger, wronged);
        }
        for (uint256 i = 0; i < c.jury.length; ++i) {
            if (_has(c.revealed, i)) continue;
            bytes32 evidence = keccak256(abi.encode(block.chainid, address(this), dispute, c.jury[i]));
            _slash(dispute, c.jury[i], _absencePenalty, evidence, address(0), address(0));
        }
    }

    /// @dev A refusal keeps nobody's bond: it is noted, and `punish` tries again. But running out of gas is no refusal, else
    /// the accused could finish its dispute with too little of it. The staking contract gives a reason for everything else.
    function _slash(uint256 dispute, uint64 node, uint256 amount, bytes32 evidence, address reporter, address wronged)
        private
    {
        if (staking.evidenceUsed(evidence)) return;
        try staking.slash(node, amount, evidence, reporter, wronged) returns (uint256 taken, uint256) {
            emit Punished(dispute, node, taken);
        } catch (bytes memory reason) {
            if (reason.length == 0) revert OutOfGas();
            emit PunishmentRefused(dispute, node, reason);
        }
    }

    /// @dev The outcome by majority of the revealed votes. Pairing off different votes leaves the only vote that can have one.
    function _count(Case storage c) private view returns (Outcome, bytes32 vote) {
        (uint256 votes, uint256 lead, uint256 jurors) = (0, 0, c.jury.length);
        for (uint256 i = 0; i < jurors; ++i) {
            if (!_has(c.revealed, i)) continue;
            ++votes;
            if (lead == 0) vote = c.ballots[i];
            if (c.ballots[i] == vote) ++lead;
            else --lead;
        }
        uint256 agreed = 0;
        for (uint256 i = 0; i < jurors; ++i) {
            if (_has(c.revealed, i) && c.ballots[i] == vote) ++agreed;
        }
        if (votes < _quorum || 2 * agreed <= votes) return (Outcome.Undecided, 0);
        if (vote == 0) return (Outcome.Unproven, vote);
        return (vote == c.outputHash ? Outcome.Acquitted : Outcome.Convicted, vote);
    }

    /// @dev Whose nodes may not judge: both sides, and those who own a node that a side is the operator of.
    function _parties(Case storage c) private view returns (address[6] memory parties) {
        (, parties[0]) = staking.ownerOf(c.accused);
        (, parties[1]) = staking.ownerOf(c.coordinator);
        (parties[2], parties[3]) = (c.challenger, c.answerer);
        (parties[4], parties[5]) = (_ownerBehind(c.challenger), _ownerBehind(c.answerer));
    }

    /// @dev The owner of the node that an account is the operator of, 0 if none.
    function _ownerBehind(address operator) private view returns (address owner) {
        (uint64 node,) = staking.nodeOfOperator(operator);
        (, owner) = staking.ownerOf(node);
    }

    function _inPhase(uint256 dispute, Phase needed) private view returns (Case storage) {
        Phase phase = phaseOf(dispute);
        if (phase != needed) revert WrongPhase(dispute, phase, needed);
        return _cases[dispute];
    }

    function _checkBond() private view {
        if (msg.value != _bond) revert WrongBond(msg.value, _bond);
    }

    function _checkNotJudged(bytes32 receipt) private view {
        uint256 last = disputeOfReceipt[receipt];
        if (last != 0) {
            Outcome outcome = _cases[last].outcome;
            if (outcome == Outcome.None) revert InDispute(last);
            if (outcome == Outcome.Acquitted || outcome == Outcome.Convicted) revert AlreadyJudged(last);
        }
        if (staking.evidenceUsed(receipt)) revert AlreadyPunished(receipt);
    }

    function _evidence(uint256 dispute, string calldata uri) private {
        uint256 length = bytes(uri).length;
        if (length == 0 || length > MAX_URI) revert InvalidURI(length, MAX_URI);
        emit Evidence(dispute, msg.sender, uri);
    }

    function _placeOf(uint256 dispute, Case storage c, uint64 juror) private view returns (uint256) {
        for (uint256 place = 0; place < c.jury.length; ++place) {
            if (c.jury[place] == juror) return place;
        }
        revert NotJuror(dispute, juror);
    }

    function _within(string memory setting, uint256 value, uint256 least, uint256 most) private pure {
        if (value < least || value > most) revert InvalidConfig(setting);
    }

    function _has(uint32 places, uint256 place) private pure returns (bool) {
        return places >> place & 1 != 0;
    }

    function _with(uint32 places, uint256 place) private pure returns (uint32) {
        // A jury has at most 31 places.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32(places | 2 ** place);
    }
}
