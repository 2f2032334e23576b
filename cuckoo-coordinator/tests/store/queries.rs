//! Reading many: what is open, lists, evidence, webhooks, usage.

use cuckoo_coordinator::{
    Change, Evidence, Exhibit, ListedState, Outcome, RequesterUsage, TaskFilter, TaskRecord,
};
use cuckoo_core::{NodeId, TaskId, Wei, cai};

use crate::fixture::{
    Life, commit, ended, failed, insert, lease, receipt, received, replace, task, time,
};
use crate::subject::{Kind, Subject, on_every_store};

on_every_store!(
    open_tasks_come_in_pages_in_the_order_they_were_inserted,
    lists_hold_what_they_are_asked_for_latest_first,
    evidence_is_kept_once_for_a_task_with_its_outputs,
    webhooks_wait_until_they_were_told,
    usage_counts_what_is_open_and_what_came_since,
);

fn id(record: &TaskRecord) -> TaskId {
    record.task.id
}

async fn open_tasks_come_in_pages_in_the_order_they_were_inserted(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let records: Vec<_> = (0..7).map(task).collect();
    commit(subject.store(), records.iter().map(insert).collect()).await;
    let half = received(&records[3], &lease(&records[3], 0), b"x");
    let ends = [1, 4].map(|turn| replace(&ended(&records[turn], failed(), 9), 1));
    commit(
        subject.store(),
        ends.into_iter().chain([replace(&half, 1)]).collect(),
    )
    .await;
    subject.reopen().await;
    let store = subject.store();
    let page = async |after, limit| {
        let page = store.unfinished(after, limit).await.unwrap();
        let places = page.iter().map(|open| {
            let place = records
                .iter()
                .position(|record| id(record) == id(&open.value));
            (place.unwrap(), open.version)
        });
        places.collect::<Vec<_>>()
    };
    assert_eq!(page(None, 3).await, [(0, 1), (2, 1), (3, 2)]);
    assert_eq!(page(Some(id(&records[3])), 9).await, [(5, 1), (6, 1)]);
    // After one that has ended meanwhile, and after the last.
    assert_eq!(page(Some(id(&records[4])), 1).await, [(5, 1)]);
    assert_eq!(page(Some(id(&records[6])), 9).await, []);
    assert_eq!(page(None, 0).await, []);
    let third = &store.unfinished(None, 9).await.unwrap()[2];
    assert_eq!(third.value, half);
}

async fn lists_hold_what_they_are_asked_for_latest_first(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let records: Vec<_> = (0..12)
        .map(|number| {
            let mut record = task(number);
            record.submission.requester =
                [None, Some("anna"), Some("ben")][number as usize % 3].map(Into::into);
            if number % 2 == 1 {
                record.task.model = "chat/small".parse().unwrap();
            }
            record
        })
        .collect();
    commit(subject.store(), records.iter().map(insert).collect()).await;
    let state = |number: usize| match number % 4 {
        0 => ListedState::Open,
        1 => ListedState::Completed,
        2 => ListedState::Failed,
        _ => ListedState::Cancelled,
    };
    let mut stored = Vec::new();
    for (number, record) in records.iter().enumerate() {
        let next = match state(number) {
            ListedState::Open => received(record, &lease(record, 0), b"x"),
            ListedState::Completed => {
                let record = received(record, &lease(record, 0), b"x");
                let receipt = Box::new(record.received[0].receipt.clone());
                ended(&record, Outcome::Completed { receipt }, 5)
            }
            ListedState::Failed => ended(record, failed(), 6),
            ListedState::Cancelled => ended(record, Outcome::Cancelled, 7),
        };
        commit(subject.store(), vec![replace(&next, 1)]).await;
        stored.push(next);
    }
    subject.reopen().await;
    let store = subject.store();
    let requesters = [None, Some("anna"), Some("ben"), Some("nobody")];
    let models = [None, Some("shapes"), Some("chat/small"), Some("other")];
    let states = [
        None,
        Some(ListedState::Open),
        Some(ListedState::Completed),
        Some(ListedState::Failed),
        Some(ListedState::Cancelled),
    ];
    let befores = [None, Some(9), Some(4), Some(0)];
    for requester in requesters {
        for model in models {
            for wanted in states {
                for before in befores {
                    for limit in [0, 2, 99] {
                        let filter = TaskFilter {
                            requester: requester.map(Into::into),
                            model: model.map(|model| model.parse().unwrap()),
                            state: wanted,
                            before: before.map(|number: usize| id(&records[number])),
                            limit,
                        };
                        let expected: Vec<_> = (0..before.unwrap_or(12))
                            .rev()
                            .map(|number| &stored[number])
                            .filter(|record| {
                                requester.is_none()
                                    || record.submission.requester.as_deref() == requester
                            })
                            .filter(|record| {
                                model.is_none_or(|model| record.task.model.as_str() == model)
                            })
                            .filter(|record| {
                                wanted.is_none_or(|wanted| record.listed_state() == wanted)
                            })
                            .take(limit)
                            .cloned()
                            .collect();
                        assert_eq!(store.list(&filter).await.unwrap(), expected, "{filter:?}");
                    }
                }
            }
        }
    }
    let unknown = TaskFilter {
        before: Some(id(&task(99))),
        limit: 9,
        ..TaskFilter::default()
    };
    assert_eq!(store.list(&unknown).await.unwrap(), []);
}

