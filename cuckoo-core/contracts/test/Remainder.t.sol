// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Remainder, Remainders} from "../src/Remainder.sol";
import {Vm} from "./support/Vm.sol";

contract RemainderTest {
    using Remainders for Remainder;

    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// @dev Cuts random parts out of 200 numbers, and after each cut compares every number that is left with a scan.
    function testFuzz_what_is_left_is_what_a_scan_leaves(uint256[12] calldata seeds) public pure {
        bool[200] memory gone;
        Remainder memory rest = Remainders.whole(gone.length, seeds.length);
        for (uint256 i = 0; i < seeds.length && rest.left != 0; ++i) {
            // From a number that is left, to the next one that is not or for the length that the seed says.
            uint256 start = rest.nth(seeds[i] % rest.left);
            uint256 length;
            while (start + length < gone.length && !gone[start + length] && length <= seeds[i] >> 128 & 63) {
                gone[start + length++] = true;
            }
            rest.cut(start, length);
            uint256 rank;
            for (uint256 number = 0; number < gone.length; ++number) {
                if (!gone[number]) vm.assertEq(rest.nth(rank++), number, "rank");
            }
            vm.assertEq(rest.left, rank, "left");
        }
    }

    function test_nothing_is_left() public {
        Remainder memory rest = Remainders.whole(10, 3);
        rest.cut(4, 3);
        rest.cut(0, 4);
        rest.cut(7, 3);
        vm.assertEq(rest.left, 0);
        vm.expectRevert(abi.encodeWithSignature("Panic(uint256)", 1));
        this.nth(rest, 0);
    }

    function nth(Remainder memory rest, uint256 rank) external pure returns (uint256) {
        return rest.nth(rank);
    }
}
