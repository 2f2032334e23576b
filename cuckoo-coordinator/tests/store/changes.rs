//! Commits: what changes make of tasks, leases, sessions and pay, all or none.

use cuckoo_coordinator::{Change, Commit, Committed, Outcome, SessionRecord, TaskRecord};
use cuckoo_core::{Address, ErrorKind, NodeId, Wei, cai};

use crate::fixture::{
    Life, account, commit, completed, ended, failed, insert, lease, pay, received, replace,
    replace_with, staged, task, time, word,
};
use crate::subject::{Kind, Subject, on_every_store};

on_every_store!(
    a_task_comes_back_as_it_was_put_in,
    a_task_changes_from_the_version_that_was_read,
    a_finished_task_is_final,
    changes_that_conflict_take_the_others_with_them,
    changes_see_those_before_them,
    what_follows_a_conflict_is_judged_as_if_it_had_not_been_asked,
    a_key_names_one_task_of_its_requester,
    leases_last_until_they_or_their_task_end,
    accounts_grow_from_the_version_that_was_read,
    a_lease_is_paid_once,
    no_changes_are_done_at_once,
);

async fn a_task_comes_back_as_it_was_put_in(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let mut plain = task(1);
    plain.task.price = Wei::ZERO;
    let mut full = task(2);
    full.task.price = Wei::MAX;
    full.task.priority = -128;
    full.task.input = "{\"prompt\": \"ein Krähennest \u{1f426}\\u0000 'quoted'\"}".into();
    full.submission.requester = Some("a ' requester".into());
    full.submission.idempotency_key = Some("key".into());
    full.submission.webhook = Some("https://example.org/hook".into());
    let done = commit(subject.store(), vec![insert(&plain), insert(&full)]).await;
    assert_eq!(done, [Committed::Version(1), Committed::Version(1)]);
    let mut tried = received(&full, &lease(&full, 0), b"one");
    tried = received(&tried, &lease(&full, 1), b"other");
    tried.failures.push(cuckoo_coordinator::Failed {
        miner: NodeId(u64::MAX),
        kind: ErrorKind::Execution,
        reason: "out of memory".into(),
        at: time(5),
    });
    commit(subject.store(), vec![replace(&tried, 1)]).await;
    for record in [&plain, &tried] {
        let stored = subject.store().load(record.task.id).await.unwrap().unwrap();
        assert_eq!(stored.value, *record);
    }
    let outcomes = [completed(&tried, 9), ended(&plain, failed(), 10)];
    let versions = [2, 1];
    for (record, version) in outcomes.iter().zip(versions) {
        commit(subject.store(), vec![replace(record, version)]).await;
    }
    subject.reopen().await;
    for (record, version) in outcomes.iter().zip(versions) {
        let stored = subject.store().load(record.task.id).await.unwrap().unwrap();
        assert_eq!(stored.value, *record);
        assert_eq!(stored.version, version + 1);
    }
    assert_eq!(subject.store().load(task(3).task.id).await.unwrap(), None);
}

async fn a_task_changes_from_the_version_that_was_read(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let open = task(1);
    commit(subject.store(), vec![insert(&open)]).await;
    let next = received(&open, &lease(&open, 0), b"output");
    assert_eq!(
        commit(subject.store(), vec![replace(&next, 1)]).await,
        [Committed::Version(2)]
    );
    subject.reopen().await;
    for stale in [0, 1, 3] {
        let answer = subject
            .store()
            .commit(vec![replace(&open, stale)])
            .await
            .unwrap();
        assert_eq!(answer, Commit::Conflict(vec![0]), "version {stale}");
    }
    let stranger = subject
        .store()
        .commit(vec![replace(&task(2), 1)])
        .await
        .unwrap();
    assert_eq!(stranger, Commit::Conflict(vec![0]));
    let again = subject.store().commit(vec![insert(&open)]).await.unwrap();
    assert_eq!(again, Commit::Conflict(vec![0]));
    let stored = subject.store().load(open.task.id).await.unwrap().unwrap();
    assert_eq!((stored.value, stored.version), (next, 2));
}

async fn a_finished_task_is_final(kind: Kind) {
    let subject = Subject::new(kind).await;
    let open = task(1);
    let cancelled = ended(&open, Outcome::Cancelled, 3);
    commit(subject.store(), vec![insert(&open), replace(&cancelled, 1)]).await;
    for version in [1, 2, 3] {
        let revived = subject
            .store()
            .commit(vec![replace(&open, version)])
            .await
            .unwrap();
        assert_eq!(revived, Commit::Conflict(vec![0]), "version {version}");
    }
    let stored = subject.store().load(open.task.id).await.unwrap().unwrap();
    assert_eq!(stored.value, cancelled);
}

