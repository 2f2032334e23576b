// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IPayments, Voucher} from "../../src/IPayments.sol";
import {NodeKind} from "../../src/IStaking.sol";
import {Receipt} from "../../src/Receipts.sol";
import {UnpaidVoucherVerifier} from "../../src/UnpaidVoucherVerifier.sol";
import {VerifierTest} from "./VerifierTest.sol";

/// @notice Two coordinators of Alice that sign more than they pay, two miners of Bob and Carol that demand it or sign
/// twice, and what each action must have done, worked out apart from the contracts.
contract VerifierHandler is VerifierTest {
    struct Demanded {
        Voucher voucher;
        bytes signature;
        uint256 collectableAt;
    }

    uint64[2] public coordinators;
    uint64[2] public miners;
    address[2] public minerOwners;
    mapping(uint64 node => uint256[]) private _keys;
    mapping(bytes32 demand => bool) private _known;
    Demanded[] private _demands;
    uint256[] private _tickets;

    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public promised;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public fromEscrow;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) public fromBond;
    mapping(uint64 miner => uint256) public paidOut;
    mapping(uint64 miner => uint256) public credited;
    mapping(bytes32 evidence => uint256) public slashes;
    bytes32[] public evidences;

    constructor() {
        VerifierTest.setUp();
        (coordinators[0], miners[0], minerOwners) = (coordinator, miner, [bob, carol]);
        (uint256 second, uint256 third) = (newKey(), newKey());
        coordinators[1] = register(NodeKind.Coordinator, alice, second);
        miners[1] = register(NodeKind.Miner, carol, third);
        _keys[coordinators[0]].push(coordinatorKey);
        _keys[coordinators[1]].push(second);
        _keys[miners[0]].push(minerKey);
        _keys[miners[1]].push(third);
    }

    /// @dev The constructor did it.
    function setUp() public override {}

    function market() external view returns (address, address, address) {
        return (address(staking), address(payments), address(equivocation));
    }

    function evidenceCount() external view returns (uint256) {
        return evidences.length;
    }

    // --- escrow ---

    function deposit(uint256 which, uint256 amount) external {
        coordinator = coordinators[which % 2];
        deposit(bound(amount, 1, 1e22));
    }

    function withdraw(uint256 which, uint256 amount) external {
        coordinator = coordinators[which % 2];
        (uint256 escrow, uint256 leaving, uint64 unlocksAt) = payments.escrowOf(coordinator);
        if (leaving != 0 && block.timestamp >= unlocksAt) {
            vm.prank(alice);
            payments.withdrawEscrow(coordinator, payable(alice));
        } else if (escrow != 0) {
            vm.prank(alice);
            payments.requestWithdrawal(coordinator, bound(amount, 1, escrow));
        }
    }

    function redeem(uint256 which, uint256 whose, uint256 cumulative, uint256 whichKey) external {
        (Voucher memory voucher, bytes memory signature) = sign(which, whose, cumulative, whichKey);
        (uint256 due, uint256 escrow) = (dueOf(voucher), escrowOf(voucher.coordinator));
        try payments.redeem(voucher, signature) returns (uint256 paid) {
            require(due != 0 && answers(voucher, signature), "paid without being due");
            require(paid == (due < escrow ? due : escrow), "paid other than there was");
            fromEscrow[voucher.coordinator][voucher.miner] += paid;
        } catch {
            require(due == 0 || escrow == 0 || !answers(voucher, signature), "refused though due and covered");
        }
    }

    function payOut(uint256 whose) external {
        uint64 node = miners[whose % 2];
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(node);
        if (toOwner == 0) return;
        payments.collect(node);
        paidOut[node] += toOwner + toStakers;
    }

    // --- unpaid vouchers ---

    function demand(uint256 which, uint256 whose, uint256 cumulative, uint256 whichKey) external {
        (Voucher memory voucher, bytes memory signature) = sign(which, whose, cumulative, whichKey);
        bytes32 id = keccak256(abi.encode(voucher, signature));
        bool allowed = answers(voucher, signature) && dueOf(voucher) > escrowOf(voucher.coordinator) && !_known[id];
        try unpaid.demand(voucher, signature) {
            require(allowed, "demanded without cause");
            _known[id] = true;
            _demands.push(Demanded(voucher, signature, block.timestamp + NOTICE));
        } catch {
            require(!allowed, "a demand refused");
        }
    }

    function collect(uint256 which) external {
        if (_demands.length == 0) return;
        Demanded memory entry = _demands[which % _demands.length];
        Voucher memory voucher = entry.voucher;
        (uint256 due, uint256 escrow) = (dueOf(voucher), escrowOf(voucher.coordinator));
        uint256 covered = answers(voucher, entry.signature) ? (due < escrow ? due : escrow) : 0;
        uint256 owners = ownersStake(voucher.coordinator);
        uint256 total = stakeOf(voucher.coordinator);
        address owner = minerOwners[voucher.miner == miners[0] ? 0 : 1];
        uint256 free = staking.freeStake(owner);

        try unpaid.collect(voucher, entry.signature) returns (uint256 escrowPaid, uint256 bondPaid) {
            require(block.timestamp >= entry.collectableAt, "collected before the notice was over");
            require(due != 0 && escrowPaid == covered, "the escrow did not pay first");
            require(bondPaid <= due - covered, "the bond paid more than was due");
            uint256 taken = total - stakeOf(voucher.coordinator);
            free = staking.freeStake(owner) - free;
            require(bondPaid != 0 || (taken == 0 && free == 0), "a slash without a shortfall");
            require(free - bondPaid <= taken * REPORTER_BPS / 10_000, "the reporter got more than its part");
            // A wei of rounding per pool and ticket.
            uint256 rounding = _tickets.length + 4;
            require(free <= owners - ownersStake(voucher.coordinator) + rounding, "paid out of others' votes");
            bool reaches = owners == total && slashFor(due - covered) <= total;
            require(!reaches || bondPaid == due - covered, "paid less than the bond holds");
            fromEscrow[voucher.coordinator][voucher.miner] += escrowPaid;
            fromBond[voucher.coordinator][voucher.miner] += bondPaid;
            credited[voucher.miner] += bondPaid;
        } catch (bytes memory reason) {
            if (block.timestamp < entry.collectableAt || due == 0) return;
            // forge-lint: disable-next-line(unsafe-typecast)
            require(bytes4(reason) == UnpaidVoucherVerifier.BondExhausted.selector, "kept from collecting");
            // Less than a wei for the miner, of what the owner would lose.
            uint256 wanted = slashFor(due - covered);
            if (wanted > total) wanted = total;
            require(total == 0 || wanted * owners / total <= 8 + _tickets.length, "not exhausted");
        }
    }

    // --- equivocation ---

    function report(uint256 which, uint256 whose, uint256 lease, uint256 outputs, uint256 keys) external {
        (coordinator, miner) = (coordinators[which % 2], miners[whose % 2]);
        bytes32 id = bytes32(lease % 4);
        Receipt memory one = receiptOf(id, bytes32(outputs % 3));
        Receipt memory other = receiptOf(id, bytes32((outputs >> 64) % 3));
        (uint256 key, uint256 otherKey) = (keyOf(miner, keys), keyOf(miner, keys >> 64));
        bool fault = one.outputHash != other.outputHash && accountable(miner, key) && accountable(miner, otherKey);
        bytes32 evidence = equivocation.evidenceOf(miner, coordinator, id);
        (bytes memory a, bytes memory b) = (signReceipt(key, one), signReceipt(otherKey, other));
        uint256 total = stakeOf(miner);
        vm.prank(reporter);
        try equivocation.report(one, a, other, b) returns (uint256 taken) {
            require(fault, "slashed without a fault");
            require(taken == (total < PENALTY ? total : PENALTY), "took other than the penalty");
            if (slashes[evidence] == 0) evidences.push(evidence);
            ++slashes[evidence];
        } catch {
            require(!fault || slashes[evidence] == 1 || total == 0, "a fault without a slash");
        }
    }

    // --- stake and keys ---

    function vote(uint256 who, uint256 which, uint256 amount) external {
        vote(who % 3 == 0 ? reporter : alice, anyNode(which), bound(amount, 1, 1e22));
    }

    function unvote(uint256 who, uint256 which, uint256 shares) external {
        (address staker, uint64 node) = (who % 3 == 0 ? reporter : alice, anyNode(which));
        (uint256 held,) = staking.voteOf(node, staker);
        if (held != 0) _tickets.push(unvote(staker, node, shares % 3 == 0 ? held : bound(shares, 1, held)));
    }

    function release(uint256 which) external {
        if (_tickets.length == 0) return;
        uint256 index = which % _tickets.length;
        (, address staker,, uint64 unlocksAt) = staking.ticketOf(_tickets[index]);
        if (block.timestamp < unlocksAt) return;
        vm.prank(staker);
        staking.release(_tickets[index]);
        _tickets[index] = _tickets[_tickets.length - 1];
        _tickets.pop();
    }

    function rotate(uint256 which) external {
        uint64 node = anyNode(which);
        (NodeKind kind, address owner) = staking.ownerOf(node);
        _keys[node].push(rotate(node, kind, owner));
    }

    function wait(uint256 time) external {
        vm.warp(block.timestamp + (time % 4 == 0 ? UNBONDING : bound(time, 1, NOTICE)));
    }

    // --- what it is measured by ---

    /// @dev A voucher of some pair, signed by a key that the coordinator has or had.
    function sign(uint256 which, uint256 whose, uint256 cumulative, uint256 whichKey)
        private
        returns (Voucher memory voucher, bytes memory signature)
    {
        (uint64 from, uint64 to) = (coordinators[which % 2], miners[whose % 2]);
        // Mostly a little more than was redeemed, or an older voucher; now and then all there is.
        uint256 next = cumulative % 5e21;
        if (cumulative % 5 != 0) next += payments.redeemed(from, to);
        if (cumulative % 64 == 0) next = type(uint256).max;
        voucher = Voucher(from, to, next);
        uint256 key = keyOf(from, whichKey);
        signature = signVoucher(key, voucher);
        if (accountable(from, key) && next > promised[from][to]) promised[from][to] = next;
    }

    function dueOf(Voucher memory voucher) private view returns (uint256) {
        uint256 redeemed = payments.redeemed(voucher.coordinator, voucher.miner);
        return voucher.cumulative > redeemed ? voucher.cumulative - redeemed : 0;
    }

    function escrowOf(uint64 node) private view returns (uint256 amount) {
        (amount,,) = payments.escrowOf(node);
    }

    function answers(Voucher memory voucher, bytes memory signature) private view returns (bool) {
        uint256[] memory keys = _keys[voucher.coordinator];
        for (uint256 i = 0; i < keys.length; ++i) {
            if (keccak256(signVoucher(keys[i], voucher)) == keccak256(signature)) {
                return accountable(voucher.coordinator, keys[i]);
            }
        }
        return false;
    }

    function accountable(uint64 node, uint256 key) private view returns (bool) {
        (uint64 of_,) = staking.nodeOfOperator(vm.addr(key));
        return of_ == node;
    }

    /// @dev Mostly the present key.
    function keyOf(uint64 node, uint256 which) private view returns (uint256) {
        uint256[] storage keys = _keys[node];
        return which % 4 == 0 ? keys[(which >> 8) % keys.length] : keys[keys.length - 1];
    }

    function slashFor(uint256 due) private view returns (uint256) {
        uint256 most = 1e40;
        return ((due < most ? due : most) * 10_000 + staking.wrongedBps() - 1) / staking.wrongedBps();
    }

    /// @dev What Alice has in both pools of a node, in wei.
    function ownersStake(uint64 node) private view returns (uint256 sum) {
        (, sum) = staking.voteOf(node, alice);
        for (uint256 i = 0; i < _tickets.length; ++i) {
            (uint64 of_, address staker, uint256 amount,) = staking.ticketOf(_tickets[i]);
            if (of_ == node && staker == alice) sum += amount;
        }
    }

    function anyNode(uint256 which) private view returns (uint64) {
        return which % 3 == 0 ? miners[(which >> 8) % 2] : coordinators[(which >> 8) % 2];
    }
}
