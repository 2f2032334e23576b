// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IPayments, Voucher} from "./IPayments.sol";
import {IStaking, NodeKind} from "./IStaking.sol";
import {Payments} from "./Payments.sol";

/// @title A coordinator's bond answers for what it signed: pays due vouchers that its escrow does not cover.
/// @notice `demand` gives the coordinator notice; whoever pays the voucher from escrow in that time ends it. After it,
/// `collect` pays from escrow what that can, and the rest from the bond. Anyone may send both. Amounts are wei of CAI,
/// times seconds. There is no admin and no money here.
///
/// A demand is for one signed voucher and never removed: it is over when the voucher is redeemed. So a demand for an old,
/// small voucher is in no one's way, and none can be restarted. Owed is what the highest voucher adds to what was redeemed,
/// so demands for several vouchers of a pair never add up.
///
/// The miner's owner is the reporter as well as the wronged party. Only the miner had the voucher; if the reporter's part
/// were the sender's, copying a waiting transaction would earn it.
contract UnpaidVoucherVerifier {
    event Demanded(
        uint64 indexed coordinator, uint64 indexed miner, uint256 cumulative, uint256 due, uint64 collectableAt
    );
    event Collected(uint64 indexed coordinator, uint64 indexed miner, uint256 fromEscrow, uint256 fromBond);

    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);
    error NotCoordinator(uint64 node);
    error NotMiner(uint64 node);
    /// @notice The voucher adds nothing to what was redeemed.
    error NothingDue(uint256 cumulative, uint256 redeemed);
    /// @notice The escrow holds what is due: redeem the voucher.
    error CoveredByEscrow(uint256 due, uint256 escrow);
    /// @notice This voucher was demanded already.
    error AlreadyDemanded(uint64 collectableAt);
    /// @notice This voucher was never demanded with this signature.
    error NotDemanded();
    error NoticeRunning(uint64 collectableAt);
    /// @notice Nothing of the bond would reach the miner, so none is taken. What is due stays due.
    error BondExhausted(uint64 coordinator, uint256 due);

    bytes32 private constant EVIDENCE_TYPEHASH =
        keccak256("UnpaidVoucher(uint64 coordinator,uint64 miner,uint256 redeemed)");
    uint256 private constant ALL_BPS = 10_000;

    /// @notice Where vouchers are redeemed.
    IPayments public immutable payments;
    /// @notice Where nodes are registered and slashed.
    IStaking public immutable staking;
    /// @notice Seconds from a demand until it can be collected: shorter than unbonding, so that stake which was bound when
    /// the demand was made is still there.
    uint64 public immutable noticePeriod;
    uint256 private immutable _wrongedBps;

    mapping(bytes32 demand => uint64) private _collectableAt;

    constructor(Payments payments_, uint64 noticePeriod_) {
        if (address(payments_).code.length == 0) revert InvalidConfig("payments");
        payments = payments_;
        staking = payments_.staking();
        if (noticePeriod_ == 0 || noticePeriod_ >= staking.unbondingPeriod()) revert InvalidConfig("noticePeriod");
        noticePeriod = noticePeriod_;
        _wrongedBps = staking.wrongedBps();
        if (_wrongedBps == 0) revert InvalidConfig("wrongedBps");
    }

    /// @notice Gives a coordinator notice of a voucher that owes more than its escrow holds. `signature` is an EIP-712
    /// signature by an operator accountable for the coordinator, as `Payments.redeem` takes it.
    function demand(Voucher calldata voucher, bytes calldata signature) external {
        (NodeKind kind,) = staking.ownerOf(voucher.coordinator);
        if (kind != NodeKind.Coordinator) revert NotCoordinator(voucher.coordinator);
        (kind,) = staking.ownerOf(voucher.miner);
        if (kind != NodeKind.Miner) revert NotMiner(voucher.miner);
        bytes32 id = _idOf(voucher, signature);
        if (_collectableAt[id] != 0) revert AlreadyDemanded(_collectableAt[id]);
        uint256 due = _due(voucher);
        uint256 escrow = _escrow(voucher.coordinator);
        if (due <= escrow) revert CoveredByEscrow(due, escrow);
        payments.checkVoucher(voucher, signature);

        uint64 noticeEnds = uint64(block.timestamp) + noticePeriod;
        _collectableAt[id] = noticeEnds;
        emit Demanded(voucher.coordinator, voucher.miner, voucher.cumulative, due, noticeEnds);
    }

    /// @notice After the notice, pays what a demanded voucher still owes: from escrow into the miner's earnings, and what
    /// the escrow lacks from the coordinator's bond as free stake of the miner's owner. Call it again when the bond did not
    /// reach and has grown.
    /// @dev The signer may have stopped being accountable since the demand. Then the escrow cannot pay this voucher any
    /// more, and the bond pays all of it: else a coordinator could rotate its key, wait, and only then refill its escrow.
    /// It can still pay in time, with a signature of its new key.
    function collect(Voucher calldata voucher, bytes calldata signature)
        external
        returns (uint256 fromEscrow, uint256 fromBond)
    {
        uint64 noticeEnds = collectableAt(voucher, signature);
        if (noticeEnds == 0) revert NotDemanded();
        if (block.timestamp < noticeEnds) revert NoticeRunning(noticeEnds);
        uint256 due = _due(voucher);
        if (_escrow(voucher.coordinator) != 0 && _isAccountable(voucher, signature)) {
            fromEscrow = payments.redeem(voucher, signature);
            due -= fromEscrow;
        }
        if (due != 0) fromBond = _takeFromBond(voucher.coordinator, voucher.miner, due);
        // Neither `Staking` nor `Payments` calls anybody back on this way.
        // slither-disable-next-line reentrancy-events
        emit Collected(voucher.coordinator, voucher.miner, fromEscrow, fromBond);
    }

    /// @notice When a demanded voucher can be collected; 0 when it was never demanded with this signature.
    function collectableAt(Voucher calldata voucher, bytes calldata signature) public view returns (uint64) {
        return _collectableAt[_idOf(voucher, signature)];
    }

    /// @notice The evidence id of a bond payment, for `Staking.evidenceUsed`, given what was redeemed before it: each
    /// payment raises that, so every id is new.
    function evidenceOf(uint64 coordinator, uint64 miner, uint256 redeemed) public pure returns (bytes32) {
        return keccak256(abi.encode(EVIDENCE_TYPEHASH, coordinator, miner, redeemed));
    }

    /// @dev Takes so much that the wronged party's part is `due`, and notes what it was.
    function _takeFromBond(uint64 coordinator, uint64 miner, uint256 due) private returns (uint256 paid) {
        bytes32 evidence = evidenceOf(coordinator, miner, payments.redeemed(coordinator, miner));
        (, address owner) = staking.ownerOf(miner);
        // More than any stake, and far from overflow.
        uint256 wanted = Math.ceilDiv(Math.min(due, type(uint128).max) * ALL_BPS, _wrongedBps);
        (, paid) = staking.slash(coordinator, wanted, evidence, owner, owner);
        if (paid == 0) revert BondExhausted(coordinator, due);
        payments.noteBondPayment(coordinator, miner, paid);
    }

    function _due(Voucher calldata voucher) private view returns (uint256) {
        uint256 redeemed = payments.redeemed(voucher.coordinator, voucher.miner);
        if (voucher.cumulative <= redeemed) revert NothingDue(voucher.cumulative, redeemed);
        return voucher.cumulative - redeemed;
    }

    /// @dev All of it: what was announced to leave can still be redeemed.
    function _escrow(uint64 coordinator) private view returns (uint256 amount) {
        (amount,,) = payments.escrowOf(coordinator);
    }

    function _isAccountable(Voucher calldata voucher, bytes calldata signature) private view returns (bool) {
        try payments.checkVoucher(voucher, signature) {
            return true;
        } catch {
            return false;
        }
    }

    /// @dev The signature is part of it: with one that fails, `collect` would pass over the escrow.
    function _idOf(Voucher calldata voucher, bytes calldata signature) private pure returns (bytes32) {
        return keccak256(abi.encode(voucher.coordinator, voucher.miner, voucher.cumulative, keccak256(signature)));
    }
}
