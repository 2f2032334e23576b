// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {DisputeCourt} from "../../src/DisputeCourt.sol";
import {CourtConfig, DisputeView, IDisputeCourt, JurorView, Outcome, Phase} from "../../src/IDisputeCourt.sol";
import {IStaking, NodeKind} from "../../src/IStaking.sol";
import {Receipt, Usage} from "../../src/Receipts.sol";
import {MarketTest} from "./MarketTest.sol";

/// @notice The court with its draw laid open.
contract OpenCourt is DisputeCourt {
    constructor(IStaking staking_, CourtConfig memory config_) DisputeCourt(staking_, config_) {}

    function drawJury(bytes32 beacon, uint256 size, address[6] memory barred) external returns (uint64[] memory) {
        return _drawJury(beacon, size, barred);
    }
}

/// @notice A market with a court: the miner `accused` of alice, the coordinator of carol, and jurors of their own owners.
/// Bob challenges, erin answers.
abstract contract CourtTest is MarketTest {
    uint256 internal constant BOND = 1000 ether;
    uint256 internal constant PENALTY = 10_000 ether;
    uint256 internal constant FEE = 60 ether;
    uint256 internal constant ABSENCE = 200 ether;
    uint64 internal constant ANSWER_TIME = 1 days;
    uint64 internal constant DRAW_TIME = 12 hours;
    uint64 internal constant COMMIT_TIME = 2 days;
    uint64 internal constant REVEAL_TIME = 1 days;
    uint64 internal constant DRAW_BLOCKS = 4;
    uint8 internal constant JURY = 5;
    uint8 internal constant QUORUM = 3;
    bytes32 internal constant TRUTH = "what the model gives";
    bytes32 internal constant CLAIMED = "what the miner claims";
    bytes32 internal constant SALT = "salt";
    string internal constant URI = "https://store.example/input";

    address internal immutable erin = vm.addr(0xe1);

    OpenCourt internal court;
    uint256 internal accusedKey;
    uint64 internal accused;
    uint64 internal coordinator;

    function setUp() public virtual override {
        super.setUp();
        vm.prevrandao(keccak256("a beacon"));
        vm.roll(1000);
        court = new OpenCourt(staking, courtConfig());
        authorise(address(court));
        accusedKey = newKey();
        accused = register(NodeKind.Miner, alice, accusedKey);
        vote(alice, accused, MINER_MINIMUM);
        coordinator = register(NodeKind.Coordinator, carol, newKey());
        vote(carol, coordinator, COORDINATOR_MINIMUM);
        nextEpoch();
        vm.deal(bob, 100 * BOND);
        vm.deal(erin, 100 * BOND);
    }

    function courtConfig() internal pure returns (CourtConfig memory) {
        return CourtConfig({
            bond: BOND,
            penalty: PENALTY,
            juryFee: FEE,
            absencePenalty: ABSENCE,
            answerTime: ANSWER_TIME,
            drawTime: DRAW_TIME,
            commitTime: COMMIT_TIME,
            revealTime: REVEAL_TIME,
            drawBlocks: DRAW_BLOCKS,
            jurySize: JURY,
            quorum: QUORUM
        });
    }

    function jurorOwner(uint256 i) internal pure returns (address) {
        return vm.addr(0x10_0000 + i);
    }

    /// @dev `count` enlisted jurors of weight `MINER_MINIMUM`, each of its own owner.
    function enlistJurors(uint256 count) internal returns (uint64[] memory nodes) {
        nodes = new uint64[](count);
        for (uint256 i = 0; i < count; ++i) {
            nodes[i] = register(NodeKind.Miner, jurorOwner(i), newKey());
            vote(jurorOwner(i), nodes[i], MINER_MINIMUM);
        }
        nextEpoch();
        for (uint256 i = 0; i < count; ++i) {
            enlist(nodes[i]);
        }
    }

    function enlist(uint64 node) internal {
        vm.prank(ownerOf(node));
        court.enlist(node);
    }

    function ownerOf(uint64 node) internal view returns (address owner) {
        (, owner) = staking.ownerOf(node);
    }

    function receipt() internal view returns (Receipt memory) {
        return Receipt({
            coordinator: coordinator,
            miner: accused,
            lease: "lease",
            task: "task",
            modelHash: "model",
            inputHash: "input",
            outputHash: CLAIMED,
            statesRoot: "states",
            usage: Usage(1, 2, 3)
        });
    }

    function digestOf(Receipt memory r) internal view returns (bytes32) {
        return receiptDigest(r, block.chainid, address(staking));
    }

    function open(Receipt memory r) internal returns (uint256) {
        bytes memory signed = signature(accusedKey, digestOf(r));
        vm.prank(bob);
        return court.open{value: BOND}(r, signed, URI);
    }

    function answer(uint256 dispute) internal {
        vm.prank(erin);
        court.answer{value: BOND}(dispute);
    }

    function draw(uint256 dispute) internal returns (uint64[] memory jury) {
        vm.roll(block.number + DRAW_BLOCKS);
        court.draw(dispute);
        JurorView[] memory jurors = court.jurorsOf(dispute);
        jury = new uint64[](jurors.length);
        for (uint256 i = 0; i < jury.length; ++i) {
            jury[i] = jurors[i].node;
        }
    }

    /// @dev A dispute whose jury is drawn.
    function drawn() internal returns (uint256 dispute, uint64[] memory jury) {
        dispute = open(receipt());
        answer(dispute);
        jury = draw(dispute);
    }

    function commitment(uint256 dispute, uint64 juror, bytes32 vote_, bytes32 salt) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(court), dispute, juror, vote_, salt));
    }

    function commit(uint256 dispute, uint64 juror, bytes32 vote_) internal {
        bytes32 sealed_ = commitment(dispute, juror, vote_, SALT);
        vm.prank(ownerOf(juror));
        court.commit(dispute, juror, sealed_);
    }

    /// @dev The first jurors vote, one each; the others are absent. Ends when the dispute can be finished.
    function poll(uint256 dispute, uint64[] memory jury, bytes32[] memory cast) internal {
        for (uint256 i = 0; i < cast.length; ++i) {
            commit(dispute, jury[i], cast[i]);
        }
        if (cast.length < jury.length) pass(court.disputeOf(dispute).deadline);
        for (uint256 i = 0; i < cast.length; ++i) {
            court.reveal(dispute, jury[i], cast[i], SALT);
        }
    }

    function votes(bytes32 a, bytes32 b, bytes32 c) internal pure returns (bytes32[] memory list) {
        list = new bytes32[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function votes(bytes32 a, bytes32 b, bytes32 c, bytes32 d, bytes32 e)
        internal
        pure
        returns (bytes32[] memory list)
    {
        list = new bytes32[](5);
        (list[0], list[1], list[2], list[3], list[4]) = (a, b, c, d, e);
    }

    /// @dev A dispute up to its verdict.
    function judged(bytes32[] memory votes_) internal returns (uint256 dispute, uint64[] memory jury) {
        (dispute, jury) = drawn();
        poll(dispute, jury, votes_);
        court.finish(dispute);
    }

    function pass(uint64 deadline) internal {
        vm.warp(deadline);
    }

    function assertPhase(uint256 dispute, Phase phase) internal view {
        vm.assertEq(uint256(court.phaseOf(dispute)), uint256(phase), "phase");
    }

    function assertOutcome(uint256 dispute, Outcome outcome) internal view {
        DisputeView memory view_ = court.disputeOf(dispute);
        vm.assertEq(uint256(view_.outcome), uint256(outcome), "outcome");
        vm.assertEq(uint256(view_.phase), uint256(Phase.Closed), "closed");
    }

    function expectWrongPhase(uint256 dispute, Phase phase, Phase needed) internal {
        vm.expectRevert(abi.encodeWithSelector(IDisputeCourt.WrongPhase.selector, dispute, phase, needed));
    }
}
