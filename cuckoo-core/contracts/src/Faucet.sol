// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeTransferLib} from "solady/utils/SafeTransferLib.sol";

/// @notice What a faucet gives, and to whom not.
/// @param amount wei given at once
/// @param holdingCap wei; who holds more gets nothing
/// @param dayCap wei given to all together in a day (UTC)
/// @param coolDown seconds between two times that an address receives or asks
struct FaucetConfig {
    uint128 amount;
    uint128 holdingCap;
    uint128 dayCap;
    uint64 coolDown;
}

/// @title Gives a little CAI to whoever asks. For test networks.
/// @notice Anyone can fund it by sending CAI. The owner changes the settings within their bounds and takes out what is left.
contract Faucet is Ownable2Step, ReentrancyGuardTransient {
    event Funded(address indexed from, uint256 amount);
    event Dripped(address indexed to, address indexed sender, uint256 amount);
    event Configured(uint256 amount, uint256 holdingCap, uint256 dayCap, uint64 coolDown);
    event TakenOut(address indexed to, uint256 amount);

    error ZeroAddress();
    /// @notice A setting is outside its bounds.
    error InvalidConfig(string setting);
    /// @notice The receiver or the sender received or asked a short while ago.
    error CoolingDown(address account, uint256 readyAt);
    error HoldsEnough(address to, uint256 balance, uint256 cap);
    /// @notice What is left of today's cap, in wei, is less than one gift.
    error DayCapReached(uint256 left, uint256 nextDayAt);
    /// @notice The faucet holds less than what was asked for: fund it.
    error FaucetEmpty(uint256 balance, uint256 wanted);
    error TransferFailed(address to, uint256 amount);

    /// @dev Far below the supply: what a wrong setting can give away in a day.
    uint256 public constant MAX_PER_DAY = 50_000_000 ether;
    uint64 public constant MAX_COOL_DOWN = 30 days;

    /// @notice The present settings.
    FaucetConfig public config;
    /// @notice When an address last received or asked, in seconds; 0 for never.
    mapping(address account => uint256) public lastSeen;
    uint128 private _givenOnDay;
    uint64 private _day;

    constructor(address owner_, FaucetConfig memory config_) Ownable(owner_) {
        _configure(config_);
    }

    receive() external payable {
        emit Funded(msg.sender, msg.value);
    }

    /// @notice Sends the set amount to `to`.
    function drip(address payable to) external nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        FaucetConfig memory settings = config;
        if (to.balance > settings.holdingCap) revert HoldsEnough(to, to.balance, settings.holdingCap);
        _mustBeReady(to, settings.coolDown);
        _mustBeReady(msg.sender, settings.coolDown);
        uint256 left = leftToday();
        if (settings.amount > left) revert DayCapReached(left, (block.timestamp / 1 days + 1) * 1 days);
        lastSeen[to] = block.timestamp;
        lastSeen[msg.sender] = block.timestamp;
        _givenOnDay = (_day == _today() ? _givenOnDay : 0) + settings.amount;
        _day = _today();
        emit Dripped(to, msg.sender, settings.amount);
        _send(to, settings.amount);
    }

    /// @notice Changes the settings, from now on. Only the owner.
    function configure(FaucetConfig calldata config_) external onlyOwner {
        _configure(config_);
    }

    /// @notice Takes CAI out. Only the owner.
    function takeOut(uint256 amount, address payable to) external onlyOwner nonReentrant {
        if (to == address(0)) revert ZeroAddress();
        emit TakenOut(to, amount);
        _send(to, amount);
    }

    /// @notice What can still be given today, in wei, if the faucet holds it.
    function leftToday() public view returns (uint256) {
        uint256 given = _day == _today() ? _givenOnDay : 0;
        // The cap may have been lowered since.
        return given < config.dayCap ? config.dayCap - given : 0;
    }

    function _configure(FaucetConfig memory config_) private {
        if (config_.dayCap > MAX_PER_DAY) revert InvalidConfig("dayCap");
        if (config_.amount == 0 || config_.amount > config_.dayCap) revert InvalidConfig("amount");
        if (config_.coolDown == 0 || config_.coolDown > MAX_COOL_DOWN) revert InvalidConfig("coolDown");
        if (config_.holdingCap > MAX_PER_DAY) revert InvalidConfig("holdingCap");
        config = config_;
        emit Configured(config_.amount, config_.holdingCap, config_.dayCap, config_.coolDown);
    }

    function _send(address payable to, uint256 amount) private {
        if (amount > address(this).balance) revert FaucetEmpty(address(this).balance, amount);
        if (!SafeTransferLib.trySafeTransferETH(to, amount, gasleft())) revert TransferFailed(to, amount);
    }

    function _mustBeReady(address account, uint64 coolDown) private view {
        uint256 last = lastSeen[account];
        if (last != 0 && block.timestamp < last + coolDown) revert CoolingDown(account, last + coolDown);
    }

    function _today() private view returns (uint64) {
        return uint64(block.timestamp / 1 days);
    }
}
