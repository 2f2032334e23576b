// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice Stake (wei) owned by shares: slashing changes `amount` alone, so it costs the same for any number of stakers.
/// @param denomination how often the shares were consolidated; shares noted under an older one convert when next read
struct Pool {
    uint112 amount;
    uint112 shares;
    uint32 denomination;
}

/// @title Arithmetic of share-priced pools.
/// @notice A share's price is (amount + 1) / (shares + 1): the virtual wei and share (as in OpenZeppelin's ERC4626) make
/// raising the price of a small pool cost more than it can take from the next staker. Every division rounds down, in
/// favour of the pool. While nobody was slashed the price is exactly 1 and nothing is lost to rounding.
///
/// Each slash lowers the price, so an ever-slashed pool that is voted into again would need ever more shares. To keep
/// them in 112 bits a slash that leaves more than `CONSOLIDATION` shares per wei consolidates that many shares into one.
/// A position then loses less than one wei. With `MAX_STAKE` wei in all pools together no number of shares overflows.
library Pools {
    /// @dev Shares that become one when the price falls below its inverse.
    uint256 internal constant CONSOLIDATION = 1000;
    /// @dev Wei; (CONSOLIDATION + 1) * (MAX_STAKE + 1) < 2**112, and far above the supply of CAI.
    uint256 internal constant MAX_STAKE = 1e30;

    /// @notice What `shares` of the pool are worth now, in wei.
    function worth(Pool memory pool, uint256 shares) internal pure returns (uint256) {
        return shares * (uint256(pool.amount) + 1) / (uint256(pool.shares) + 1);
    }

    /// @notice Shares noted under `denomination`, in the pool's present one.
    function convert(Pool memory pool, uint256 shares, uint32 denomination) internal pure returns (uint256) {
        uint256 behind = pool.denomination - denomination;
        // 1000**12 > 2**112: nothing is left.
        if (behind > 11) return 0;
        return shares / CONSOLIDATION ** behind;
    }

    /// @notice Adds `amount` wei for the shares it gives.
    function mint(Pool storage self, uint256 amount) internal returns (uint256 shares) {
        Pool memory pool = self;
        shares = amount * (uint256(pool.shares) + 1) / (uint256(pool.amount) + 1);
        write(self, pool.amount + amount, pool.shares + shares, pool.denomination);
    }

    /// @notice Takes `shares` out for the wei they are worth.
    function burn(Pool storage self, uint256 shares) internal returns (uint256 amount) {
        Pool memory pool = self;
        amount = worth(pool, shares);
        write(self, pool.amount - amount, pool.shares - shares, pool.denomination);
    }

    /// @notice Takes `amount` wei from all shares alike.
    function cut(Pool storage self, uint256 amount) internal {
        Pool memory pool = self;
        uint256 left = pool.amount - amount;
        uint256 shares = pool.shares;
        uint32 denomination = pool.denomination;
        while (shares > CONSOLIDATION * (left + 1)) {
            shares /= CONSOLIDATION;
            ++denomination;
        }
        write(self, left, shares, denomination);
    }

    /// @dev One storage write; the casts cannot lose anything while the pools hold at most `MAX_STAKE`.
    function write(Pool storage self, uint256 amount, uint256 shares, uint32 denomination) private {
        assert(amount <= type(uint112).max && shares <= type(uint112).max);
        // forge-lint: disable-next-line(unsafe-typecast)
        (self.amount, self.shares, self.denomination) = (uint112(amount), uint112(shares), denomination);
    }
}
