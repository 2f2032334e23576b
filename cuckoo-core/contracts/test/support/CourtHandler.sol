// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {DisputeCourt} from "../../src/DisputeCourt.sol";
import {CourtConfig, DisputeView, JurorView, Outcome, Phase} from "../../src/IDisputeCourt.sol";
import {Receipt, Usage} from "../../src/Receipts.sol";
import {OpenStaking} from "./MarketTest.sol";
import {receiptHash} from "./ReceiptHash.sol";
import {Vm} from "./Vm.sol";

/// @notice Random disputes of one miner's receipts, by accounts that also own the jurors. It notes who put in what and
/// checks that a step is refused exactly when its time is not there.
contract CourtHandler {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 private constant RECEIPTS = 3;
    bytes32 private constant SALT = "salt";

    DisputeCourt public immutable court;
    OpenStaking public immutable staking;
    uint64 public immutable accused;
    uint64 public immutable coordinator;
    uint256 private immutable _key;
    bytes32 private immutable _domain;
    CourtConfig private _config;
    address[] public accounts;
    uint64[] public nodes;

    mapping(address account => uint256) public paidIn;
    mapping(address account => uint256) public paidOut;
    /// @notice The most that an account can have earned with votes and won of other sides' bonds.
    mapping(address account => uint256) public earned;
    /// @notice How often a receipt's miner was slashed for it.
    mapping(bytes32 receipt => uint256) public slashes;
    mapping(uint256 dispute => mapping(uint64 juror => bytes32)) private _votes;

    constructor(
        DisputeCourt court_,
        OpenStaking staking_,
        uint64 accused_,
        uint64 coordinator_,
        uint256 key,
        bytes32 domain,
        address[] memory accounts_,
        uint64[] memory nodes_
    ) {
        (court, staking, accused, coordinator, _key, _domain) = (court_, staking_, accused_, coordinator_, key, domain);
        (accounts, nodes, _config) = (accounts_, nodes_, court_.config());
    }

    function open(uint256 who, uint256 which) external {
        address challenger = account(who);
        Receipt memory r = receipt(which);
        bytes32 digest = digestOf(r);
        (uint8 v, bytes32 rr, bytes32 s) = vm.sign(_key, digest);
        Outcome last = court.disputeOf(court.disputeOfReceipt(digest)).outcome;
        bool free = court.disputeOfReceipt(digest) == 0 || last == Outcome.Undecided || last == Outcome.Unproven;
        vm.deal(challenger, _config.bond);
        vm.prank(challenger);
        try court.open{value: _config.bond}(r, abi.encodePacked(rr, s, v), "input") {
            require(free, "opened twice");
            paidIn[challenger] += _config.bond;
        } catch {
            require(!free, "not opened");
        }
    }

    function answer(uint256 who, uint256 which) external {
        uint256 dispute = pick(which);
        if (dispute == 0) return;
        address answerer = account(who);
        bool due = court.phaseOf(dispute) == Phase.Answer;
        vm.deal(answerer, _config.bond);
        vm.prank(answerer);
        try court.answer{value: _config.bond}(dispute) {
            require(due, "answered out of time");
            paidIn[answerer] += _config.bond;
        } catch {
            require(!due, "not answered");
        }
    }

    function draw(uint256 which, bytes32 beacon) external {
        uint256 dispute = pick(which);
        if (dispute == 0) return;
        DisputeView memory d = court.disputeOf(dispute);
        bool due = d.phase == Phase.Draw && block.number >= d.drawBlock;
        vm.prevrandao(keccak256(abi.encode(beacon)));
        try court.draw(dispute) {
            require(due, "drawn out of time");
            checkJury(dispute, d);
        } catch {
            require(!due, "not drawn");
        }
    }

    function commit(uint256 which, uint256 place, uint256 choice) external {
        (uint256 dispute, JurorView memory juror) = pickJuror(which, place);
        if (juror.node != 0) tryToCommit(dispute, juror, choice);
    }

    function reveal(uint256 which, uint256 place) external {
        (uint256 dispute, JurorView memory juror) = pickJuror(which, place);
        if (juror.node != 0) tryToReveal(dispute, juror);
    }

    /// @dev A whole vote at once, from which some stay away. Random single steps seldom get this far.
    function poll(uint256 which, uint256 choices) external {
        uint256 dispute = pick(which);
        if (dispute == 0 || court.phaseOf(dispute) != Phase.Commit) return;
        JurorView[] memory jurors = court.jurorsOf(dispute);
        for (uint256 i = 0; i < jurors.length; ++i) {
            if (choices >> 8 * i & 7 != 0) tryToCommit(dispute, jurors[i], choices >> 8 * i + 3);
        }
        uint64 deadline = court.disputeOf(dispute).deadline;
        if (block.timestamp < deadline) vm.warp(deadline);
        jurors = court.jurorsOf(dispute);
        for (uint256 i = 0; i < jurors.length; ++i) {
            if (choices >> 8 * i & 63 > 7) tryToReveal(dispute, jurors[i]);
        }
    }

    /// @dev One vote in four is that nothing could be checked, one is the claim, the others agree on the truth.
    function tryToCommit(uint256 dispute, JurorView memory juror, uint256 choice) private {
        bytes32 vote_ = choice % 4 == 0 ? bytes32(0) : choice % 4 == 1 ? bytes32("claimed") : bytes32("truth");
        bytes32 sealed_ = keccak256(abi.encode(block.chainid, address(court), dispute, juror.node, vote_, SALT));
        bool due = court.phaseOf(dispute) == Phase.Commit && !juror.committed;
        vm.prank(ownerOf(juror.node));
        try court.commit(dispute, juror.node, sealed_) {
            require(due, "committed out of time");
            _votes[dispute][juror.node] = vote_;
        } catch {
            require(!due, "not committed");
        }
    }

    function tryToReveal(uint256 dispute, JurorView memory juror) private {
        bool due = court.phaseOf(dispute) == Phase.Reveal && juror.committed && !juror.revealed;
        try court.reveal(dispute, juror.node, _votes[dispute][juror.node], SALT) {
            require(due, "revealed out of time");
        } catch {
            require(!due, "not revealed");
        }
    }

    function finish(uint256 which) external {
        uint256 dispute = pick(which);
        if (dispute != 0) tryToFinish(dispute);
    }

    function tryToFinish(uint256 dispute) public {
        DisputeView memory d = court.disputeOf(dispute);
        JurorView[] memory jurors = court.jurorsOf(dispute);
        bool due = d.phase == Phase.Due;
        uint256[] memory pools = new uint256[](nodes.length);
        for (uint256 i = 0; i < pools.length; ++i) {
            pools[i] = poolsOf(nodes[i]);
        }
        uint256 before = poolsOf(accused);
        try court.finish(dispute) {
            require(due, "finished out of time");
        } catch {
            require(!due, "not finished");
            return;
        }
        bool convicted = court.disputeOf(dispute).outcome == Outcome.Convicted;
        require(before - poolsOf(accused) == least(convicted ? _config.penalty : 0, before), "the accused's slash");
        for (uint256 i = 0; i < pools.length; ++i) {
            uint256 wanted = isAbsent(jurors, nodes[i]) ? _config.absencePenalty : 0;
            require(pools[i] - poolsOf(nodes[i]) == least(wanted, pools[i]), "an absence's slash");
        }
        if (convicted) ++slashes[d.receipt];
        noteEarnings(dispute, d);
    }

    /// @dev Never takes anything that a finish has taken.
    function punish(uint256 which) external {
        uint256 dispute = pick(which);
        if (dispute == 0 || court.phaseOf(dispute) != Phase.Closed) return;
        uint256 before = address(staking).balance - staking.freeStake(staking.BURNT());
        court.punish(dispute);
        require(address(staking).balance - staking.freeStake(staking.BURNT()) == before, "punished twice");
    }

    function withdraw(uint256 who) external {
        address account_ = account(who);
        uint256 credit = court.creditOf(account_);
        if (credit == 0) return;
        vm.prank(account_);
        court.withdraw(payable(address(0xdead)));
        paidOut[account_] += credit;
    }

    // --- the list ---

    function enlist(uint256 which) external {
        uint64 node = nodes[which % nodes.length];
        bool may = !court.isEnlisted(node) && staking.isActive(node);
        vm.prank(ownerOf(node));
        try court.enlist(node) {
            require(may, "enlisted");
        } catch {
            require(!may, "not enlisted");
        }
    }

    function delist(uint256 which) external {
        uint64 node = nodes[which % nodes.length];
        if (which % 3 != 0 || !court.isEnlisted(node)) return;
        vm.prank(ownerOf(node));
        court.delist(node);
        require(court.juryWeightOf(node) == 0, "still drawn");
    }

    function refresh(uint256 which) external {
        uint64 node = nodes[which % nodes.length];
        if (!court.isEnlisted(node)) return;
        court.refresh(node);
        uint256 expected = staking.isActive(node) ? staking.weightOf(node) : 0;
        require(court.juryWeightOf(node) == expected, "not the present weight");
    }

    function vote(uint256 which, uint256 amount) external {
        uint64 node = nodes[which % nodes.length];
        address owner = ownerOf(node);
        amount = amount % 1e24 + 1 ether;
        vm.deal(owner, amount);
        vm.prank(owner);
        staking.stake{value: amount}();
        vm.prank(owner);
        staking.vote(node, amount);
    }

    function unvote(uint256 which, uint256 part) external {
        uint64 node = nodes[which % nodes.length];
        (uint256 shares,) = staking.voteOf(node, ownerOf(node));
        if (shares == 0) return;
        vm.prank(ownerOf(node));
        staking.unvote(node, part % 3 == 0 ? shares : part % shares + 1);
    }

    function wait(uint256 time) external {
        vm.roll(block.number + time % 7);
        vm.warp(block.timestamp + time % (time % 9 == 0 ? 1 days : 4 hours));
    }

    // --- views ---

    function accountCount() external view returns (uint256) {
        return accounts.length;
    }

    function nodeCount() external view returns (uint256) {
        return nodes.length;
    }

    /// @dev No two jurors are one, and none is a party's.
    function checkJury(uint256 dispute, DisputeView memory d) private view {
        JurorView[] memory jurors = court.jurorsOf(dispute);
        require(jurors.length <= _config.jurySize, "too many jurors");
        for (uint256 i = 0; i < jurors.length; ++i) {
            address owner = ownerOf(jurors[i].node);
            require(owner != d.challenger && owner != d.answerer, "a side's juror");
            require(owner != ownerOf(d.accused) && owner != ownerOf(d.coordinator), "a party's juror");
            require(staking.isActive(jurors[i].node), "not active when drawn");
            for (uint256 j = 0; j < i; ++j) {
                require(jurors[i].node != jurors[j].node, "drawn twice");
            }
        }
        require(jurors.length >= _config.quorum || court.phaseOf(dispute) == Phase.Closed, "too few jurors");
    }

    function noteEarnings(uint256 dispute, DisputeView memory d) private {
        JurorView[] memory jurors = court.jurorsOf(dispute);
        for (uint256 i = 0; i < jurors.length; ++i) {
            if (jurors[i].revealed) earned[ownerOf(jurors[i].node)] += _config.juryFee;
        }
        Outcome outcome = court.disputeOf(dispute).outcome;
        if (outcome == Outcome.Acquitted) earned[d.answerer] += _config.bond;
        if (outcome == Outcome.Convicted && d.answerer != address(0)) earned[d.challenger] += _config.bond;
    }

    function isAbsent(JurorView[] memory jurors, uint64 node) private pure returns (bool) {
        for (uint256 i = 0; i < jurors.length; ++i) {
            if (jurors[i].node == node) return !jurors[i].revealed;
        }
        return false;
    }

    function poolsOf(uint64 node) private view returns (uint256) {
        return uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
    }

    function receipt(uint256 which) private view returns (Receipt memory) {
        return Receipt({
            coordinator: coordinator,
            miner: accused,
            lease: bytes32(which % RECEIPTS),
            task: "task",
            modelHash: "model",
            inputHash: "input",
            outputHash: "claimed",
            statesRoot: "states",
            usage: Usage(1, 2, 3)
        });
    }

    function pick(uint256 which) private view returns (uint256) {
        uint256 count = court.disputeCount();
        if (count == 0) return 0;
        // Mostly one of the last, which are still open.
        uint256 recent = count < 3 || which % 5 == 0 ? count : 3;
        return count - which / 5 % recent;
    }

    /// @dev No juror when the dispute has none.
    function pickJuror(uint256 which, uint256 place) private view returns (uint256 dispute, JurorView memory juror) {
        dispute = pick(which);
        JurorView[] memory jurors = court.jurorsOf(dispute);
        if (jurors.length != 0) juror = jurors[place % jurors.length];
    }

    function ownerOf(uint64 node) private view returns (address owner) {
        (, owner) = staking.ownerOf(node);
    }

    function account(uint256 who) private view returns (address) {
        return accounts[who % accounts.length];
    }

    function least(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }

    function digestOf(Receipt memory r) private view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", _domain, receiptHash(r)));
    }
}
