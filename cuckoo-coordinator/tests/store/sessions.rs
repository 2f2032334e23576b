//! Sessions, and the requests that open them: each of these is used once.

use cuckoo_coordinator::{Change, Commit, NonceRecord, SessionRecord};
use cuckoo_core::{Address, NodeId};

use crate::fixture::{commit, time, word};
use crate::subject::{Kind, Subject, on_every_store};

on_every_store!(
    sessions_replace_each_other,
    a_session_request_is_used_once,
    session_requests_are_forgotten_when_they_expire,
);

async fn sessions_replace_each_other(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let session = |miner: u64, number: u64| SessionRecord {
        token_hash: word("token", number),
        miner: NodeId(miner),
        operator: Address::repeat_byte(number as u8),
        expires_at: time(number),
    };
    let put = [session(1, 1), session(2, 2), session(1, 3), session(3, 4)];
    let mut changes: Vec<_> = put.iter().cloned().map(Change::PutSession).collect();
    changes.push(Change::RemoveSession(NodeId(3)));
    changes.push(Change::RemoveSession(NodeId(4)));
    commit(subject.store(), changes).await;
    subject.reopen().await;
    let mut sessions = subject.store().sessions().await.unwrap();
    sessions.sort_by_key(|session| session.miner);
    assert_eq!(sessions, [session(1, 3), session(2, 2)]);
}

/// Request `number` of a miner, used at `at`.
fn used(miner: u64, number: u64, expires_at: u64, at: u64) -> Change {
    Change::PutNonce {
        nonce: nonce(miner, number, expires_at),
        at: time(at),
    }
}

fn nonce(miner: u64, number: u64, expires_at: u64) -> NonceRecord {
    NonceRecord {
        miner: NodeId(miner),
        nonce: word("nonce", number),
        expires_at: time(expires_at),
    }
}

/// What is known at a time, in order.
async fn known(subject: &Subject, at: u64) -> Vec<NonceRecord> {
    let mut nonces = subject.store().nonces(time(at)).await.unwrap();
    nonces.sort_by_key(|nonce| (nonce.miner, nonce.expires_at));
    nonces
}

async fn a_session_request_is_used_once(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    commit(subject.store(), vec![used(1, 7, 60, 0), used(2, 7, 50, 0)]).await;
    subject.reopen().await;
    let session = SessionRecord {
        token_hash: word("token", 1),
        miner: NodeId(1),
        operator: Address::repeat_byte(1),
        expires_at: time(900),
    };
    // Together with the session that it would open, whatever it says of its expiry.
    for expires_at in [60, 61, 900] {
        let again = vec![
            used(1, 7, expires_at, 59),
            Change::PutSession(session.clone()),
        ];
        let answer = subject.store().commit(again).await.unwrap();
        assert_eq!(answer, Commit::Conflict(vec![0]), "{expires_at}");
    }
    let twice = vec![used(1, 8, 60, 0), used(1, 8, 60, 0), used(1, 9, 60, 0)];
    let answer = subject.store().commit(twice).await.unwrap();
    assert_eq!(answer, Commit::Conflict(vec![1]));
    assert_eq!(subject.store().sessions().await.unwrap(), []);
    assert_eq!(known(&subject, 0).await, [nonce(1, 7, 60), nonce(2, 7, 50)]);
}

async fn session_requests_are_forgotten_when_they_expire(kind: Kind) {
    let mut subject = Subject::new(kind).await;
    let first = vec![used(1, 1, 10, 0), used(1, 2, 20, 0), used(2, 3, 30, 0)];
    commit(subject.store(), first).await;
    assert_eq!(
        known(&subject, 10).await,
        [nonce(1, 2, 20), nonce(2, 3, 30)]
    );
    // Another's request takes what has expired with it, so that they do not gather.
    commit(subject.store(), vec![used(3, 4, 90, 20)]).await;
    subject.reopen().await;
    assert_eq!(known(&subject, 0).await, [nonce(2, 3, 30), nonce(3, 4, 90)]);
    // Its nonce may come again then, in a request that is signed anew.
    commit(subject.store(), vec![used(2, 3, 80, 30)]).await;
    assert_eq!(known(&subject, 0).await, [nonce(2, 3, 80), nonce(3, 4, 90)]);
    let answer = subject.store().commit(vec![used(2, 3, 95, 79)]).await;
    assert_eq!(answer.unwrap(), Commit::Conflict(vec![0]));
}