async fn changes_that_conflict_take_the_others_with_them(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let (old, new) = (Life::new(1, b"old"), Life::new(2, b"new"));
    commit(
        subject.store(),
        old.begin().into_iter().chain(old.end()).collect(),
    )
    .await;
    commit(subject.store(), vec![account(NodeId(1), cai(2), 0)]).await;
    let session = SessionRecord {
        token_hash: word("token", 1),
        miner: NodeId(9),
        operator: Address::repeat_byte(9),
        expires_at: time(1),
    };
    let changes = vec![
        insert(&new.open),
        insert(&old.open),
        Change::PutLease(new.lease.clone()),
        Change::PutSession(session),
        replace(&new.open, 2),
        pay(&old.lease, cai(2)),
        pay(&new.lease, cai(2)),
        account(NodeId(1), cai(4), 0),
        account(NodeId(2), cai(4), 1),
    ];
    let answer = subject.store().commit(changes).await.unwrap();
    assert_eq!(answer, Commit::Conflict(vec![1, 4, 5, 7, 8]));
    subject.reopen().await;
    let store = subject.store();
    assert_eq!(store.load(new.open.task.id).await.unwrap(), None);
    assert_eq!(store.leases().await.unwrap(), []);
    assert_eq!(store.sessions().await.unwrap(), []);
    let payment = store
        .payment(new.open.task.id, new.lease.lease)
        .await
        .unwrap();
    assert_eq!(payment, None);
    let accounts = store.accounts().await.unwrap();
    assert_eq!(accounts.len(), 1);
    assert_eq!(
        (accounts[0].value.cumulative(), accounts[0].version),
        (cai(2), 1)
    );
    // And the order of tasks has no gap that matters.
    commit(store, new.begin().to_vec()).await;
    assert_eq!(store.unfinished(None, 9).await.unwrap().len(), 1);
}

async fn changes_see_those_before_them(kind: Kind) {
    let subject = Subject::new(kind).await;
    let life = Life::new(1, b"output");
    let half = received(&life.open, &life.lease, b"output");
    let done = commit(
        subject.store(),
        vec![
            insert(&life.open),
            Change::PutLease(life.lease.clone()),
            replace_with(&half, 1, staged(&life.lease, b"output")),
            replace(&life.done, 2),
            pay(&life.lease, cai(2)),
            account(NodeId(1), cai(2), 0),
            account(NodeId(1), cai(3), 1),
        ],
    )
    .await;
    let versions = [1, 0, 2, 3, 0, 1, 2].map(Committed::Version);
    assert_eq!(done, versions);
    let store = subject.store();
    assert_eq!(
        store.load(life.open.task.id).await.unwrap().unwrap().value,
        life.done
    );
    let output = store
        .output(life.open.task.id, life.lease.lease)
        .await
        .unwrap();
    assert_eq!(output.unwrap().bytes, b"output"[..]);
    assert_eq!(store.leases().await.unwrap(), []);
    assert_eq!(
        store.accounts().await.unwrap()[0].value.cumulative(),
        cai(3)
    );
}

async fn what_follows_a_conflict_is_judged_as_if_it_had_not_been_asked(kind: Kind) {
    let subject = Subject::new(kind).await;
    let open = task(1);
    let cancelled = ended(&open, Outcome::Cancelled, 3);
    commit(subject.store(), vec![insert(&open)]).await;
    let changes = vec![
        replace(&open, 7),
        replace(&open, 8),
        replace(&cancelled, 1),
        replace(&open, 2),
        insert(&open),
        account(NodeId(1), cai(1), 4),
        account(NodeId(1), cai(2), 5),
        account(NodeId(1), cai(3), 0),
    ];
    let answer = subject.store().commit(changes).await.unwrap();
    assert_eq!(answer, Commit::Conflict(vec![0, 1, 3, 4, 5, 6]));
}

