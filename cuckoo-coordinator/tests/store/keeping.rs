//! What is kept how long: outputs, finished tasks, blobs.

use cuckoo_coordinator::{Change, Committed, Outcome, TaskStore};
use cuckoo_core::{Output, cai, payload_hash};
use futures::TryStreamExt as _;

use crate::fixture::{
    Life, account, commit, completed, ended, failed, insert, lease, pay, received, replace,
    replace_with, task, time,
};
use crate::subject::{Kind, Subject, on_every_store};

on_every_store!(
    outputs_come_back_small_and_large,
    of_a_finished_task_only_the_accepted_output_stays,
    outputs_can_be_dropped,
    staging_twice_is_two_outputs,
    old_tasks_are_forgotten_with_all_that_is_theirs,
    the_oldest_tasks_beyond_the_most_are_forgotten,
    a_sweep_does_a_part_at_a_time,
    outputs_beyond_the_room_go_by_age_but_never_those_of_open_tasks,
    blobs_are_kept_from_the_last_time_they_were_put,
);

async fn output(store: &dyn TaskStore, life: &Life) -> Option<Output> {
    store
        .output(life.open.task.id, life.lease.lease)
        .await
        .unwrap()
}

async fn finish(store: &dyn TaskStore, life: &Life) {
    let given = Output::new("image/png", life.output.clone());
    let staged = store.stage(life.lease.lease, given).await.unwrap();
    let [_, pay] = life.end();
    commit(store, vec![replace_with(&life.done, 1, staged), pay]).await;
}

async fn outputs_come_back_small_and_large(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    for (number, size) in [(1, 0), (2, 64), (3, 65), (4, 3 << 20)] {
        let content: Vec<u8> = (0..size).map(|byte: u32| (byte % 251) as u8).collect();
        let life = Life::new(number, &content);
        commit(subject.store(), life.begin().to_vec()).await;
        assert_eq!(output(subject.store(), &life).await, None);
        finish(subject.store(), &life).await;
        subject.reopen().await;
        let store = subject.store();
        let whole = output(store, &life).await.unwrap();
        assert_eq!(whole.media_type, "image/png");
        assert!(whole.bytes == content, "{size} bytes");
        let stream = store
            .output_stream(life.open.task.id, life.lease.lease)
            .await;
        let stream = stream.unwrap().unwrap();
        assert_eq!(
            (stream.size, stream.media_type.as_str()),
            (size.into(), "image/png")
        );
        let chunks: Vec<_> = stream.chunks.try_collect().await.unwrap();
        assert!(chunks.concat() == content, "{size} bytes in pieces");
        let other = lease(&life.open, 1).lease;
        assert_eq!(store.output(life.open.task.id, other).await.unwrap(), None);
        assert!(
            store
                .output_stream(life.open.task.id, other)
                .await
                .unwrap()
                .is_none()
        );
    }
}

async fn of_a_finished_task_only_the_accepted_output_stays(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let store = subject.store();
    let (open, cancelled) = (task(1), task(2));
    commit(store, vec![insert(&open), insert(&cancelled)]).await;
    let leases = [lease(&open, 0), lease(&open, 1)];
    let mut record = open.clone();
    for (version, lease) in (1..).zip(&leases) {
        record = received(&record, lease, &[version as u8; 100]);
        let given = Output::new("text/plain", vec![version as u8; 100]);
        let staged = store.stage(lease.lease, given).await.unwrap();
        commit(store, vec![replace_with(&record, version, staged)]).await;
    }
    let staged = store.stage(
        lease(&cancelled, 0).lease,
        Output::new("text/plain", vec![7; 100]),
    );
    commit(
        store,
        vec![replace_with(&cancelled, 1, staged.await.unwrap())],
    )
    .await;
    for lease in &leases {
        assert!(
            store
                .output(open.task.id, lease.lease)
                .await
                .unwrap()
                .is_some()
        );
    }
    // The second receipt is the accepted one.
    let receipt = Box::new(record.received[1].receipt.clone());
    let done = ended(&record, Outcome::Completed { receipt }, 9);
    let gone = ended(&cancelled, Outcome::Cancelled, 9);
    commit(store, vec![replace(&done, 3), replace(&gone, 2)]).await;
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.load(open.task.id).await.unwrap().unwrap().value, done);
    assert_eq!(
        store.output(open.task.id, leases[0].lease).await.unwrap(),
        None
    );
    let accepted = store
        .output(open.task.id, leases[1].lease)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(accepted.bytes, [2; 100][..]);
    let cancelled = (cancelled.task.id, lease(&cancelled, 0).lease);
    assert_eq!(store.output(cancelled.0, cancelled.1).await.unwrap(), None);
}