async fn evidence_is_kept_once_for_a_task_with_its_outputs(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let evidence = |number: u64, convicted: u64| {
        let record = task(number);
        let exhibit = |turn: u64| {
            let lease = lease(&record, turn);
            let output = vec![turn as u8; 1_000];
            let receipt = receipt(&lease, &record, &output);
            Exhibit {
                output_hash: receipt.value.output_hash,
                receipt,
                media_type: "image/png".into(),
                output: output.into(),
            }
        };
        Evidence {
            exhibits: (0..3).map(exhibit).collect(),
            at: time(number),
            convicted: NodeId(convicted),
            accepted: NodeId(1),
            task: record.task,
        }
    };
    let (first, second) = (evidence(2, 5), evidence(1, 6));
    let add = |evidence: &Evidence| Change::AddEvidence(Box::new(evidence.clone()));
    commit(subject.store(), vec![add(&first), add(&evidence(2, 7))]).await;
    commit(subject.store(), vec![add(&second), add(&first)]).await;
    // It outlives its tasks, whatever the retention.
    subject
        .store()
        .sweep(time(u32::MAX.into()), 0)
        .await
        .unwrap();
    subject.reopen().await;
    assert_eq!(subject.store().evidence().await.unwrap(), [first, second]);
}

async fn webhooks_wait_until_they_were_told(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let hooked = |number| {
        let mut record = task(number);
        record.submission.webhook = Some(format!("https://example.org/{number}"));
        record
    };
    let records = [hooked(0), task(1), hooked(2), hooked(3), hooked(4)];
    commit(subject.store(), records.iter().map(insert).collect()).await;
    let done: Vec<_> = records
        .iter()
        .map(|record| ended(record, failed(), 9))
        .collect();
    for turn in [3, 2, 1, 0] {
        commit(subject.store(), vec![replace(&done[turn], 1)]).await;
    }
    subject.reopen().await;
    let store = subject.store();
    let waiting = async |limit| store.unnotified(limit).await.unwrap();
    assert_eq!(
        waiting(9).await,
        [done[0].clone(), done[2].clone(), done[3].clone()]
    );
    assert_eq!(waiting(2).await, [done[0].clone(), done[2].clone()]);
    let told = [2, 1, 4].map(|turn| Change::Notified(id(&records[turn])));
    commit(store, told.to_vec()).await;
    assert_eq!(waiting(9).await, [done[0].clone(), done[3].clone()]);
    // What is forgotten is not told any more.
    store.sweep(time(10), 9).await.unwrap();
    assert_eq!(waiting(9).await, []);
    // Nor is one told of an end that was noted as told before it came.
    commit(store, vec![replace(&done[4], 1)]).await;
    assert_eq!(waiting(9).await, [done[4].clone()]);
}

async fn usage_counts_what_is_open_and_what_came_since(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let from = |number, requester: Option<&str>| {
        let mut record = task(number);
        record.submission.requester = requester.map(Into::into);
        record
    };
    let records = [
        from(10, Some("anna")),
        from(20, Some("anna")),
        from(30, Some("anna")),
        from(40, Some("anna")),
        from(50, None),
        from(15, Some("ben")),
        from(5, Some("carl")),
    ];
    commit(subject.store(), records.iter().map(insert).collect()).await;
    let life = Life::new(20, b"x");
    let completed = TaskRecord {
        submission: records[1].submission.clone(),
        ..life.done
    };
    let ends = vec![
        replace(&completed, 1),
        replace(&ended(&records[2], failed(), 99), 1),
        replace(&ended(&records[6], Outcome::Cancelled, 99), 1),
    ];
    commit(subject.store(), ends).await;
    subject.reopen().await;
    let store = subject.store();
    let usage = |requester: &str, tasks, open, spent| RequesterUsage {
        requester: requester.into(),
        tasks,
        open,
        spent,
    };
    let all = [
        usage("anna", 4, 2, cai(6)),
        usage("ben", 1, 1, cai(2)),
        usage("carl", 1, 0, Wei::ZERO),
    ];
    assert_eq!(store.usage(time(0)).await.unwrap(), all);
    let later = [usage("anna", 3, 2, cai(4)), usage("ben", 0, 1, Wei::ZERO)];
    assert_eq!(store.usage(time(16)).await.unwrap(), later);
    let none = [
        usage("anna", 0, 2, Wei::ZERO),
        usage("ben", 0, 1, Wei::ZERO),
    ];
    assert_eq!(store.usage(time(41)).await.unwrap(), none);
    // What is forgotten still counts, by the hour.
    assert_eq!(store.sweep(time(0), 0).await.unwrap(), 3);
    assert_eq!(store.usage(time(0)).await.unwrap(), all);
    assert_eq!(store.usage(time(3_600_000)).await.unwrap(), none);
    // But not for ever.
    let later = 41 * 24 * 3_600_000;
    store.sweep(time(later), 0).await.unwrap();
    let left = [usage("anna", 2, 2, cai(4)), usage("ben", 1, 1, cai(2))];
    assert_eq!(store.usage(time(0)).await.unwrap(), left);
}
