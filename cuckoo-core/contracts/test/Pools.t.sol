// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Pool, Pools} from "../src/Pools.sol";
import {MarketTest} from "./support/MarketTest.sol";

contract PoolsTest is MarketTest {
    Pool private pool;

    function setUp() public override {}

    function testFuzz_par_is_exact(uint256 first, uint256 second, uint256 out) public {
        first = bound(first, 1, Pools.MAX_STAKE / 2);
        second = bound(second, 1, Pools.MAX_STAKE / 2);
        vm.assertEq(mint(first), first);
        vm.assertEq(mint(second), second);
        out = bound(out, 0, first + second);
        vm.assertEq(burn(out), out);
        vm.assertEq(pool.amount, first + second - out);
    }

    /// @dev In and out again never gives more than was put in, whatever slashes made of the price before.
    function testFuzz_round_trip_gains_nothing(uint256 start, uint256 lost, uint256 amount) public {
        start = bound(start, 0, Pools.MAX_STAKE / 2);
        amount = bound(amount, 0, Pools.MAX_STAKE / 2);
        mint(start);
        cut(bound(lost, 0, start));
        vm.assertLe(burn(mint(amount)), amount);
    }

    function testFuzz_a_cut_is_shared_by_all(uint256 mine, uint256 theirs, uint256 lost) public {
        mine = bound(mine, 1, Pools.MAX_STAKE / 2);
        theirs = bound(theirs, 1, Pools.MAX_STAKE / 2);
        uint256 myShares = mint(mine);
        uint256 theirShares = mint(theirs);
        lost = bound(lost, 0, mine + theirs);
        uint16 denomination = pool.denomination;
        cut(lost);
        uint256 left = mine + theirs - lost;
        uint256 myWorth = Pools.worth(pool, Pools.convert(pool, myShares, denomination));
        uint256 theirWorth = Pools.worth(pool, Pools.convert(pool, theirShares, denomination));
        vm.assertLe(myWorth + theirWorth, left);
        // Each keeps its part, less at most two wei of rounding (and a share is worth at most one).
        vm.assertApproxEqAbs(myWorth, left * mine / (mine + theirs), 2, "mine");
        vm.assertApproxEqAbs(theirWorth, left * theirs / (mine + theirs), 2, "theirs");
    }

    /// @dev The pool pays its last share and is never asked for more than it has, through any number of total losses.
    function testFuzz_never_overflows(uint256[24] calldata seeds) public {
        uint256 held;
        uint16 denomination;
        for (uint256 i = 0; i < seeds.length; ++i) {
            uint256 seed = seeds[i];
            held = Pools.convert(pool, held, denomination);
            denomination = pool.denomination;
            if (seed % 3 == 0) {
                held += mint(Pools.MAX_STAKE - pool.amount);
            } else if (seed % 3 == 1) {
                uint256 out = bound(seed >> 2, 0, held);
                uint256 before = pool.amount;
                vm.assertLe(burn(out), before);
                held -= out;
            } else {
                cut(seed % 2 == 0 ? pool.amount : pool.amount - pool.amount / 1e12);
                vm.assertLe(pool.shares, Pools.CONSOLIDATION * (uint256(pool.amount) + 1));
            }
            vm.assertLe(pool.amount, pool.shares, "a share is worth more than a wei");
        }
        vm.assertLe(Pools.convert(pool, held, denomination), pool.shares);
    }

    function test_consolidation_keeps_the_worth() public {
        uint256 shares = mint(1e24);
        cut(1e24 - 1e18);
        vm.assertEq(pool.denomination, 1);
        vm.assertEq(pool.shares, 1e21);
        vm.assertEq(Pools.worth(pool, Pools.convert(pool, shares, 0)), 1e18);
    }

    function test_total_loss_leaves_nothing_and_the_pool_usable() public {
        uint256 old = mint(1e24);
        cut(1e24);
        uint16 denomination = pool.denomination;
        vm.assertEq(Pools.worth(pool, Pools.convert(pool, old, 0)), 0);
        uint256 fresh = mint(1e24);
        vm.assertApproxEqAbs(
            Pools.worth(pool, Pools.convert(pool, fresh, denomination)), 1e24, 1000, "the next staker keeps it all"
        );
        vm.assertLe(Pools.worth(pool, Pools.convert(pool, old, 0)), 1000);
    }

    /// @dev Whoever raises the price of a small pool by rounding pays more than the next staker loses.
    function testFuzz_inflating_the_price_does_not_pay(uint256 tiny, uint256 victim, uint8 rounds) public {
        tiny = bound(tiny, 1, 1000);
        uint256 spent = tiny;
        uint256 shares = mint(tiny);
        for (uint256 i = 0; i < rounds % 40; ++i) {
            uint256 price = (uint256(pool.amount) + 1) / (uint256(pool.shares) + 1);
            uint256 amount = 2 * price + 1;
            uint256 minted = mint(amount);
            spent += amount;
            spent -= burn(minted);
        }
        victim = bound(victim, 1, 1e24);
        uint256 victimShares = mint(victim);
        vm.assertLe(Pools.worth(pool, shares), spent);
        vm.assertLe(victimShares == 0 ? 0 : victim - Pools.worth(pool, victimShares), spent);
    }

    /// @dev However far behind: a position that cannot be read would keep its staker in.
    function test_old_denominations_fade_to_nothing() public {
        mint(1);
        while (pool.denomination < 100) {
            mint(Pools.MAX_STAKE - pool.amount);
            cut(pool.amount);
        }
        for (uint16 denomination = 0; denomination < 88; ++denomination) {
            vm.assertEq(Pools.convert(pool, type(uint104).max, denomination), 0);
        }
        vm.assertEq(Pools.convert(pool, type(uint104).max, pool.denomination - 10), 20);
        vm.assertEq(Pools.convert(pool, 5000, pool.denomination - 1), 5);
    }

    /// @dev Tickets of a share each, released after a loss, round to nothing: what they leave behind goes to those who stay,
    /// and never makes a share worth more than a wei.
    function testFuzz_small_parts_raise_no_price(uint256 start, uint256 lost, uint256 part) public {
        start = bound(start, 1, 300);
        uint256 held = mint(start);
        cut(bound(lost, 0, start));
        part = bound(part, 1, 7);
        while (held >= part) {
            burn(part);
            held -= part;
            vm.assertLe(pool.amount, pool.shares);
        }
        burn(held);
        vm.assertEq(pool.amount, 0);
    }

    function mint(uint256 amount) private returns (uint256 shares) {
        Pool memory changed = pool;
        shares = Pools.mint(changed, amount);
        pool = changed;
    }

    function burn(uint256 shares) private returns (uint256 amount) {
        Pool memory changed = pool;
        amount = Pools.burn(changed, shares);
        pool = changed;
    }

    function cut(uint256 amount) private {
        Pool memory changed = pool;
        Pools.cut(changed, amount);
        pool = changed;
    }
}
