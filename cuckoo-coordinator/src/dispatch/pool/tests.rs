use super::*;

fn at(number: u64) -> Place {
    Place::new(0, number)
}

fn waiting(number: u8, input_bytes: u64, excluded: &[u64]) -> Waiting {
    Waiting {
        task: TaskId::from(B256::repeat_byte(number)),
        input_bytes,
        excluded: excluded.iter().copied().map(NodeId).collect(),
    }
}

/// What a heartbeat of a miner tells, always at the same time.
fn wanted(pool: &mut Pool, miner: u64) -> Option<(usize, Place)> {
    let now = Timestamp::from_millis(1_000);
    pool.wanted_of(NodeId(miner), now, Duration::from_secs(1))
}

#[test]
fn long_inputs_go_to_miners_that_take_them() {
    let mut pool = Pool::new(B256::ZERO);
    pool.join(NodeId(1), Wei::from(100), 10);
    pool.join(NodeId(2), Wei::from(1), 20);
    pool.set_free(NodeId(1), 1);
    assert_eq!(pool.push(at(0), waiting(1, 11, &[])), None);
    assert_eq!(pool.next_for(NodeId(1)), None);
    pool.set_free(NodeId(2), 1);
    assert_eq!(pool.next_for(NodeId(2)), Some(at(0)));
    assert_eq!(pool.assign(at(0)).map(|(_, miner)| miner), Some(NodeId(2)));
    assert_eq!(pool.push(at(1), waiting(2, 10, &[])), Some(NodeId(1)));
}

#[test]
fn a_free_miner_gets_the_first_task_it_may_have() {
    let mut pool = Pool::new(B256::ZERO);
    pool.join(NodeId(1), Wei::from(1), 10);
    assert_eq!(pool.push(at(5), waiting(1, 1, &[1])), None);
    assert_eq!(pool.push(at(6), waiting(2, 1, &[])), None);
    // Back in line at its old place.
    assert_eq!(pool.push(at(2), waiting(3, 1, &[])), None);
    pool.set_free(NodeId(1), 2);
    assert_eq!(pool.next_for(NodeId(1)), Some(at(2)));
    assert!(pool.assign(at(2)).is_some());
    assert_eq!(pool.next_for(NodeId(1)), Some(at(6)));
    assert!(pool.assign(at(6)).is_some());
    assert_eq!(pool.next_for(NodeId(1)), None);
    assert_eq!(pool.len(), 1);
}

#[test]
fn a_model_is_wanted_of_as_many_miners_as_tasks_wait_beyond_what_is_in_hand() {
    let mut pool = Pool::new(B256::ZERO);
    for miner in 1..=4 {
        pool.join(NodeId(miner), Wei::from(1), 10);
    }
    pool.set_warm(NodeId(1), true);
    assert_eq!(wanted(&mut pool, 2), None, "nothing waits");
    pool.wait(at(7), waiting(1, 1, &[]));
    assert_eq!(wanted(&mut pool, 2), None, "the warm one will take it");
    pool.wait(at(8), waiting(2, 1, &[2]));
    pool.wait(at(9), waiting(3, 1, &[]));
    assert_eq!(wanted(&mut pool, 1), None, "it is warm");
    assert_eq!(wanted(&mut pool, 2), Some((2, at(7))));
    assert_eq!(wanted(&mut pool, 2), Some((2, at(7))), "told again");
    assert_eq!(wanted(&mut pool, 3), Some((1, at(7))));
    assert_eq!(wanted(&mut pool, 4), None, "two were told");
    // One of them did not load it, as its poll says, and one is gone.
    pool.set_warm(NodeId(2), false);
    pool.leave(NodeId(3));
    assert_eq!(wanted(&mut pool, 4), Some((2, at(7))));
    // As many are worked on as wait.
    for _ in 0..3 {
        pool.began();
    }
    assert_eq!(wanted(&mut pool, 4), None);
}

#[test]
fn a_model_is_not_wanted_of_a_miner_that_may_have_none_of_its_tasks() {
    let mut pool = Pool::new(B256::ZERO);
    pool.join(NodeId(1), Wei::from(1), 10);
    pool.wait(at(1), waiting(1, 11, &[]));
    pool.wait(at(2), waiting(2, 1, &[1]));
    assert_eq!(wanted(&mut pool, 1), None);
}

#[test]
fn a_hint_looks_at_the_first_in_line_and_a_poll_at_all() {
    let mut pool = Pool::new(B256::ZERO);
    pool.join(NodeId(1), Wei::from(1), 10);
    for number in 0..64 {
        pool.wait(at(number), waiting(1, 11, &[]));
    }
    pool.wait(at(64), waiting(2, 1, &[]));
    assert_eq!(pool.next_for(NodeId(1)), Some(at(64)));
    assert_eq!(wanted(&mut pool, 1), None);
    pool.remove(at(0));
    assert_eq!(wanted(&mut pool, 1), Some((64, at(64))));
}

#[test]
fn a_miner_that_does_not_load_what_it_was_told_to_makes_room_for_another() {
    let mut pool = Pool::new(B256::ZERO);
    for miner in 1..=2 {
        pool.join(NodeId(miner), Wei::from(1), 10);
    }
    pool.wait(at(1), waiting(1, 1, &[]));
    let mut wanted = |miner, millis| {
        let now = Timestamp::from_millis(millis);
        pool.wanted_of(NodeId(miner), now, Duration::from_millis(100))
    };
    let told = Some((1, at(1)));
    assert_eq!(wanted(1, 1_000), told);
    assert_eq!((wanted(2, 1_099), wanted(1, 1_099)), (None, told));
    assert_eq!(wanted(1, 1_100), None, "it had its time");
    assert_eq!(wanted(2, 1_100), told);
    assert_eq!((wanted(2, 1_200), wanted(1, 1_200)), (None, None), "nobody");
    // It polls: it may be told again.
    pool.set_warm(NodeId(1), false);
    let now = Timestamp::from_millis(1_300);
    let again = pool.wanted_of(NodeId(1), now, Duration::from_millis(100));
    assert_eq!(again, told);
}

#[test]
fn higher_priority_goes_first_then_the_order_of_submission() {
    let mut pool = Pool::new(B256::ZERO);
    pool.join(NodeId(1), Wei::from(1), 10);
    for (number, priority) in [(1, 0), (2, 5), (3, 5), (4, -1)] {
        let place = Place::new(priority, number.into());
        assert_eq!(pool.push(place, waiting(number, 1, &[])), None);
    }
    pool.set_free(NodeId(1), 4);
    let next = |_| {
        pool.next_for(NodeId(1))
            .and_then(|place| pool.assign(place))
    };
    let taken: Vec<_> = (0..4).filter_map(next).map(|(task, _)| task).collect();
    let expected = [2, 3, 1, 4].map(|number| waiting(number, 1, &[]).task);
    assert_eq!(taken, expected);
}