async fn outputs_can_be_dropped(kind: Kind) {
    let subject = Subject::new(kind).await;
    let store = subject.store();
    let life = Life::new(1, &[5; 100]);
    commit(store, life.begin().to_vec()).await;
    let half = received(&life.open, &life.lease, &life.output);
    let given = || Output::new("image/png", life.output.clone());
    let staged = store.stage(life.lease.lease, given()).await.unwrap();
    commit(store, vec![replace_with(&half, 1, staged)]).await;
    assert_eq!(output(store, &life).await, Some(given()));
    let drop = Change::Replace {
        record: life.open.clone().into(),
        expected: 2,
        output: None,
        dropped: vec![life.lease.lease],
    };
    commit(store, vec![drop]).await;
    assert_eq!(output(store, &life).await, None);
}

async fn staging_twice_is_two_outputs(kind: Kind) {
    // A miner that repeats itself: the second is discarded, the first is kept.
    let subject = Subject::new(kind).await;
    let store = subject.store();
    let life = Life::new(1, &[5; 100]);
    commit(store, life.begin().to_vec()).await;
    let stage = || {
        store.stage(
            life.lease.lease,
            Output::new("image/png", life.output.clone()),
        )
    };
    let (first, second) = (stage().await.unwrap(), stage().await.unwrap());
    commit(store, vec![replace_with(&life.done, 1, first)]).await;
    store.discard(second).await.unwrap();
    assert_eq!(output(store, &life).await.unwrap().bytes, [5; 100][..]);
}

async fn old_tasks_are_forgotten_with_all_that_is_theirs(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let lives: Vec<_> = (1..=3)
        .map(|number| Life::new(number * 1_000, &[1; 100]))
        .collect();
    for life in &lives {
        commit(subject.store(), life.begin().to_vec()).await;
    }
    for life in &lives[..2] {
        finish(subject.store(), life).await;
    }
    commit(
        subject.store(),
        vec![account(lives[0].lease.miner, cai(4), 0)],
    )
    .await;
    let before = time(2_000);
    assert_eq!(subject.store().sweep(before, usize::MAX).await.unwrap(), 1);
    assert_eq!(subject.store().sweep(before, usize::MAX).await.unwrap(), 0);
    subject.reopen().await;
    let store = subject.store();
    let kept = |life: &Life| {
        let (task, lease) = (life.open.task.id, life.lease.lease);
        async move {
            let task_there = store.load(task).await.unwrap().is_some();
            let output_there = store.output(task, lease).await.unwrap().is_some();
            let payment_there = store.payment(task, lease).await.unwrap().is_some();
            (task_there, output_there, payment_there)
        }
    };
    assert_eq!(kept(&lives[0]).await, (false, false, false));
    assert_eq!(kept(&lives[1]).await, (true, true, true));
    assert_eq!(kept(&lives[2]).await, (true, false, false));
    assert_eq!(
        store.accounts().await.unwrap()[0].value.cumulative(),
        cai(4)
    );
    // However late it is, an open task stays.
    assert_eq!(store.sweep(time(u32::MAX.into()), 0).await.unwrap(), 1);
    assert_eq!(kept(&lives[2]).await, (true, false, false));
    // Its id may come again, without what it had.
    commit(store, vec![insert(&lives[0].open)]).await;
    assert_eq!(kept(&lives[0]).await, (true, false, false));
    commit(store, vec![pay(&lives[0].lease, cai(2))]).await;
}

async fn the_oldest_tasks_beyond_the_most_are_forgotten(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let store = subject.store();
    let records: Vec<_> = (1..=5).map(task).collect();
    commit(store, records.iter().map(insert).collect()).await;
    // They end in another order than they began, by a clock that jumps back.
    for (turn, end) in [(3, 50), (0, 40), (4, 90), (1, 60)] {
        commit(
            store,
            vec![replace(&ended(&records[turn], failed(), end), 1)],
        )
        .await;
    }
    assert_eq!(store.sweep(time(0), 4).await.unwrap(), 0);
    assert_eq!(store.sweep(time(0), 2).await.unwrap(), 2);
    assert_eq!(store.sweep(time(0), 2).await.unwrap(), 0);
    subject.reopen().await;
    let store = subject.store();
    let mut left = Vec::new();
    for (turn, record) in records.iter().enumerate() {
        if store.load(record.task.id).await.unwrap().is_some() {
            left.push(turn);
        }
    }
    assert_eq!(left, [1, 2, 4]);
    assert_eq!(store.sweep(time(0), 1).await.unwrap(), 1);
    assert_eq!(store.load(records[4].task.id).await.unwrap(), None);
}

