// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {SortitionTree, SortitionTrees} from "../src/SortitionTree.sol";
import {Vm} from "./support/Vm.sol";

/// @notice The tree against a list of weights.
contract SortitionTreeTest {
    using SortitionTrees for SortitionTree;

    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint64 private constant IDS = 90;

    SortitionTree private tree;
    mapping(uint64 id => uint96) private model;

    function put(uint64 id, uint96 weight) private {
        tree.set(id, weight);
        model[id] = weight;
    }

    /// @dev Walks the line from part to part: the parts are those of the model, each once, each as long as it should be,
    /// end to end from 0 to the total.
    function check() private view {
        bool[] memory seen = new bool[](IDS + 1);
        uint256 position;
        while (position < tree.total) {
            (uint64 id, uint256 offset, uint256 weight) = tree.find(position);
            vm.assertEq(offset, 0, "a part begins where the last one ended");
            vm.assertFalse(seen[id]);
            seen[id] = true;
            vm.assertEq(weight, model[id], "length");
            (uint64 last, uint256 lastOffset,) = tree.find(position + weight - 1);
            vm.assertEq(last, id, "the last number");
            vm.assertEq(lastOffset, weight - 1, "offset of the last number");
            position += weight;
        }
        vm.assertEq(position, tree.total, "end");
        for (uint64 id = 1; id <= IDS; ++id) {
            vm.assertEq(tree.weightOf(id), model[id], "weight");
            vm.assertEq(seen[id], model[id] != 0);
        }
    }

    function test_empty() public {
        check();
        vm.assertEq(tree.total, 0);
        tree.set(7, 0);
        vm.assertEq(tree.ids.length, 0, "nothing was put in");
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 1));
        this.find(0);
    }

    function find(uint256 position) external view returns (uint64 id) {
        (id,,) = tree.find(position);
    }

    /// @dev Every number of the line, not only the ends of parts.
    function test_every_number_finds_its_id() public {
        uint256 total;
        for (uint64 id = 1; id <= 30; ++id) {
            put(id, uint96(id) * 7 % 11);
            total += uint256(id) * 7 % 11;
        }
        uint256[] memory hits = new uint256[](31);
        for (uint256 position = 0; position < total; ++position) {
            (uint64 id, uint256 offset, uint256 weight) = tree.find(position);
            vm.assertEq(offset, hits[id]++, "in order");
            vm.assertEq(weight, model[id], "length");
        }
        for (uint64 id = 1; id <= 30; ++id) {
            vm.assertEq(hits[id], model[id], "as many numbers as weight");
        }
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 1));
        this.find(total);
    }

    function test_grows_a_level_at_a_time() public {
        uint256[65] memory levels;
        for (uint64 id = 1; id <= 65; ++id) {
            put(id, uint96(id));
            levels[id - 1] = tree.levels;
            check();
        }
        for (uint256 i = 0; i < levels.length; ++i) {
            vm.assertEq(levels[i], i < 4 ? 1 : i < 16 ? 2 : i < 64 ? 3 : 4, "levels");
        }
    }

    function test_vacant_slots_are_taken_again() public {
        for (uint64 id = 1; id <= 4; ++id) {
            put(id, 5);
        }
        for (uint64 id = 5; id <= IDS; ++id) {
            put(id - 4, 0);
            put(id, uint96(id));
            check();
        }
        vm.assertEq(tree.levels, 1, "four at once need one level");
        vm.assertEq(tree.ids.length, 4, "slots");
    }

    function test_emptied_and_filled_again() public {
        for (uint64 id = 1; id <= 20; ++id) {
            put(id, type(uint96).max);
        }
        vm.assertEq(tree.total, 20 * uint256(type(uint96).max), "heaviest");
        check();
        for (uint64 id = 1; id <= 20; ++id) {
            put(id, 0);
        }
        vm.assertEq(tree.total, 0, "empty");
        check();
        for (uint64 id = 21; id <= 40; ++id) {
            put(id, 1);
        }
        check();
        vm.assertEq(tree.ids.length, 20, "slots");
    }

    /// @dev Each step's low bits choose the id, its high bits the weight; one in four takes the id out.
    function testFuzz_any_changes(uint256[100] calldata steps) public {
        for (uint256 i = 0; i < steps.length; ++i) {
            uint96 weight = steps[i] >> 8 & 3 == 0 ? 0 : uint96(steps[i] >> 160 >> (steps[i] >> 16 & 95));
            put(uint64(steps[i] % IDS) + 1, weight);
            if (i % 20 == 0) check();
        }
        check();
    }

    function testFuzz_a_number_finds_whom_a_scan_finds(uint96[40] calldata weights, uint256 number) public {
        for (uint64 i = 0; i < weights.length; ++i) {
            put(i + 1, weights[i]);
        }
        vm.assume(tree.total != 0);
        uint256 position = number % tree.total;
        (uint64 found, uint256 offset,) = tree.find(position);
        // Never emptied, so the slots are in the order of the ids, but for those that never had a weight.
        uint256 start;
        for (uint64 id = 1; id <= weights.length; ++id) {
            if (position < start + model[id]) {
                vm.assertEq(found, id, "id");
                vm.assertEq(offset, position - start, "offset");
                return;
            }
            start += model[id];
        }
        vm.assertTrue(false, "beyond the scan");
    }
}
