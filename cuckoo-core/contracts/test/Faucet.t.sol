// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Faucet, FaucetConfig} from "../src/Faucet.sol";
import {Hostile, Reenterer, Wallet} from "./support/Receivers.sol";
import {Vm} from "./support/Vm.sol";

contract FaucetTest {
    Vm private constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint128 private constant AMOUNT = 10 ether;
    uint64 private constant COOL_DOWN = 6 hours;

    address private immutable owner = vm.addr(0xad);
    address payable private immutable alice = payable(vm.addr(0xa1));
    address payable private immutable bob = payable(vm.addr(0xb0));
    address private immutable relay = vm.addr(0x4e);
    Faucet private faucet;
    uint256 private senders;

    function setUp() public {
        // Midnight of some day.
        vm.warp(20_000 days);
        faucet = new Faucet(owner, config());
        fund(1000 ether);
    }

    function config() private pure returns (FaucetConfig memory) {
        return FaucetConfig({amount: AMOUNT, holdingCap: 50 ether, dayCap: 45 ether, coolDown: COOL_DOWN});
    }

    function fund(uint256 amount) private {
        vm.deal(address(this), amount);
        (bool ok,) = address(faucet).call{value: amount}("");
        vm.assertTrue(ok);
    }

    /// @dev By a sender that is new each time.
    function drip(address payable to) private {
        vm.prank(vm.addr(1000 + ++senders));
        faucet.drip(to);
    }

    function configure(FaucetConfig memory changed) private {
        vm.prank(owner);
        faucet.configure(changed);
    }

    // --- giving ---

    function test_gives_the_set_amount() public {
        vm.expectEmit(address(faucet));
        emit Faucet.Dripped(alice, relay, AMOUNT);
        vm.prank(relay);
        faucet.drip(alice);
        vm.assertEq(alice.balance, AMOUNT);
        vm.assertEq(faucet.leftToday(), 35 ether);
        vm.assertEq(faucet.lastSeen(alice), block.timestamp);
        vm.assertEq(faucet.lastSeen(relay), block.timestamp);
    }

    function test_anyone_can_fund_it() public {
        vm.deal(bob, 1 ether);
        vm.expectEmit(address(faucet));
        emit Faucet.Funded(bob, 1 ether);
        vm.prank(bob);
        (bool ok,) = address(faucet).call{value: 1 ether}("");
        vm.assertTrue(ok);
        vm.assertEq(address(faucet).balance, 1001 ether);
    }

    function test_the_receiver_waits() public {
        drip(alice);
        uint256 readyAt = block.timestamp + COOL_DOWN;
        vm.warp(readyAt - 1);
        vm.expectRevert(abi.encodeWithSelector(Faucet.CoolingDown.selector, alice, readyAt));
        drip(alice);
        vm.warp(readyAt);
        drip(alice);
        vm.assertEq(alice.balance, 2 * AMOUNT);
    }

    function test_the_sender_waits() public {
        vm.prank(relay);
        faucet.drip(alice);
        uint256 readyAt = block.timestamp + COOL_DOWN;
        vm.warp(readyAt - 1);
        vm.expectRevert(abi.encodeWithSelector(Faucet.CoolingDown.selector, relay, readyAt));
        vm.prank(relay);
        faucet.drip(bob);
        // Who received has had its turn as well.
        vm.expectRevert(abi.encodeWithSelector(Faucet.CoolingDown.selector, alice, readyAt));
        vm.prank(alice);
        faucet.drip(bob);
        vm.warp(readyAt);
        vm.prank(relay);
        faucet.drip(bob);
    }

    function test_the_first_on_a_chain_that_began_at_zero() public {
        vm.warp(0);
        drip(alice);
        vm.assertEq(alice.balance, AMOUNT);
    }

    function test_who_holds_enough_gets_nothing() public {
        vm.deal(alice, 50 ether);
        drip(alice);
        vm.assertEq(alice.balance, 60 ether);
        vm.deal(bob, 50 ether + 1);
        vm.expectRevert(abi.encodeWithSelector(Faucet.HoldsEnough.selector, bob, 50 ether + 1, 50 ether));
        drip(bob);
    }

    function test_a_day_gives_so_much_to_all() public {
        for (uint256 i = 1; i <= 4; ++i) {
            drip(payable(vm.addr(i)));
        }
        vm.warp(20_001 days - 1);
        vm.expectRevert(abi.encodeWithSelector(Faucet.DayCapReached.selector, 5 ether, 20_001 days));
        drip(alice);
        vm.warp(20_001 days);
        vm.assertEq(faucet.leftToday(), 45 ether);
        drip(alice);
        vm.assertEq(faucet.leftToday(), 35 ether);
    }

    function test_an_empty_faucet() public {
        vm.prank(owner);
        faucet.takeOut(991 ether, bob);
        vm.expectRevert(abi.encodeWithSelector(Faucet.FaucetEmpty.selector, 9 ether, AMOUNT));
        drip(alice);
        vm.assertEq(faucet.lastSeen(alice), 0);
        vm.assertEq(faucet.leftToday(), 45 ether);
    }

    function test_zero_address() public {
        vm.expectRevert(Faucet.ZeroAddress.selector);
        drip(payable(address(0)));
        vm.expectRevert(Faucet.ZeroAddress.selector);
        vm.prank(owner);
        faucet.takeOut(1, payable(address(0)));
    }

    /// @dev However it is asked: no address gets more than one gift in a cool-down, nor all more than the cap in a day.
    function testFuzz_no_more_than_the_caps(uint256[40] calldata seeds) public {
        uint256 today = block.timestamp / 1 days;
        uint256 givenToday;
        uint256[3] memory last;
        for (uint256 i = 0; i < seeds.length; ++i) {
            vm.warp(block.timestamp + seeds[i] % (COOL_DOWN / 2));
            if (block.timestamp / 1 days != today) (today, givenToday) = (block.timestamp / 1 days, 0);
            uint256 who = (seeds[i] >> 64) % 3;
            address payable to = payable(vm.addr(who + 1));
            uint256 before = to.balance;
            bool due = last[who] == 0 || block.timestamp >= last[who] + COOL_DOWN;
            due = due && givenToday + AMOUNT <= 45 ether && before <= 50 ether;
            vm.prank(vm.addr(1000 + i));
            try faucet.drip(to) {
                vm.assertTrue(due, "given though not due");
                vm.assertEq(to.balance, before + AMOUNT);
                (last[who], givenToday) = (block.timestamp, givenToday + AMOUNT);
            } catch {
                vm.assertFalse(due);
            }
        }
    }

    // --- receivers ---

    function test_a_receiver_that_refuses_keeps_its_turn() public {
        Wallet wallet = new Wallet();
        wallet.setAccepts(false);
        vm.expectRevert(abi.encodeWithSelector(Faucet.TransferFailed.selector, address(wallet), AMOUNT));
        drip(payable(wallet));
        vm.assertEq(faucet.lastSeen(address(wallet)), 0);
        vm.assertEq(faucet.leftToday(), 45 ether);
        wallet.setAccepts(true);
        drip(payable(wallet));
        vm.assertEq(address(wallet).balance, AMOUNT);
    }

    function test_hostile_receivers() public {
        Hostile wordy = new Hostile(false);
        vm.expectRevert(abi.encodeWithSelector(Faucet.TransferFailed.selector, address(wordy), AMOUNT));
        drip(payable(wordy));
        vm.assertEq(address(faucet).balance, 1000 ether);
    }

    function test_it_cannot_be_reentered() public {
        Reenterer reenterer = new Reenterer();
        reenterer.onReceive(address(faucet), abi.encodeCall(Faucet.drip, (bob)));
        drip(payable(reenterer));
        vm.assertEq(reenterer.entered(), 1);
        vm.assertFalse(reenterer.succeeded());
        vm.assertEq(
            reenterer.failure(), abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector)
        );
        vm.assertEq(address(faucet).balance, 990 ether);
        vm.assertEq(bob.balance, 0);
    }

    function test_taking_out_cannot_be_reentered() public {
        Reenterer reenterer = new Reenterer();
        reenterer.onReceive(address(faucet), abi.encodeCall(Faucet.takeOut, (1 ether, bob)));
        vm.prank(owner);
        faucet.transferOwnership(address(reenterer));
        reenterer.run(address(faucet), 0, abi.encodeWithSignature("acceptOwnership()"));
        reenterer.run(address(faucet), 0, abi.encodeCall(Faucet.takeOut, (1 ether, payable(reenterer))));
        vm.assertEq(reenterer.entered(), 1);
        vm.assertFalse(reenterer.succeeded());
        vm.assertEq(address(faucet).balance, 999 ether);
    }

    // --- the owner ---

    function test_only_the_owner() public {
        bytes memory stranger = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, alice);
        vm.expectRevert(stranger);
        vm.prank(alice);
        faucet.configure(config());
        vm.expectRevert(stranger);
        vm.prank(alice);
        faucet.takeOut(1, alice);
    }

    function test_ownership_is_handed_over_in_two_steps() public {
        vm.prank(owner);
        faucet.transferOwnership(bob);
        vm.assertEq(faucet.owner(), owner);
        vm.prank(bob);
        faucet.acceptOwnership();
        vm.prank(bob);
        faucet.takeOut(1 ether, bob);
        vm.assertEq(bob.balance, 1 ether);
    }

    function test_takes_out_what_there_is() public {
        vm.expectRevert(abi.encodeWithSelector(Faucet.FaucetEmpty.selector, 1000 ether, 1000 ether + 1));
        vm.prank(owner);
        faucet.takeOut(1000 ether + 1, bob);
        vm.expectEmit(address(faucet));
        emit Faucet.TakenOut(bob, 1000 ether);
        vm.prank(owner);
        faucet.takeOut(1000 ether, bob);
        vm.assertEq(bob.balance, 1000 ether);
        Wallet wallet = new Wallet();
        wallet.setAccepts(false);
        fund(1 ether);
        vm.expectRevert(abi.encodeWithSelector(Faucet.TransferFailed.selector, address(wallet), 1 ether));
        vm.prank(owner);
        faucet.takeOut(1 ether, payable(wallet));
    }

    function test_settings_count_at_once() public {
        drip(alice);
        FaucetConfig memory changed = config();
        (changed.coolDown, changed.amount, changed.dayCap) = (1, 20 ether, 30 ether);
        vm.expectEmit(address(faucet));
        emit Faucet.Configured(20 ether, 50 ether, 30 ether, 1);
        configure(changed);
        vm.warp(block.timestamp + 1);
        drip(alice);
        vm.assertEq(alice.balance, 30 ether);
        vm.assertEq(faucet.leftToday(), 0);
        // A cap below what was given today.
        (changed.amount, changed.dayCap) = (5 ether, 10 ether);
        configure(changed);
        vm.assertEq(faucet.leftToday(), 0);
        vm.expectPartialRevert(Faucet.DayCapReached.selector);
        drip(bob);
    }

    function test_bounds() public {
        FaucetConfig memory changed = config();
        (changed.dayCap, changed.holdingCap) = (50_000_000 ether, 50_000_000 ether);
        (changed.amount, changed.coolDown) = (changed.dayCap, 30 days);
        configure(changed);
        changed.dayCap += 1;
        refused(changed, "dayCap");
        changed.dayCap = type(uint128).max;
        refused(changed, "dayCap");
        changed = config();
        changed.amount = 0;
        refused(changed, "amount");
        changed.amount = changed.dayCap + 1;
        refused(changed, "amount");
        changed = config();
        changed.coolDown = 0;
        refused(changed, "coolDown");
        changed.coolDown = 30 days + 1;
        refused(changed, "coolDown");
        changed.coolDown = type(uint64).max;
        refused(changed, "coolDown");
        changed = config();
        changed.holdingCap = 50_000_000 ether + 1;
        refused(changed, "holdingCap");
        changed.holdingCap = 0;
        configure(changed);
        drip(alice);
        vm.assertEq(alice.balance, AMOUNT);
    }

    function refused(FaucetConfig memory changed, string memory setting) private {
        bytes memory reason = abi.encodeWithSelector(Faucet.InvalidConfig.selector, setting);
        vm.expectRevert(reason);
        configure(changed);
        vm.expectRevert(reason);
        new Faucet(owner, changed);
    }
}
