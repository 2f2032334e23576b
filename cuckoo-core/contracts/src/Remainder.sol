// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice What is left of the numbers 0 .. n after parts were cut out.
/// @param left how many numbers are left
/// @param cuts how many parts were cut out
/// @param starts where each part began, ascending
/// @param lengths how long it was
struct Remainder {
    uint256 left;
    uint256 cuts;
    uint256[] starts;
    uint256[] lengths;
}

/// @title Drawing without replacement from a line of numbers, in memory: the line itself is not written.
library Remainders {
    /// @notice All numbers below `n`, of which at most `cuts` parts can be cut.
    function whole(uint256 n, uint256 cuts) internal pure returns (Remainder memory) {
        return Remainder({left: n, cuts: 0, starts: new uint256[](cuts), lengths: new uint256[](cuts)});
    }

    /// @notice The number that has exactly `rank` numbers before it that are left; `rank` must be below `left`.
    function nth(Remainder memory self, uint256 rank) internal pure returns (uint256 number) {
        assert(rank < self.left);
        number = rank;
        for (uint256 i = 0; i < self.cuts && self.starts[i] <= number; ++i) {
            number += self.lengths[i];
        }
    }

    /// @notice Cuts out `length` numbers from `start` on, none of which was cut out before.
    function cut(Remainder memory self, uint256 start, uint256 length) internal pure {
        uint256 i = self.cuts++;
        for (; i > 0 && self.starts[i - 1] > start; --i) {
            (self.starts[i], self.lengths[i]) = (self.starts[i - 1], self.lengths[i - 1]);
        }
        (self.starts[i], self.lengths[i]) = (start, length);
        self.left -= length;
    }
}