async fn a_key_names_one_task_of_its_requester(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let keyed = |number: u64, requester: Option<&str>| {
        let mut record = task(number);
        record.submission.requester = requester.map(Into::into);
        record.submission.idempotency_key = Some("order 66".into());
        record
    };
    let known = |record: &TaskRecord| Committed::Known {
        task: record.task.id,
        digest: record.submission.digest,
    };
    let (nobodys, annas, bens) = (
        keyed(1, None),
        keyed(2, Some("anna")),
        keyed(3, Some("ben")),
    );
    let done = commit(
        subject.store(),
        vec![
            insert(&nobodys),
            insert(&annas),
            insert(&bens),
            insert(&keyed(4, Some("anna"))),
        ],
    )
    .await;
    let new = Committed::Version(1);
    assert_eq!(done, [new, new, new, known(&annas)]);
    subject.reopen().await;
    let store = subject.store();
    let again = vec![
        insert(&keyed(5, None)),
        insert(&annas),
        insert(&keyed(6, Some("ben"))),
    ];
    assert_eq!(
        commit(store, again).await,
        [known(&nobodys), known(&annas), known(&bens)]
    );
    assert_eq!(store.unfinished(None, 9).await.unwrap().len(), 3);
    // The key is free again once its task is forgotten, and not before.
    commit(store, vec![replace(&ended(&annas, failed(), 10), 1)]).await;
    assert_eq!(
        commit(store, vec![insert(&keyed(7, Some("anna")))]).await,
        [known(&annas)]
    );
    assert_eq!(store.sweep(time(11), 9).await.unwrap(), 1);
    assert_eq!(
        commit(store, vec![insert(&keyed(8, Some("anna")))]).await,
        [new]
    );
}

async fn leases_last_until_they_or_their_task_end(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let (first, second) = (task(1), task(2));
    let leases = [
        lease(&first, 0),
        lease(&first, 1),
        lease(&second, 0),
        lease(&second, 1),
    ];
    let put = leases.iter().cloned().map(Change::PutLease);
    let begin = [insert(&first), insert(&second)].into_iter().chain(put);
    commit(subject.store(), begin.collect()).await;
    let mut extended = leases[3].clone();
    extended.granted_at = time(77);
    commit(
        subject.store(),
        vec![
            Change::PutLease(extended.clone()),
            Change::RemoveLease {
                task: second.task.id,
                lease: leases[2].lease,
            },
            // Of another task: nothing happens.
            Change::RemoveLease {
                task: first.task.id,
                lease: leases[3].lease,
            },
            replace(&ended(&first, Outcome::Cancelled, 5), 1),
            // Too late, and nowhere.
            Change::PutLease(leases[0].clone()),
            Change::PutLease(lease(&task(3), 0)),
        ],
    )
    .await;
    subject.reopen().await;
    assert_eq!(subject.store().leases().await.unwrap(), [extended]);
}

async fn accounts_grow_from_the_version_that_was_read(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let grow = vec![
        account(NodeId(5), Wei::MAX, 0),
        account(NodeId(4), cai(1), 0),
        account(NodeId(4), cai(2), 1),
    ];
    let versions = [1, 1, 2].map(Committed::Version);
    assert_eq!(commit(subject.store(), grow).await, versions);
    subject.reopen().await;
    for stale in [0, 1, 3] {
        let answer = subject
            .store()
            .commit(vec![account(NodeId(4), cai(9), stale)])
            .await;
        assert_eq!(
            answer.unwrap(),
            Commit::Conflict(vec![0]),
            "version {stale}"
        );
    }
    let accounts = subject.store().accounts().await.unwrap();
    let seen: Vec<_> = accounts
        .iter()
        .map(|account| {
            (
                account.value.miner.0,
                account.value.cumulative(),
                account.version,
            )
        })
        .collect();
    assert_eq!(seen, [(4, cai(2), 2), (5, Wei::MAX, 1)]);
}

async fn a_lease_is_paid_once(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let life = Life::new(1, b"output");
    let store = subject.store();
    // Before there is such a task.
    let early = store.commit(vec![pay(&life.lease, cai(1))]).await.unwrap();
    assert_eq!(early, Commit::Conflict(vec![0]));
    commit(store, life.begin().to_vec()).await;
    let twice = vec![pay(&life.lease, cai(1)), pay(&life.lease, cai(1))];
    assert_eq!(
        store.commit(twice).await.unwrap(),
        Commit::Conflict(vec![1])
    );
    assert_eq!(
        store
            .payment(life.open.task.id, life.lease.lease)
            .await
            .unwrap(),
        None
    );
    commit(store, life.end().to_vec()).await;
    subject.reopen().await;
    let store = subject.store();
    let again = store.commit(vec![pay(&life.lease, cai(1))]).await.unwrap();
    assert_eq!(again, Commit::Conflict(vec![0]));
    let payment = store
        .payment(life.open.task.id, life.lease.lease)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((payment.amount, payment.miner), (cai(2), NodeId(1)));
    let other = lease(&life.open, 1);
    assert_eq!(
        store.payment(life.open.task.id, other.lease).await.unwrap(),
        None
    );
}

async fn no_changes_are_done_at_once(kind: Kind) {
    let subject = Subject::new(kind).await;
    let answer = subject.store().commit(Vec::new()).await.unwrap();
    assert_eq!(answer, Commit::Done(Vec::new()));
}
