// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice The coordinator's promise of the cumulative amount (wei) it owes one miner. Nodes are named by id, so a
/// voucher outlives operator rotation.
struct Voucher {
    uint64 coordinator;
    uint64 miner;
    uint256 cumulative;
}

/// @title Escrow of coordinators and redemption of cumulative vouchers.
/// @notice Amounts are wei of CAI. Times are seconds.
interface IPayments {
    event Deposited(uint64 indexed coordinator, address indexed from, uint256 amount);
    event WithdrawalRequested(uint64 indexed coordinator, uint256 amount, uint64 unlocksAt);
    event EscrowWithdrawn(uint64 indexed coordinator, address to, uint256 amount);
    event Redeemed(uint64 indexed coordinator, uint64 indexed miner, uint256 paid, uint256 cumulative);
    /// @notice A verifier had a part of what a voucher owes paid from the coordinator's bond.
    event PaidFromBond(uint64 indexed coordinator, uint64 indexed miner, uint256 paid);
    event Collected(uint64 indexed miner, address to, uint256 amount, uint256 toStakers);

    error ZeroAmount();
    error ZeroAddress();
    error NotCoordinator(uint64 node);
    error NotMiner(uint64 node);
    error NotCoordinatorOwner(uint64 coordinator, address caller);
    error InsufficientEscrow(uint64 coordinator, uint256 escrow, uint256 wanted);
    error NoWithdrawalRequested(uint64 coordinator);
    error WithdrawalLocked(uint64 coordinator, uint64 unlocksAt);
    /// @notice The signer answers for another node, or for none (any more).
    error InvalidVoucherSigner(address signer, uint64 node);
    /// @notice The voucher adds nothing to what was redeemed.
    error NothingDue(uint256 cumulative, uint256 redeemed);
    /// @notice The coordinator's escrow is empty; the voucher stays good for later deposits.
    error EscrowEmpty(uint64 coordinator);
    error NothingToCollect(uint64 miner);
    error NotMinerOwner(uint64 miner, address caller);
    error NotVerifier(address caller);

    error TransferFailed(address to, uint256 amount);
    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);

    /// @notice Adds the sent CAI to a coordinator's escrow.
    function deposit(uint64 coordinator) external payable;
    /// @notice Announces a withdrawal of escrow; it stays redeemable until withdrawn.
    function requestWithdrawal(uint64 coordinator, uint256 amount) external;
    /// @notice After the delay, pays the announced amount (or what is left of it) out. Only the coordinator's owner.
    function withdrawEscrow(uint64 coordinator, address payable to) external returns (uint256 amount);
    /// @notice Moves what the voucher adds to the amount redeemed so far from the coordinator's escrow to the miner's
    /// earnings, as far as the escrow reaches; the rest stays due. Anyone may send it. `signature` is an EIP-712 signature
    /// by an operator accountable for the coordinator.
    function redeem(Voucher calldata voucher, bytes calldata signature) external returns (uint256 paid);
    /// @notice Pays a miner's earnings out: the set cut to the stakers who vote for it, the rest to its owner. Anyone.
    function collect(uint64 miner) external returns (uint256 amount);
    /// @notice The same to an account of the owner's choice. Only the owner.
    function collectTo(uint64 miner, address payable to) external returns (uint256 amount);
    /// @notice Notes that `amount` wei of what a coordinator owes a miner was paid from the coordinator's bond. Only
    /// verifiers of `Staking`.
    function noteBondPayment(uint64 coordinator, uint64 miner, uint256 amount) external;

    /// @notice Reverts unless an operator accountable for the coordinator signed the voucher.
    function checkVoucher(Voucher calldata voucher, bytes calldata signature) external view;
    function escrowOf(uint64 coordinator) external view returns (uint256 amount, uint256 leaving, uint64 unlocksAt);
    function redeemed(uint64 coordinator, uint64 miner) external view returns (uint256);
    /// @notice What `collect` would pay now, in wei: to the owner, and to the stakers.
    function earningsOf(uint64 miner) external view returns (uint256 toOwner, uint256 toStakers);
    /// @notice Part of redeemed vouchers that goes to the miner's stakers, in hundredths of a percent.
    function stakersBps() external view returns (uint16);
    function withdrawalDelay() external view returns (uint64);
}
