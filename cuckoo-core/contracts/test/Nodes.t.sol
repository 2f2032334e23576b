// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IStaking, NodeKind, NodeView, Profile, StakingConfig} from "../src/IStaking.sol";
import {Staking} from "../src/Staking.sol";
import {MarketTest} from "./support/MarketTest.sol";

contract NodesTest is MarketTest {
    function test_registration_is_read_back() public {
        uint256 key = newKey();
        uint64 node = register(NodeKind.Miner, alice, key);
        NodeView memory read = staking.nodeById(node);
        vm.assertEq(read.id, 1);
        vm.assertEq(uint256(read.kind), uint256(NodeKind.Miner));
        vm.assertEq(read.owner, alice);
        vm.assertEq(read.operator, vm.addr(key));
        vm.assertEq(read.commissionBps, 500);
        vm.assertFalse(read.active);
        vm.assertEq(read.weight, 0);
        vm.assertEq(read.profile.endpoint, profile().endpoint);
        vm.assertEq(staking.consentNonce(vm.addr(key)), 1);
        (uint64 answersFor, uint64 until) = staking.nodeOfOperator(vm.addr(key));
        vm.assertEq(answersFor, node);
        vm.assertEq(until, 0);
    }

    function test_registration_emits_all_of_it() public {
        uint256 key = newKey();
        vm.expectEmit(address(staking));
        emit IStaking.Registered(1, NodeKind.Coordinator, alice, vm.addr(key), 500);
        vm.expectEmit(address(staking));
        emit IStaking.ProfileChanged(1, profile().name, profile().description, profile().endpoint);
        register(NodeKind.Coordinator, alice, key);
    }

    function test_no_such_node() public {
        vm.assertEq(uint256(staking.nodeById(7).kind), uint256(NodeKind.None));
        vm.assertFalse(staking.nodeById(7).active);
        (uint64 node,) = staking.nodeOfOperator(alice);
        vm.assertEq(node, 0);
        bytes memory unknown = abi.encodeWithSelector(IStaking.UnknownNode.selector, 7);
        vm.expectRevert(unknown);
        staking.exit(7);
        stake(alice, 1 ether);
        vm.expectRevert(unknown);
        vm.prank(alice);
        staking.vote(7, 1 ether);
        vm.expectRevert(unknown);
        vm.prank(verifier);
        staking.slash(7, 1, "e", reporter, wronged);
    }

    function test_pages() public {
        for (uint256 i = 0; i < 5; ++i) {
            register(NodeKind.Miner, alice, newKey());
        }
        vm.assertEq(staking.nodeCount(), 5);
        vm.assertEq(staking.nodes(1, 5).length, 5);
        vm.assertEq(staking.nodes(4, 9)[1].id, 5);
        vm.assertEq(staking.nodes(1, type(uint64).max).length, 5);
        vm.assertEq(staking.nodes(type(uint64).max, type(uint64).max).length, 0);
        vm.assertEq(staking.nodes(6, 1).length, 0);
        vm.assertEq(staking.nodes(0, 5).length, 0);
        vm.assertEq(staking.nodes(1, 0).length, 0);
    }

    // --- consent ---

    function test_consent_binds_each_field() public {
        uint256 key = newKey();
        address operator = vm.addr(key);
        uint256 deadline = block.timestamp + 60;
        refusedConsent(operator, deadline, signConsent(key, bob, NodeKind.Miner, 0, deadline));
        refusedConsent(operator, deadline, signConsent(key, alice, NodeKind.Coordinator, 0, deadline));
        refusedConsent(operator, deadline, signConsent(key, alice, NodeKind.Miner, 1, deadline));
        refusedConsent(operator, deadline, signConsent(key, alice, NodeKind.Miner, 0, deadline + 1));
        refusedConsent(operator, deadline, signConsent(newKey(), alice, NodeKind.Miner, 0, deadline));
        bytes32 digest = consentDigest(alice, bob, NodeKind.Miner, 0, deadline);
        refusedConsent(operator, deadline, signature(key, digest));
        // The right one passes, so it was each change that was refused.
        bytes memory consent = signConsent(key, alice, NodeKind.Miner, 0, deadline);
        vm.prank(alice);
        staking.registerMiner(operator, profile(), 0, deadline, consent);
    }

    function test_consent_binds_chain_and_contract() public {
        uint256 key = newKey();
        uint256 chain = block.chainid;
        bytes memory consent = signConsent(key, alice, NodeKind.Miner, 0, block.timestamp);
        vm.chainId(1210);
        refusedConsent(vm.addr(key), block.timestamp, consent);
        vm.chainId(chain);
        Staking other = new Staking(config());
        vm.expectPartialRevert(IStaking.InvalidConsent.selector);
        vm.prank(alice);
        other.registerMiner(vm.addr(key), profile(), 0, block.timestamp, consent);
    }

    function test_consent_malformed_or_mirrored() public {
        uint256 key = newKey();
        bytes memory consent = signConsent(key, alice, NodeKind.Miner, 0, block.timestamp);
        refusedConsent(vm.addr(key), block.timestamp, mirrored(consent));
        refusedConsent(vm.addr(key), block.timestamp, "");
        refusedConsent(vm.addr(key), block.timestamp, new bytes(65));
        refusedConsent(vm.addr(key), block.timestamp, bytes.concat(consent, hex"00"));
    }

    function test_consent_deadline_is_inclusive() public {
        uint256 key = newKey();
        uint256 deadline = block.timestamp + 10;
        bytes memory consent = signConsent(key, alice, NodeKind.Miner, 0, deadline);
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IStaking.ConsentExpired.selector, deadline));
        vm.prank(alice);
        staking.registerMiner(vm.addr(key), profile(), 0, deadline, consent);
        vm.warp(deadline);
        vm.prank(alice);
        staking.registerMiner(vm.addr(key), profile(), 0, deadline, consent);
    }

    function testFuzz_nobody_registers_a_key_without_consent(bytes calldata consent, address operator) public {
        vm.assume(operator != address(0));
        vm.expectPartialRevert(IStaking.InvalidConsent.selector);
        vm.prank(alice);
        staking.registerMiner(operator, profile(), 0, block.timestamp, consent);
    }

    function test_zero_operator() public {
        vm.expectRevert(IStaking.ZeroAddress.selector);
        vm.prank(alice);
        staking.registerMiner(address(0), profile(), 0, block.timestamp, new bytes(65));
    }

    function test_operator_serves_one_node_once() public {
        uint256 key = newKey();
        uint64 node = register(NodeKind.Miner, alice, key);
        bytes memory taken = abi.encodeWithSelector(IStaking.OperatorTaken.selector, vm.addr(key), node);
        bytes memory consent = signConsent(key, bob, NodeKind.Coordinator, 1, block.timestamp);
        vm.expectRevert(taken);
        vm.prank(bob);
        staking.registerCoordinator(vm.addr(key), profile(), 0, block.timestamp, consent);
        // Not even after it rotated away and its accountability is over.
        rotate(alice, node, newKey());
        vm.warp(block.timestamp + UNBONDING + 1);
        consent = signConsent(key, bob, NodeKind.Miner, 1, block.timestamp);
        vm.expectRevert(taken);
        vm.prank(bob);
        staking.registerMiner(vm.addr(key), profile(), 0, block.timestamp, consent);
    }

    function test_bounds_of_what_an_owner_says() public {
        uint256 key = newKey();
        bytes memory consent = signConsent(key, alice, NodeKind.Miner, 0, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(IStaking.CommissionTooHigh.selector, 10_001));
        vm.prank(alice);
        staking.registerMiner(vm.addr(key), profile(), 10_001, block.timestamp, consent);

        Profile memory long = profile();
        long.name = string(new bytes(65));
        vm.expectRevert(abi.encodeWithSelector(IStaking.ProfileTooLong.selector, "name", 65, 64));
        vm.prank(alice);
        staking.registerMiner(vm.addr(key), long, 10_000, block.timestamp, consent);

        uint64 node = register(NodeKind.Miner, alice, key);
        (long.name, long.description) = ("", string(new bytes(1025)));
        vm.expectRevert(abi.encodeWithSelector(IStaking.ProfileTooLong.selector, "description", 1025, 1024));
        vm.prank(alice);
        staking.setProfile(node, long);
        (long.description, long.endpoint) = (string(new bytes(1024)), string(new bytes(257)));
        vm.expectRevert(abi.encodeWithSelector(IStaking.ProfileTooLong.selector, "endpoint", 257, 256));
        vm.prank(alice);
        staking.setProfile(node, long);
        long.endpoint = string(new bytes(256));
        vm.prank(alice);
        staking.setProfile(node, long);
        vm.assertEq(bytes(staking.nodeById(node).profile.description).length, 1024);
    }

    // --- what only the owner may do ---

    function test_only_the_owner() public {
        uint256 key = newKey();
        uint64 node = register(NodeKind.Miner, alice, key);
        bytes memory notOwner = abi.encodeWithSelector(IStaking.NotNodeOwner.selector, node, vm.addr(key));
        vm.expectRevert(notOwner);
        vm.prank(vm.addr(key));
        staking.setProfile(node, profile());
        vm.expectRevert(notOwner);
        vm.prank(vm.addr(key));
        staking.rotateOperator(node, bob, block.timestamp, "");
        vm.expectRevert(notOwner);
        vm.prank(vm.addr(key));
        staking.exit(node);
    }

    function test_rotation_keeps_the_old_key_accountable() public {
        (uint256 first, uint256 second) = (newKey(), newKey());
        uint64 node = register(NodeKind.Miner, alice, first);
        uint64 until = uint64(block.timestamp) + UNBONDING;
        vm.expectEmit(address(staking));
        emit IStaking.OperatorRotated(node, vm.addr(first), vm.addr(second), until);
        rotate(alice, node, second);
        vm.assertEq(staking.nodeById(node).operator, vm.addr(second));
        (uint64 answersFor, uint64 accountableUntil) = staking.nodeOfOperator(vm.addr(first));
        vm.assertEq(answersFor, node);
        vm.assertEq(accountableUntil, until);
        (answersFor, accountableUntil) = staking.nodeOfOperator(vm.addr(second));
        vm.assertEq(answersFor, node);
        vm.assertEq(accountableUntil, 0);
        vm.warp(until - 1);
        (answersFor,) = staking.nodeOfOperator(vm.addr(first));
        vm.assertEq(answersFor, node);
        vm.warp(until);
        (answersFor, accountableUntil) = staking.nodeOfOperator(vm.addr(first));
        vm.assertEq(answersFor, 0);
        vm.assertEq(accountableUntil, 0);
    }

    function test_rotation_needs_the_new_keys_consent() public {
        uint64 node = register(NodeKind.Miner, alice, newKey());
        uint256 key = newKey();
        bytes memory consent = signConsent(key, alice, NodeKind.Coordinator, 0, block.timestamp);
        vm.expectPartialRevert(IStaking.InvalidConsent.selector);
        vm.prank(alice);
        staking.rotateOperator(node, vm.addr(key), block.timestamp, consent);
        // Rotating to the key in place is a second use of it.
        address operator = staking.nodeById(node).operator;
        vm.expectRevert(abi.encodeWithSelector(IStaking.OperatorTaken.selector, operator, node));
        vm.prank(alice);
        staking.rotateOperator(node, operator, block.timestamp, "");
    }

    function test_exit_is_for_good() public {
        uint64 node = newMiner(alice);
        vm.assertTrue(staking.nodeById(node).active);
        vm.prank(alice);
        staking.exit(node);
        vm.assertFalse(staking.nodeById(node).active);
        (uint64 answersFor,) = staking.nodeOfOperator(staking.nodeById(node).operator);
        vm.assertEq(answersFor, node);

        bytes memory exited = abi.encodeWithSelector(IStaking.NodeExited.selector, node);
        stake(alice, 1 ether);
        vm.expectRevert(exited);
        vm.prank(alice);
        staking.vote(node, 1 ether);
        vm.expectRevert(exited);
        vm.prank(alice);
        staking.exit(node);
        vm.expectRevert(exited);
        vm.prank(alice);
        staking.setProfile(node, profile());
        vm.expectRevert(exited);
        vm.prank(alice);
        staking.rotateOperator(node, bob, block.timestamp, "");
    }

    // --- deployment ---

    function test_config_bounds() public {
        StakingConfig memory wrong = config();
        wrong.epochLength = 0;
        refusedConfig(wrong, "epochLength");
        wrong = config();
        wrong.unbondingPeriod = EPOCH - 1;
        refusedConfig(wrong, "unbondingPeriod");
        wrong.unbondingPeriod = 365 days + 1;
        refusedConfig(wrong, "unbondingPeriod");
        wrong = config();
        wrong.minerMinimum = 0;
        refusedConfig(wrong, "minerMinimum");
        wrong = config();
        wrong.coordinatorMinimum = 0;
        refusedConfig(wrong, "coordinatorMinimum");
        wrong = config();
        wrong.burnBps = 0;
        refusedConfig(wrong, "burnBps");
        wrong.burnBps = 8001;
        refusedConfig(wrong, "reporterBps");
        // The smallest that a demo may use.
        StakingConfig memory small = config();
        (small.epochLength, small.unbondingPeriod) = (1, 1);
        vm.assertEq(new Staking(small).unbondingPeriod(), 1);
    }

    function test_only_the_admin_grants_roles_and_sets_the_rate() public {
        bytes32 role = staking.VERIFIER_ROLE();
        bytes memory refusal =
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, alice, bytes32(0));
        vm.expectRevert(refusal);
        vm.prank(alice);
        staking.grantRole(role, alice);
        vm.expectRevert(refusal);
        vm.prank(alice);
        staking.setRewardRate(1);
        vm.expectRevert(refusal);
        vm.prank(alice);
        staking.unpause();
        vm.prank(admin);
        staking.revokeRole(role, verifier);
        vm.assertFalse(staking.hasRole(role, verifier));
    }

    function refusedConsent(address operator, uint256 deadline, bytes memory consent) private {
        vm.expectPartialRevert(IStaking.InvalidConsent.selector);
        vm.prank(alice);
        staking.registerMiner(operator, profile(), 0, deadline, consent);
    }

    function refusedConfig(StakingConfig memory wrong, string memory setting) private {
        vm.expectRevert(abi.encodeWithSelector(IStaking.InvalidConfig.selector, setting));
        new Staking(wrong);
    }

    function rotate(address owner, uint64 node, uint256 key) private {
        bytes memory consent = signConsent(key, owner, staking.nodeById(node).kind, 0, block.timestamp);
        vm.prank(owner);
        staking.rotateOperator(node, vm.addr(key), block.timestamp, consent);
    }
}