async fn a_sweep_does_a_part_at_a_time(kind: Kind) {
    let subject = Subject::new(kind).await;
    let store = subject.store();
    let count = 2_500;
    let records: Vec<_> = (0..count).map(task).collect();
    commit(store, records.iter().map(insert).collect()).await;
    let ends = records
        .iter()
        .map(|record| replace(&ended(record, failed(), 1), 1));
    commit(store, ends.collect()).await;
    let mut swept = Vec::new();
    loop {
        match store.sweep(time(2), usize::MAX).await.unwrap() {
            0 => break,
            part => swept.push(part),
        }
    }
    assert_eq!(swept.iter().sum::<usize>() as u64, count);
    assert!(swept.len() > 1, "{count} tasks went at once");
    assert_eq!(store.load(records[0].task.id).await.unwrap(), None);
}

async fn outputs_beyond_the_room_go_by_age_but_never_those_of_open_tasks(kind: Kind) {
    let mut subject = Subject::with_room(kind, 250).await;
    let store = subject.store();
    let lives: Vec<_> = (1..=5)
        .map(|number| Life::new(number, &[number as u8; 100]))
        .collect();
    for life in &lives {
        commit(store, life.begin().to_vec()).await;
    }
    // One is open with its output there, awaiting an audit.
    let open = &lives[4];
    let half = received(&open.open, &open.lease, &open.output);
    let staged = store.stage(
        open.lease.lease,
        Output::new("image/png", open.output.clone()),
    );
    commit(store, vec![replace_with(&half, 1, staged.await.unwrap())]).await;
    for life in &lives[..2] {
        finish(store, life).await;
    }
    let there = async |store: &dyn TaskStore| {
        let mut there = Vec::new();
        for (turn, life) in lives.iter().enumerate() {
            if output(store, life).await.is_some() {
                there.push(turn);
            }
        }
        there
    };
    assert_eq!(there(store).await, [1, 4]);
    subject.reopen().await;
    let store = subject.store();
    // The task and what was paid for it stay.
    let task = store.load(lives[0].open.task.id).await.unwrap().unwrap();
    assert_eq!(task.value, lives[0].done);
    finish(store, &lives[2]).await;
    finish(store, &lives[3]).await;
    assert_eq!(there(store).await, [3, 4]);
    let done = completed(&half, 9);
    let answer = commit(store, vec![replace(&done, 2)]).await;
    assert_eq!(answer, [Committed::Version(3)]);
    let next = Life::new(6, &[6; 200]);
    commit(store, next.begin().to_vec()).await;
    finish(store, &next).await;
    assert_eq!(there(store).await, [0_usize; 0]);
    assert!(output(store, &next).await.is_some());
    // One that is larger than all the room is not kept for a moment longer than its task is open.
    let huge = Life::new(7, &[7; 300]);
    commit(store, huge.begin().to_vec()).await;
    finish(store, &huge).await;
    assert_eq!(output(store, &huge).await, None);
    assert_eq!(output(store, &next).await, None);
}

async fn blobs_are_kept_from_the_last_time_they_were_put(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let blobs = [10, 100, 200_000].map(|size| Output::new("audio/wav", vec![size as u8; size]));
    let hash = |blob: &Output| payload_hash(&blob.bytes);
    for blob in &blobs {
        subject
            .store()
            .put_blob(hash(blob), blob.clone(), time(1))
            .await
            .unwrap();
    }
    // Put again, later and earlier.
    for (blob, at) in [(&blobs[0], 5), (&blobs[2], 8), (&blobs[0], 2)] {
        subject
            .store()
            .put_blob(hash(blob), blob.clone(), time(at))
            .await
            .unwrap();
    }
    let extend = |hash, at| subject.store().extend_blob(hash, time(at));
    assert!(extend(hash(&blobs[2]), 9).await.unwrap());
    assert!(extend(hash(&blobs[2]), 3).await.unwrap());
    assert!(!extend(payload_hash(b"none"), 9).await.unwrap());
    subject.reopen().await;
    let kept = async |store: &dyn TaskStore| {
        let mut kept = Vec::new();
        for blob in &blobs {
            let found = store.blob(hash(blob)).await.unwrap();
            assert!(found.is_none() || found.as_ref() == Some(blob));
            kept.push(found.is_some());
        }
        kept
    };
    assert_eq!(kept(subject.store()).await, [true, true, true]);
    assert_eq!(
        subject.store().blob(payload_hash(b"none")).await.unwrap(),
        None
    );
    subject.store().sweep(time(5), 0).await.unwrap();
    assert_eq!(kept(subject.store()).await, [true, false, true]);
    subject.store().sweep(time(6), 0).await.unwrap();
    subject.reopen().await;
    assert_eq!(kept(subject.store()).await, [false, false, true]);
}
