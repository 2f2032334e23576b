// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

/// @notice An account that acts through `run`, and takes CAI unless told otherwise.
contract Wallet {
    bool public accepts = true;

    function setAccepts(bool accepts_) external {
        accepts = accepts_;
    }

    function run(address target, uint256 value, bytes memory data) public payable returns (bytes memory) {
        (bool ok, bytes memory result) = target.call{value: value}(data);
        if (!ok) {
            assembly {
                revert(add(result, 32), mload(result))
            }
        }
        return result;
    }

    receive() external payable virtual {
        require(accepts, "not accepted");
    }
}

/// @notice Calls back when paid and notes whether that worked.
contract Reenterer is Wallet {
    address private _target;
    bytes private _data;
    uint256 public entered;
    bool public succeeded;
    bytes public failure;

    function onReceive(address target, bytes memory data) external {
        (_target, _data) = (target, data);
    }

    receive() external payable override {
        ++entered;
        (bool ok, bytes memory result) = _target.call(_data);
        if (ok) succeeded = true;
        else failure = result;
    }
}

/// @notice Refuses with a megabyte of reasons, or eats all gas.
contract Hostile is Wallet {
    bool public immutable burnsGas;

    constructor(bool burnsGas_) {
        burnsGas = burnsGas_;
    }

    receive() external payable override {
        if (burnsGas) {
            while (true) {}
        }
        assembly {
            revert(0, 1000000)
        }
    }
}
