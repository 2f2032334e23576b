// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {NodeKind} from "../src/IStaking.sol";
import {MarketTest} from "./support/MarketTest.sol";
import {StakingHandler} from "./support/StakingHandler.sol";

/// @notice What holds for `Staking` after any sequence of actions of any stakers. The handler itself checks, per action,
/// that nobody gains from a slash, that no exit is refused, that nothing is released early, and that time alone earns.
contract StakingInvariants is MarketTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    uint64 private constant NODES = 3;

    StakingHandler private handler;

    function setUp() public override {
        super.setUp();
        address[] memory accounts = new address[](4);
        (accounts[0], accounts[1], accounts[2], accounts[3]) = (alice, bob, carol, vm.addr(0xda));
        register(NodeKind.Miner, alice, newKey(), 500);
        register(NodeKind.Miner, alice, newKey(), 0);
        register(NodeKind.Coordinator, bob, newKey(), 2500);
        address pauser = vm.addr(0x6a);
        bytes32 role = staking.PAUSER_ROLE();
        vm.prank(admin);
        staking.grantRole(role, pauser);
        handler = new StakingHandler(staking, admin, verifier, pauser, NODES, accounts);
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function excludeSelectors() public view returns (FuzzSelector[] memory excluded) {
        excluded = new FuzzSelector[](1);
        excluded[0].addr = address(handler);
        excluded[0].selectors = new bytes4[](1);
        excluded[0].selectors[0] = StakingHandler.unwind.selector;
    }

    function invariant_staking() public view {
        handler.check();
    }

    /// @dev At any time everybody can leave with everything, also during a pause.
    function afterInvariant() public {
        handler.unwind();
        handler.check();
    }
}
