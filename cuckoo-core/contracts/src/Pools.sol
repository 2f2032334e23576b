// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Stake (wei) owned by shares: slashing changes `amount` alone, so it costs the same for any number of stakers.
/// @param denomination how often the shares were consolidated; shares noted under an older one convert when next read
/// @param settledAt seconds; until when the pool's rewards were given to its shares
struct Pool {
    uint96 amount;
    uint104 shares;
    uint16 denomination;
    uint40 settledAt;
}

/// @title Arithmetic of share-priced pools.
/// @notice A share's price is (amount + 1) / (shares + 1), the virtual wei and share as in OpenZeppelin's ERC4626. Every
/// division rounds down, in favour of the pool. While nobody was slashed the price is exactly 1 and nothing is lost to
/// rounding. No rounding ever raises it above 1: shares are never fewer than wei. So a wei always buys a share, a pool
/// without shares is empty, and nobody can make a share dear for the next staker.
///
/// Each slash lowers the price, so an ever-slashed pool that is voted into again would need ever more shares. To keep
/// them in 104 bits a slash that leaves more than `CONSOLIDATION` shares per wei consolidates that many shares into one.
/// A position then loses less than one wei. With `MAX_STAKE` wei in all pools together no number of shares overflows.
library Pools {
    /// @dev Shares that become one when the price falls below its inverse.
    uint256 internal constant CONSOLIDATION = 1000;
    /// @dev Wei; (CONSOLIDATION + 1) * (MAX_STAKE + 1) < 2**104, and ten times the supply of CAI.
    uint256 internal constant MAX_STAKE = 1e28;

    /// @notice What `shares` of the pool are worth now, in wei.
    function worth(Pool memory pool, uint256 shares) internal pure returns (uint256) {
        return shares * (uint256(pool.amount) + 1) / (uint256(pool.shares) + 1);
    }

    /// @notice Shares noted under `denomination`, in the pool's present one.
    function convert(Pool memory pool, uint256 shares, uint16 denomination) internal pure returns (uint256) {
        uint256 behind = pool.denomination - denomination;
        if (behind == 0) return shares;
        // 1000**11 > 2**104: nothing is left.
        if (behind > 10) return 0;
        return shares / CONSOLIDATION ** behind;
    }

    /// @notice The pool with `amount` wei more, and the shares they give.
    function mint(Pool memory pool, uint256 amount) internal pure returns (uint256 shares) {
        shares = amount * (uint256(pool.shares) + 1) / (uint256(pool.amount) + 1);
        set(pool, pool.amount + amount, pool.shares + shares);
    }

    /// @notice The pool without `shares`, and the wei they are worth.
    function burn(Pool memory pool, uint256 shares) internal pure returns (uint256 amount) {
        amount = worth(pool, shares);
        set(pool, pool.amount - amount, pool.shares - shares);
    }

    /// @notice The pool after `amount` wei were taken from all shares alike.
    function cut(Pool memory pool, uint256 amount) internal pure {
        uint256 left = pool.amount - amount;
        uint256 shares = pool.shares;
        while (shares > CONSOLIDATION * (left + 1)) {
            shares /= CONSOLIDATION;
            ++pool.denomination;
        }
        set(pool, left, shares);
    }

    /// @dev The casts cannot lose anything while the pools hold at most `MAX_STAKE`.
    function set(Pool memory pool, uint256 amount, uint256 shares) private pure {
        assert(amount <= type(uint96).max && shares <= type(uint104).max);
        // forge-lint: disable-next-line(unsafe-typecast)
        (pool.amount, pool.shares) = (uint96(amount), uint104(shares));
    }
}
