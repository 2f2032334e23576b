// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Voucher} from "../../src/IPayments.sol";
import {Payments} from "../../src/Payments.sol";
import {Wallet} from "./Receivers.sol";
import {Vm} from "./Vm.sol";

/// @notice Two coordinators that pay two miners, one of which refuses money now and then. An action that has nothing to act
/// on deposits, so every call does something.
contract PaymentsHandler {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("Voucher(uint64 coordinator,uint64 miner,uint256 cumulative)");

    Payments private immutable payments;
    address private immutable owner;
    address private immutable verifier;
    address private immutable minersOwner;
    Wallet private immutable wallet;
    uint64 private immutable delay;
    bytes32 private immutable _domain;
    uint256[2] private _keys;

    mapping(uint64 coordinator => uint256) private deposited;
    mapping(uint64 coordinator => uint256) private withdrawn;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) private promised;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) private paid;
    mapping(uint64 coordinator => mapping(uint64 miner => uint256)) private fromBond;
    mapping(uint64 miner => uint256) private collected;
    mapping(uint64 miner => uint256) private forwarded;

    /// @dev Coordinators are nodes 1 and 2 of `owner_`, miners 3 of `minersOwner_` and 4 of `wallet_`.
    constructor(
        Payments payments_,
        address owner_,
        address verifier_,
        address minersOwner_,
        Wallet wallet_,
        bytes32 domain,
        uint256[2] memory keys
    ) {
        (payments, owner, verifier, minersOwner, wallet) = (payments_, owner_, verifier_, minersOwner_, wallet_);
        (_domain, _keys, delay) = (domain, keys, payments_.withdrawalDelay());
    }

    // --- actions ---

    function deposit(uint256 which, uint256 amount) public {
        uint64 coordinator = coordinatorOf(which);
        amount = amount % 1e24 + 1;
        vm.deal(address(this), amount);
        payments.deposit{value: amount}(coordinator);
        deposited[coordinator] += amount;
    }

    /// @dev A voucher for more than was redeemed, or once in a while for less.
    function redeem(uint256 which, uint256 whose, uint256 more) external {
        Voucher memory v = Voucher(coordinatorOf(which), minerOf(whose), 0);
        uint256 before = payments.redeemed(v.coordinator, v.miner);
        v.cumulative = more % 8 == 0 ? more % (before + 1) : before + more % 1e24;
        if (v.cumulative > promised[v.coordinator][v.miner]) promised[v.coordinator][v.miner] = v.cumulative;
        bytes memory signature = sign(v);
        (uint256 escrow,,) = payments.escrowOf(v.coordinator);
        try payments.redeem(v, signature) returns (uint256 amount) {
            uint256 due = v.cumulative - before;
            require(amount == (due < escrow ? due : escrow) && amount != 0, "paid other than due and there");
            paid[v.coordinator][v.miner] += amount;
        } catch {
            require(v.cumulative <= before || escrow == 0, "refused though due and covered");
        }
    }

    function payFromBond(uint256 which, uint256 whose, uint256 amount) external {
        (uint64 coordinator, uint64 miner) = (coordinatorOf(which), minerOf(whose));
        amount = amount % 1e24;
        vm.prank(verifier);
        payments.noteBondPayment(coordinator, miner, amount);
        fromBond[coordinator][miner] += amount;
    }

    function requestWithdrawal(uint256 which, uint256 amount) external {
        uint64 coordinator = coordinatorOf(which);
        (uint256 escrow,,) = payments.escrowOf(coordinator);
        if (escrow == 0) return deposit(which, amount);
        amount = amount % escrow + 1;
        vm.prank(owner);
        payments.requestWithdrawal(coordinator, amount);
        (uint256 same, uint256 leaving, uint64 unlocksAt) = payments.escrowOf(coordinator);
        require(same == escrow && leaving == amount && unlocksAt == block.timestamp + delay, "other than requested");
    }

    function withdrawEscrow(uint256 which) external {
        uint64 coordinator = coordinatorOf(which);
        (, uint256 leaving, uint64 unlocksAt) = payments.escrowOf(coordinator);
        vm.prank(owner);
        try payments.withdrawEscrow(coordinator, payable(owner)) returns (uint256 amount) {
            require(amount == leaving && block.timestamp >= unlocksAt, "escrow left before its time");
            withdrawn[coordinator] += amount;
        } catch {
            require(leaving == 0 || block.timestamp < unlocksAt, "escrow kept after its time");
        }
    }

    /// @dev The wallet's owner part cannot be paid while it refuses.
    function collect(uint256 whose) external {
        uint64 miner = minerOf(whose);
        (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
        try payments.collect(miner) returns (uint256 amount) {
            require(amount == toOwner && amount != 0, "collected other than shown");
            collected[miner] += toOwner;
            forwarded[miner] += toStakers;
        } catch {
            require(toOwner == 0 || (miner == 4 && !wallet.accepts()), "earnings kept");
        }
    }

    function accept(bool accepts) external {
        wallet.setAccepts(accepts);
    }

    function wait(uint256 time) external {
        vm.warp(block.timestamp + time % (2 * delay));
    }

    // --- what holds after any of them ---

    function check() external view {
        uint256 balance;
        for (uint64 coordinator = 1; coordinator <= 2; ++coordinator) {
            (uint256 amount, uint256 leaving,) = payments.escrowOf(coordinator);
            uint256 gone = withdrawn[coordinator] + paid[coordinator][3] + paid[coordinator][4];
            require(amount == deposited[coordinator] - gone, "an escrow is not its deposits less what left it");
            require(leaving <= amount, "more leaves than there is");
            balance += amount;
            for (uint64 miner = 3; miner <= 4; ++miner) {
                uint256 redeemed = payments.redeemed(coordinator, miner);
                uint256 bond = fromBond[coordinator][miner];
                require(redeemed == paid[coordinator][miner] + bond, "redeemed is not what was paid");
                require(redeemed <= promised[coordinator][miner] + bond, "redeemed was not promised");
            }
        }
        for (uint64 miner = 3; miner <= 4; ++miner) {
            (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
            balance += toOwner + toStakers;
            uint256 had = collected[miner] + forwarded[miner] + toOwner + toStakers;
            require(had == paid[1][miner] + paid[2][miner], "what was paid is neither received nor to be collected");
        }
        require(address(payments).balance == balance, "the balance is not escrow and earnings");
        require(minersOwner.balance == collected[3], "the first miner's owner");
        require(address(wallet).balance == collected[4], "the second miner's owner");
        require(address(payments.staking()).balance == forwarded[3] + forwarded[4], "the stakers' part");
        require(owner.balance == withdrawn[1] + withdrawn[2], "the coordinators' owner");
    }

    function sign(Voucher memory v) private view returns (bytes memory) {
        bytes32 hash = keccak256(abi.encode(VOUCHER_TYPEHASH, v.coordinator, v.miner, v.cumulative));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", _domain, hash));
        (uint8 sv, bytes32 r, bytes32 s) = vm.sign(_keys[v.coordinator - 1], digest);
        return abi.encodePacked(r, s, sv);
    }

    function coordinatorOf(uint256 which) private pure returns (uint64) {
        return which % 2 == 0 ? 1 : 2;
    }

    function minerOf(uint256 whose) private pure returns (uint64) {
        return whose % 2 == 0 ? 3 : 4;
    }
}
