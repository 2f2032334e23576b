// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.30;

import {JurorView} from "../src/IDisputeCourt.sol";
import {CourtTest} from "./support/CourtTest.sol";

/// @notice What each step of a dispute costs, as `GasTest` measures it, with a jury of five out of a thousand jurors.
/// forge-config: default.isolate = true
contract CourtGasTest is CourtTest {
    function measured(string memory name) private {
        vm.snapshotGasLastCall("court", name);
    }

    function test_a_dispute() public {
        uint64[] memory nodes = enlistJurors(1000);
        court.refresh(nodes[500]);
        measured("refresh, 1,000 jurors");
        uint256 dispute = open(receipt());
        measured("open a dispute");
        answer(dispute);
        measured("answer");
        vm.roll(block.number + DRAW_BLOCKS);
        court.draw(dispute);
        measured("draw 5 of 1,000 jurors");
        JurorView[] memory jury = court.jurorsOf(dispute);
        for (uint256 i = 0; i < jury.length; ++i) {
            commit(dispute, jury[i].node, TRUTH);
            if (i == 1) measured("commit");
        }
        for (uint256 i = 0; i < jury.length; ++i) {
            court.reveal(dispute, jury[i].node, TRUTH, SALT);
            if (i == 1) measured("reveal");
        }
        court.finish(dispute);
        measured("finish, convicted by 5 jurors");
        vm.prank(bob);
        court.withdraw(payable(bob));
        measured("withdraw from the court");
    }

    function test_absences() public {
        enlistJurors(JURY);
        (uint256 dispute,) = drawn();
        pass(court.disputeOf(dispute).deadline);
        court.finish(dispute);
        measured("finish, 5 jurors absent");
    }
}
