// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {NodeKind, Profile, StakingConfig} from "../../src/IStaking.sol";
import {Voucher} from "../../src/IPayments.sol";
import {Payments} from "../../src/Payments.sol";
import {Receipt} from "../../src/Receipts.sol";
import {OpenStaking} from "./OpenStaking.sol";
import {receiptHash} from "./ReceiptHash.sol";
import {Vm} from "./Vm.sol";

/// @notice A deployed market, its people, and their signatures, hashed here and not by the contracts under test.
abstract contract MarketTest {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    uint64 internal constant EPOCH = 1 hours;
    uint64 internal constant UNBONDING = 7 days;
    uint64 internal constant WITHDRAWAL_DELAY = 1 days;
    uint256 internal constant MINER_MINIMUM = 20_000 ether;
    uint256 internal constant COORDINATOR_MINIMUM = 2_000_000 ether;
    uint16 internal constant BURN_BPS = 5000;
    uint16 internal constant REPORTER_BPS = 2000;
    uint16 internal constant STAKERS_BPS = 1000;
    uint16 internal constant COMMISSION_BPS = 500;

    address internal immutable admin = vm.addr(0xad);
    address internal immutable verifier = vm.addr(0x7e);
    address internal immutable alice = vm.addr(0xa1);
    address internal immutable bob = vm.addr(0xb0);
    address internal immutable carol = vm.addr(0xca);
    address internal immutable reporter = vm.addr(0x4e);
    address internal immutable wronged = vm.addr(0x30);

    OpenStaking internal staking;
    Payments internal payments;
    uint256 private _lastKey = 0xc0c0;

    function setUp() public virtual {
        vm.warp(1_800_000_000);
        staking = deployStaking();
        payments = new Payments(staking, WITHDRAWAL_DELAY, STAKERS_BPS);
        authorise(verifier);
    }

    function deployStaking() internal virtual returns (OpenStaking) {
        return new OpenStaking(config());
    }

    function config() internal view returns (StakingConfig memory) {
        return StakingConfig({
            admin: admin,
            epochLength: EPOCH,
            unbondingPeriod: UNBONDING,
            minerMinimum: MINER_MINIMUM,
            coordinatorMinimum: COORDINATOR_MINIMUM,
            burnBps: BURN_BPS,
            reporterBps: REPORTER_BPS
        });
    }

    /// @dev Lets an account or contract slash.
    function authorise(address account) internal {
        bytes32 role = staking.VERIFIER_ROLE();
        vm.prank(admin);
        staking.grantRole(role, account);
    }

    function newKey() internal returns (uint256) {
        return ++_lastKey;
    }

    function nextEpoch() internal {
        vm.warp(block.timestamp + EPOCH);
    }

    function profile() internal pure returns (Profile memory) {
        return Profile({name: "a node", description: "draws shapes", endpoint: "http://node.example:7100"});
    }

    function stake(address staker, uint256 amount) internal {
        vm.deal(staker, staker.balance + amount);
        vm.prank(staker);
        staking.stake{value: amount}();
    }

    function vote(address staker, uint64 node, uint256 amount) internal returns (uint256) {
        stake(staker, amount);
        vm.prank(staker);
        return staking.vote(node, amount);
    }

    function unvote(address staker, uint64 node, uint256 shares) internal returns (uint256) {
        vm.prank(staker);
        return staking.unvote(node, shares);
    }

    function register(NodeKind kind, address owner, uint256 key) internal returns (uint64) {
        return register(kind, owner, key, COMMISSION_BPS);
    }

    function register(NodeKind kind, address owner, uint256 key, uint16 commissionBps) internal returns (uint64) {
        bytes memory consent = signConsent(key, owner, kind, 0, block.timestamp);
        vm.prank(owner);
        if (kind == NodeKind.Miner) {
            return staking.registerMiner(vm.addr(key), profile(), commissionBps, block.timestamp, consent);
        }
        return staking.registerCoordinator(vm.addr(key), profile(), commissionBps, block.timestamp, consent);
    }

    /// @dev A miner of `owner` with the least vote, counting from now.
    function newMiner(address owner) internal returns (uint64 node) {
        node = register(NodeKind.Miner, owner, newKey());
        vote(owner, node, MINER_MINIMUM);
        nextEpoch();
    }

    function slash(uint64 node, uint256 amount, bytes32 evidence) internal returns (uint256 taken) {
        vm.prank(verifier);
        (taken,) = staking.slash(node, amount, evidence, reporter, wronged);
    }

    /// @dev Adds to the budget that all active nodes share.
    function fundRewards(uint256 amount) internal {
        vm.deal(address(this), amount);
        staking.fund{value: amount}();
    }

    function setRewardRate(uint256 perEpoch) internal {
        vm.prank(admin);
        staking.setRewardRate(perEpoch);
    }

    function reward(uint64 node, uint256 amount) internal {
        vm.deal(address(this), amount);
        staking.reward{value: amount}(node);
    }

    function sync(uint64 node) internal {
        uint64[] memory one = new uint64[](1);
        one[0] = node;
        staking.sync(one);
    }

    function claim(address staker, uint64 node) internal returns (uint256) {
        vm.prank(staker);
        return staking.claim(node, payable(staker));
    }

    function signConsent(uint256 key, address owner, NodeKind kind, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        return signature(key, consentDigest(owner, vm.addr(key), kind, nonce, deadline));
    }

    function consentDigest(address owner, address operator, NodeKind kind, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256(
            "OperatorConsent(address owner,address operator,uint8 kind,uint256 nonce,uint256 deadline)"
        );
        bytes32 hash = keccak256(abi.encode(typehash, owner, operator, uint256(kind), nonce, deadline));
        return typedDigest("Cuckoo Staking", block.chainid, address(staking), hash);
    }

    function signVoucher(uint256 key, Voucher memory voucher) internal view returns (bytes memory) {
        return signature(key, voucherDigest(voucher, block.chainid, address(payments)));
    }

    function voucherDigest(Voucher memory voucher, uint256 chain, address verifyingContract)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash = keccak256("Voucher(uint64 coordinator,uint64 miner,uint256 cumulative)");
        bytes32 hash = keccak256(abi.encode(typehash, voucher.coordinator, voucher.miner, voucher.cumulative));
        return typedDigest("Cuckoo Payments", chain, verifyingContract, hash);
    }

    function receiptDigest(Receipt memory receipt, uint256 chain, address verifyingContract)
        internal
        pure
        returns (bytes32)
    {
        return typedDigest("Cuckoo", chain, verifyingContract, receiptHash(receipt));
    }

    function typedDigest(string memory name, uint256 chain, address verifyingContract, bytes32 hash)
        internal
        pure
        returns (bytes32)
    {
        bytes32 domain = domainSeparator(name, chain, verifyingContract);
        return keccak256(abi.encodePacked(hex"1901", domain, hash));
    }

    function domainSeparator(string memory name, uint256 chain, address verifyingContract)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
        return keccak256(abi.encode(typehash, keccak256(bytes(name)), keccak256(bytes("1")), chain, verifyingContract));
    }

    function signature(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    /// @dev The other signature of the same key over the same digest: s mirrored at the curve's order, v flipped.
    function mirrored(bytes memory signature_) internal pure returns (bytes memory) {
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        (bytes32 r, uint256 s) = abi.decode(signature_, (bytes32, uint256));
        uint8 v = uint8(signature_[64]) == 27 ? 28 : 27;
        return abi.encodePacked(r, order - s, v);
    }

    function bound(uint256 x, uint256 low, uint256 high) internal pure returns (uint256) {
        if (x >= low && x <= high) return x;
        return low + x % (high - low + 1);
    }
}
