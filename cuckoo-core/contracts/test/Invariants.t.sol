// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {NodeKind} from "../src/IStaking.sol";
import {Pool} from "../src/Pools.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {PaymentsHandler} from "./support/PaymentsHandler.sol";
import {Wallet} from "./support/Receivers.sol";
import {StakingHandler} from "./support/StakingHandler.sol";

/// @notice What holds for `Staking` after any sequence of actions of any stakers. The handler itself checks, per action,
/// that nobody gains from a slash, that no exit is refused, and that nothing is released early.
contract StakingInvariants is MarketTest {
    StakingHandler private handler;
    uint64 private constant NODES = 2;

    function setUp() public override {
        super.setUp();
        for (uint64 i = 0; i < NODES; ++i) {
            register(NodeKind.Miner, alice, newKey());
        }
        address[] memory accounts = new address[](3);
        (accounts[0], accounts[1], accounts[2]) = (alice, bob, carol);
        handler = new StakingHandler(staking, verifier, NODES, accounts);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    /// @dev One function, so that one campaign checks all of it.
    function invariant_staking() public view {
        everyWeiIsAccountedFor();
        poolsCoverAllShares();
        weightCountsNoFreshStake();
        nobodyGains();
    }

    /// @dev Every wei is somebody's free stake or in one pool: none is missing, none is left over.
    function everyWeiIsAccountedFor() private view {
        uint256 sum = staking.freeStake(staking.BURNT());
        for (uint256 i = 0; i < handler.accountCount(); ++i) {
            sum += staking.freeStake(handler.accounts(i));
        }
        for (uint64 node = 1; node <= NODES; ++node) {
            sum += uint256(staking.activePool(node).amount) + staking.unbondingPool(node).amount;
        }
        vm.assertEq(sum, address(staking).balance, "sum");
        vm.assertEq(sum, handler.staked() - handler.withdrawn(), "in less out");
    }

    /// @dev The pools can pay all shares at once, the last one included.
    function poolsCoverAllShares() private view {
        for (uint64 node = 1; node <= NODES; ++node) {
            (uint256 shares, uint256 amount) = (0, 0);
            for (uint256 i = 0; i < handler.accountCount(); ++i) {
                (uint256 held, uint256 worth) = staking.voteOf(node, handler.accounts(i));
                (shares, amount) = (shares + held, amount + worth);
            }
            Pool memory pool = staking.activePool(node);
            vm.assertLe(shares, pool.shares, "active shares");
            vm.assertLe(amount, pool.amount, "active amount");

            amount = 0;
            for (uint256 i = 0; i < handler.ticketCount(); ++i) {
                (uint64 ofNode,, uint256 worth,) = staking.ticketOf(handler.tickets(i));
                if (ofNode == node) amount += worth;
            }
            vm.assertLe(amount, staking.unbondingPool(node).amount, "unbonding amount");
        }
    }

    /// @dev A weight is what the model says, to within the rounding of each staker's part.
    function weightCountsNoFreshStake() private view {
        for (uint64 node = 1; node <= NODES; ++node) {
            uint256 tolerance = 2 * handler.accountCount();
            vm.assertApproxEqAbs(staking.weightOf(node), handler.expectedWeight(node), tolerance, "weight");
            vm.assertLe(staking.weightOf(node), staking.activePool(node).amount, "more than there is");
        }
    }

    /// @dev Nobody can take out more than was put in or credited from slashes, less what was taken already.
    function nobodyGains() private view {
        for (uint256 i = 0; i < handler.accountCount(); ++i) {
            address account = handler.accounts(i);
            uint256 has = staking.freeStake(account);
            for (uint64 node = 1; node <= NODES; ++node) {
                (, uint256 worth) = staking.voteOf(node, account);
                has += worth;
            }
            for (uint256 j = 0; j < handler.ticketCount(); ++j) {
                (, address staker, uint256 worth,) = staking.ticketOf(handler.tickets(j));
                if (staker == account) has += worth;
            }
            // Each action's rounding may leave others at most a few wei.
            vm.assertLe(has, handler.entitled(account) + 4 * handler.actions(), "gained");
        }
    }
}

/// @notice What holds for `Payments` after any sequence of deposits, redemptions and withdrawals.
contract PaymentsInvariants is MarketTest {
    PaymentsHandler private handler;
    Wallet private wallet;

    function setUp() public override {
        super.setUp();
        uint256[2] memory keys = [newKey(), newKey()];
        wallet = new Wallet();
        register(NodeKind.Coordinator, alice, keys[0]);
        register(NodeKind.Coordinator, alice, keys[1]);
        register(NodeKind.Miner, bob, newKey());
        register(NodeKind.Miner, address(wallet), newKey());
        bytes32 domain = domainSeparator("Cuckoo Payments", block.chainid, address(payments));
        handler = new PaymentsHandler(payments, alice, wallet, domain, keys);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_payments() public view {
        balanceIsEscrowAndEarnings();
        escrowIsDepositsLessPayments();
        redeemedIsPaidAndWasPromised();
    }

    function balanceIsEscrowAndEarnings() private view {
        uint256 sum;
        for (uint64 coordinator = 1; coordinator <= 2; ++coordinator) {
            (uint256 amount,,) = payments.escrowOf(coordinator);
            sum += amount;
        }
        for (uint64 miner = 3; miner <= 4; ++miner) {
            (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
            sum += toOwner + toStakers;
        }
        vm.assertEq(address(payments).balance, sum, "balance");
    }

    function escrowIsDepositsLessPayments() private view {
        for (uint64 coordinator = 1; coordinator <= 2; ++coordinator) {
            (uint256 amount, uint256 leaving,) = payments.escrowOf(coordinator);
            uint256 paid = handler.paid(coordinator, 3) + handler.paid(coordinator, 4);
            vm.assertEq(amount, handler.deposited(coordinator) - handler.withdrawn(coordinator) - paid, "escrow");
            vm.assertLe(leaving, amount, "leaving");
        }
    }

    function redeemedIsPaidAndWasPromised() private view {
        for (uint64 coordinator = 1; coordinator <= 2; ++coordinator) {
            for (uint64 miner = 3; miner <= 4; ++miner) {
                uint256 redeemed = payments.redeemed(coordinator, miner);
                vm.assertEq(redeemed, handler.paid(coordinator, miner), "paid");
                vm.assertLe(redeemed, handler.promised(coordinator, miner), "promised");
            }
        }
        for (uint64 miner = 3; miner <= 4; ++miner) {
            (uint256 toOwner, uint256 toStakers) = payments.earningsOf(miner);
            uint256 received = handler.collected(miner) + handler.forwarded(miner);
            vm.assertEq(
                received + toOwner + toStakers, handler.paid(1, miner) + handler.paid(2, miner), "earned or received"
            );
        }
        vm.assertEq(bob.balance, handler.collected(3), "owner of the first");
        vm.assertEq(address(wallet).balance, handler.collected(4), "owner of the second");
        vm.assertEq(address(staking).balance, handler.forwarded(3) + handler.forwarded(4), "stakers");
    }
}
