// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Weighted ids, laid end to end on the line of numbers 0 .. total: the leaves of a tree of sums. An id is in it
/// while its weight is above 0.
/// @param levels the tree has room for 4**levels leaves
/// @param ids the id of each leaf's slot; a vacant slot keeps its last one
/// @param slotOf 1 + the slot of an id, 0 when it is not in the tree
/// @param sums per level, leaves first, and per parent: the weights of its four children
struct SortitionTree {
    uint128 total;
    uint8 levels;
    uint64[] ids;
    uint64[] vacant;
    mapping(uint64 id => uint256) slotOf;
    mapping(uint256 level => mapping(uint256 parent => uint128[4])) sums;
}

/// @title A sum tree: sets a weight and finds the id at a number in O(log n).
/// @notice The tree grows at the top: its root becomes the first child of a new one, and no leaf ever moves. The slot of an
/// id that left goes to the next that comes, so that the depth follows the most ids there ever were at once.
/// @dev With 64-bit ids of 96-bit weights no sum could overflow before 2**32 ids are in the tree at once.
library SortitionTrees {
    uint256 private constant CHILDREN = 4;

    /// @notice Gives `id` a weight: puts it in, changes it, or takes it out with 0.
    function set(SortitionTree storage self, uint64 id, uint96 weight) internal {
        uint256 slot = self.slotOf[id];
        if (slot == 0) {
            if (weight == 0) return;
            slot = _enter(self, id);
        }
        uint256 child = slot - 1;
        uint128 old = self.sums[0][child / CHILDREN][child % CHILDREN];
        if (old == weight) return;
        for (uint256 level = 0; level < self.levels; ++level) {
            uint128[CHILDREN] storage siblings = self.sums[level][child / CHILDREN];
            siblings[child % CHILDREN] = siblings[child % CHILDREN] + weight - old;
            child /= CHILDREN;
        }
        self.total = self.total + weight - old;
        if (weight == 0) _vacate(self, id, slot - 1);
    }

    /// @notice The id whose part of the line `position` falls in, how far into it, and that part's length.
    /// @dev `position` must be below the total.
    function find(SortitionTree storage self, uint256 position)
        internal
        view
        returns (uint64 id, uint256 offset, uint256 weight)
    {
        assert(position < self.total);
        offset = position;
        uint256 slot = 0;
        for (uint256 level = self.levels; level > 0; --level) {
            uint128[CHILDREN] storage children = self.sums[level - 1][slot];
            slot *= CHILDREN;
            while (true) {
                weight = children[slot % CHILDREN];
                if (offset < weight) break;
                offset -= weight;
                ++slot;
            }
        }
        id = self.ids[slot];
    }

    /// @notice An id's weight, 0 when it is not in the tree.
    function weightOf(SortitionTree storage self, uint64 id) internal view returns (uint256) {
        uint256 slot = self.slotOf[id];
        if (slot == 0) return 0;
        return self.sums[0][(slot - 1) / CHILDREN][(slot - 1) % CHILDREN];
    }

    /// @dev Gives `id` a slot of weight 0; returns 1 + the slot.
    function _enter(SortitionTree storage self, uint64 id) private returns (uint256 slot) {
        uint256 vacancies = self.vacant.length;
        if (vacancies != 0) {
            uint64 free = self.vacant[vacancies - 1];
            self.vacant.pop();
            self.ids[free] = id;
            slot = uint256(free) + 1;
        } else {
            uint256 levels = self.levels;
            if (levels == 0 || self.ids.length == CHILDREN ** levels) {
                self.sums[levels][0][0] = self.total;
                // A tree of 255 levels has more leaves than there are ids.
                // forge-lint: disable-next-line(unsafe-typecast)
                self.levels = uint8(levels + 1);
            }
            self.ids.push(id);
            slot = self.ids.length;
        }
        self.slotOf[id] = slot;
    }

    function _vacate(SortitionTree storage self, uint64 id, uint256 slot) private {
        delete self.slotOf[id];
        // Fewer slots than ids.
        // forge-lint: disable-next-line(unsafe-typecast)
        self.vacant.push(uint64(slot));
    }
}
