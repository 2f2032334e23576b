//! `TaskProtocol`'s behaviour, the same over HTTP and in process.

use std::sync::Arc;
use std::time::Duration;

use cuckoo_coordinator::OutputEvent;
use cuckoo_core::{
    B256, Chunk, Completion, Deployment, ErrorKind, Failure, Fault, Heartbeat, Key, LeaseId,
    LeaseProgress, LeaseStatus, Member, ModelId, PollRequest, Result, Retry, Session, SessionToken,
    Signed, TaskProtocol, TaskState, Timestamp, U256, cai, payload_hash,
};
use cuckoo_miner::HttpCoordinator;
use futures::StreamExt as _;

use crate::market::{MAX_OUTPUT_BYTES, Market, model, poll, spec};

/// Runs a scenario twice, each time in a market of its own.
pub(crate) async fn both(scenario: impl AsyncFn(&Market, Arc<dyn TaskProtocol>)) {
    let market = Market::open().await;
    scenario(&market, market.coordinator.protocol()).await;
    let market = Market::open().await;
    let http = HttpCoordinator::new(&market.url).unwrap();
    scenario(&market, Arc::new(http)).await;
}

pub(crate) fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    let error = result.expect_err("a refusal");
    assert!(!error.message().is_empty());
    error.kind()
}

fn alive(lease: LeaseId, progress: u16) -> Heartbeat {
    Heartbeat {
        leases: vec![LeaseProgress {
            lease,
            progress,
            preview: None,
        }],
    }
}

const PICTURE: &[u8] = b"a picture, as far as the protocol is concerned";

#[tokio::test]
async fn info_names_the_market_and_the_models() {
    both(async |market, protocol| {
        let info = protocol.info().await.unwrap();
        assert_eq!(info.node, market.operator.node);
        assert_eq!(info.operator, market.operator.operator.address());
        assert_eq!(info.deployment, market.deployment);
        assert_eq!(
            (info.models[0].model.clone(), info.models[0].price),
            (model(), cai(1))
        );
    })
    .await;
}

#[tokio::test]
async fn work_is_handed_out_kept_alive_completed_and_paid() {
    both(async |market, protocol| {
        let miner = &market.miners[0];
        let token = market.join(protocol.as_ref(), miner).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        assert_eq!(assignment.price, cai(1));
        assert_eq!(
            assignment.input_hash,
            payload_hash(assignment.input.as_bytes())
        );

        market.clock.advance(Duration::from_secs(5));
        let reply = protocol
            .heartbeat(&token, alive(assignment.lease, 400))
            .await
            .unwrap();
        let LeaseStatus::Active { expires_at } = reply.leases[0] else {
            panic!("{reply:?}")
        };
        assert!(expires_at > assignment.lease_expires_at);
        assert_eq!(
            task.state(),
            TaskState::Running {
                miner: miner.node,
                progress: 400
            }
        );

        let receipt = market.receipt(&assignment, miner, PICTURE);
        let completion = market.completion(receipt, &miner.operator, PICTURE);
        let reply = protocol.complete(&token, completion.clone()).await.unwrap();
        let voucher = reply
            .voucher
            .clone()
            .expect("a voucher for work that is not audited");
        voucher
            .verify(market.operator.operator.address(), &market.deployment)
            .unwrap();
        assert_eq!(voucher.value.cumulative, cai(1));
        assert_eq!(voucher.value.miner, miner.node);

        let result = task.result().await.unwrap();
        assert_eq!(
            (&result.output.bytes[..], result.output.media_type.as_str()),
            (PICTURE, "image/png")
        );
        assert_eq!(result.receipt, completion.receipt);

        // An answer that was lost on its way may be asked for again; another one is refused.
        assert_eq!(protocol.complete(&token, completion).await.unwrap(), reply);
        let other = market.completion(
            market.receipt(&assignment, miner, b"other"),
            &miner.operator,
            b"other",
        );
        assert_eq!(
            kind(protocol.complete(&token, other).await),
            ErrorKind::Conflict
        );
        assert_eq!(market.coordinator.vouchers()[0].value.cumulative, cai(1));
    })
    .await;
}

#[tokio::test]
async fn an_output_in_the_making_is_seen_before_it_is_completed() {
    both(async |market, protocol| {
        let miner = &market.miners[0];
        let token = market.join(protocol.as_ref(), miner).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let mut watcher = task.output_stream();
        market.clock.advance(Duration::from_secs(5));
        let send = async |offset: usize, bytes: &[u8]| {
            let chunk = Chunk {
                lease: assignment.lease,
                offset: offset as u64,
                bytes: bytes.to_vec().into(),
            };
            protocol.stream(&token, chunk).await
        };
        let (beginning, rest) = PICTURE.split_at(9);
        let reply = send(0, beginning).await.unwrap();
        assert_eq!(reply.received, 9);
        let LeaseStatus::Active { expires_at } = reply.lease else {
            panic!("{reply:?}")
        };
        assert!(expires_at > assignment.lease_expires_at);
        let seen = watcher.next().await.unwrap().unwrap();
        assert_eq!(seen, OutputEvent::Bytes(beginning.to_vec().into()));
        // All bytes, zeros and line ends among them.
        assert_eq!(send(9, b"\0\r\n").await.unwrap().received, 12);
        let long = vec![b'x'; Chunk::MAX_BYTES + 1];
        assert_eq!(kind(send(12, &long).await), ErrorKind::Invalid);
        assert_eq!(kind(send(MAX_OUTPUT_BYTES, b"x").await), ErrorKind::Invalid);

        let output = [beginning, b"\0\r\n", rest].concat();
        let receipt = market.receipt(&assignment, miner, PICTURE);
        let other = market.completion(receipt, &miner.operator, PICTURE);
        assert_eq!(
            kind(protocol.complete(&token, other).await),
            ErrorKind::Unverified
        );
        let receipt = market.receipt(&assignment, miner, &output);
        let completion = market.completion(receipt, &miner.operator, &output);
        protocol.complete(&token, completion).await.unwrap();
        let mut text = beginning.to_vec();
        loop {
            match watcher.next().await.unwrap().unwrap() {
                OutputEvent::Bytes(bytes) => text.extend_from_slice(&bytes),
                OutputEvent::End(result) => break assert_eq!(result.output.bytes, output),
                OutputEvent::Restart => panic!("nothing changed"),
            }
        }
        assert_eq!(text, output);
        let over = send(12, b"late").await.unwrap();
        assert_eq!((over.lease, over.received), (LeaseStatus::Ended, 0));
        let stranger = SessionToken::new("nobody");
        let chunk = Chunk {
            lease: assignment.lease,
            offset: 0,
            bytes: b"x".to_vec().into(),
        };
        assert_eq!(
            kind(protocol.stream(&stranger, chunk).await),
            ErrorKind::Unauthorized
        );
    })
    .await;
}

#[tokio::test]
async fn a_session_is_for_registered_miners_with_enough_stake() {
    both(async |market, protocol| {
        let stranger = Key::random(market.entropy.as_ref());
        for (who, key) in [
            ("unregistered", &stranger),
            ("under-staked", &market.poor.operator),
            ("a coordinator", &market.operator.operator),
            ("an owner", &market.miners[0].owner),
        ] {
            let request = Signed::sign(market.session(key), key, &market.deployment);
            assert_eq!(
                kind(protocol.open_session(request).await),
                ErrorKind::Unauthorized,
                "{who}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_request_holds_once_for_a_short_time_here() {
    both(async |market, protocol| {
        let key = &market.miners[0].operator;
        let sign = |session: Session| Signed::sign(session, key, &market.deployment);
        let honest = sign(market.session(key));
        protocol.open_session(honest.clone()).await.unwrap();
        assert_eq!(
            kind(protocol.open_session(honest).await),
            ErrorKind::Unauthorized,
            "replayed"
        );

        let expired = sign(Session {
            expiry: Timestamp::from_millis(1),
            ..market.session(key)
        });
        assert_eq!(
            kind(protocol.open_session(expired).await),
            ErrorKind::Unauthorized,
            "expired"
        );
        let late = market.session(key).expiry.after(Duration::from_secs(3_600));
        let eternal = sign(Session {
            expiry: late,
            ..market.session(key)
        });
        assert_eq!(
            kind(protocol.open_session(eternal).await),
            ErrorKind::Unauthorized,
            "too long"
        );
        let elsewhere = sign(Session {
            coordinator: key.address(),
            ..market.session(key)
        });
        assert_eq!(
            kind(protocol.open_session(elsewhere).await),
            ErrorKind::Unauthorized,
            "for another"
        );

        let other_chain = Deployment {
            chain_id: 1,
            ..market.deployment
        };
        let wrong_chain = Signed::sign(market.session(key), key, &other_chain);
        assert_eq!(
            kind(protocol.open_session(wrong_chain).await),
            ErrorKind::Unverified,
            "wrong chain"
        );
        let thief = &market.miners[1].operator;
        let forged = Signed::sign(market.session(key), thief, &market.deployment);
        assert_eq!(
            kind(protocol.open_session(forged).await),
            ErrorKind::Unverified,
            "another key"
        );
    })
    .await;
}

#[tokio::test]
async fn a_session_ends_when_closed_or_with_its_time() {
    both(async |market, protocol| {
        async fn refused(market: &Market, protocol: &dyn TaskProtocol, token: &SessionToken) {
            let lease = LeaseId::from(B256::ZERO);
            assert_eq!(
                kind(protocol.poll(token, poll(1)).await),
                ErrorKind::Unauthorized
            );
            assert_eq!(
                kind(protocol.heartbeat(token, alive(lease, 0)).await),
                ErrorKind::Unauthorized
            );
            let failure = Failure {
                lease,
                kind: ErrorKind::Execution,
                retry: Retry::Later,
                message: String::new(),
            };
            assert_eq!(
                kind(protocol.fail(token, failure).await),
                ErrorKind::Unauthorized
            );
            let receipt = cuckoo_core::Receipt {
                coordinator: market.operator.node,
                miner: market.miners[0].node,
                lease,
                task: B256::ZERO.into(),
                model_hash: B256::ZERO,
                input_hash: B256::ZERO,
                output_hash: payload_hash(PICTURE),
                states_root: B256::ZERO,
                usage: Default::default(),
            };
            let completion = market.completion(receipt, &market.miners[0].operator, PICTURE);
            assert_eq!(
                kind(protocol.complete(token, completion).await),
                ErrorKind::Unauthorized
            );
        }

        refused(market, protocol.as_ref(), &SessionToken::new("made-up")).await;
        let closed = market.join(protocol.as_ref(), &market.miners[0]).await;
        protocol.close_session(&closed).await.unwrap();
        refused(market, protocol.as_ref(), &closed).await;
        let expired = market.join(protocol.as_ref(), &market.miners[0]).await;
        market.clock.advance(Duration::from_millis(
            market.coordinator.settings().session_millis + 1,
        ));
        refused(market, protocol.as_ref(), &expired).await;
    })
    .await;
}

#[tokio::test]
async fn a_completion_that_does_not_hold_is_refused_and_the_honest_one_still_taken() {
    both(async |market, protocol| {
        let [miner, other] = &market.miners;
        let token = market.join(protocol.as_ref(), miner).await;
        let other_token = market.join(protocol.as_ref(), other).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let honest = market.receipt(&assignment, miner, PICTURE);

        let forged = market.completion(honest.clone(), &other.operator, PICTURE);
        assert_eq!(
            kind(protocol.complete(&token, forged).await),
            ErrorKind::Unverified,
            "another key"
        );
        let swapped = market.completion(honest.clone(), &miner.operator, b"another picture");
        assert_eq!(
            kind(protocol.complete(&token, swapped).await),
            ErrorKind::Unverified,
            "other bytes"
        );
        let mut renamed = honest.clone();
        renamed.model_hash = B256::ZERO;
        let renamed = market.completion(renamed, &miner.operator, PICTURE);
        assert_eq!(
            kind(protocol.complete(&token, renamed).await),
            ErrorKind::Unverified,
            "other model"
        );
        let large = vec![7; MAX_OUTPUT_BYTES + 1];
        let oversized = market.completion(
            market.receipt(&assignment, miner, &large),
            &miner.operator,
            &large,
        );
        assert_eq!(
            kind(protocol.complete(&token, oversized).await),
            ErrorKind::Invalid,
            "too large"
        );
        let mut stolen = honest.clone();
        stolen.miner = other.node;
        let stolen = market.completion(stolen, &other.operator, PICTURE);
        assert_eq!(
            kind(protocol.complete(&other_token, stolen).await),
            ErrorKind::Conflict,
            "not its lease"
        );

        let completion = market.completion(honest, &miner.operator, PICTURE);
        protocol.complete(&token, completion).await.unwrap();
        assert_eq!(task.result().await.unwrap().receipt.value.miner, miner.node);
    })
    .await;
}

#[tokio::test]
async fn a_stalled_miner_loses_its_lease_and_another_does_the_work() {
    both(async |market, protocol| {
        let [stalled, other] = &market.miners;
        let token = market.join(protocol.as_ref(), stalled).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let other_token = market.join(protocol.as_ref(), other).await;
        market.clock.advance(Duration::from_millis(
            market.coordinator.settings().lease_millis + 1,
        ));

        let (again, _) = completed_by(market, protocol.as_ref(), &other_token, other).await;
        assert_eq!(again.task, task.id());
        assert_ne!(again.lease, assignment.lease);
        assert_eq!(task.result().await.unwrap().receipt.value.miner, other.node);

        let late = market.completion(
            market.receipt(&assignment, stalled, PICTURE),
            &stalled.operator,
            PICTURE,
        );
        assert_eq!(
            kind(protocol.complete(&token, late).await),
            ErrorKind::Conflict
        );
        let reply = protocol
            .heartbeat(&token, alive(assignment.lease, 1_000))
            .await
            .unwrap();
        assert_eq!(reply.leases, [LeaseStatus::Ended]);
        assert_eq!(
            market.coordinator.vouchers().len(),
            1,
            "late work is not paid"
        );
    })
    .await;
}

#[tokio::test]
async fn a_miner_that_leaves_gives_its_work_back() {
    both(async |market, protocol| {
        let [leaving, other] = &market.miners;
        let token = market.join(protocol.as_ref(), leaving).await;
        let (task, _) = market.assigned(protocol.as_ref(), &token).await;
        protocol.close_session(&token).await.unwrap();
        let other_token = market.join(protocol.as_ref(), other).await;
        let (assignment, _) = completed_by(market, protocol.as_ref(), &other_token, other).await;
        assert_eq!(assignment.task, task.id());
        task.result().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_failed_run_is_tried_by_another_miner() {
    both(async |market, protocol| {
        let [failing, other] = &market.miners;
        let token = market.join(protocol.as_ref(), failing).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let other_token = market.join(protocol.as_ref(), other).await;
        let failure = Failure {
            lease: assignment.lease,
            kind: ErrorKind::Execution,
            retry: Retry::Later,
            message: "out of memory ".repeat(1_000),
        };
        protocol.fail(&token, failure.clone()).await.unwrap();
        let (again, _) = completed_by(market, protocol.as_ref(), &other_token, other).await;
        assert_eq!(again.task, task.id());
        task.result().await.unwrap();
        // Given back already: the same again is answered the same way.
        protocol.fail(&token, failure).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_task_that_a_miner_refuses_does_not_come_back_to_it() {
    both(async |market, protocol| {
        let [slow, other] = &market.miners;
        let token = market.join(protocol.as_ref(), slow).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        let refusal = Failure {
            lease: assignment.lease,
            kind: ErrorKind::Rejected,
            retry: Retry::Never,
            message: "it takes this miner 80 s".to_owned(),
        };
        protocol.fail(&token, refusal).await.unwrap();
        // Longer than a miner without room is left in peace, and than it takes until those that failed are asked again.
        let settings = market.coordinator.settings();
        let patience = settings.lease_millis + settings.heartbeat_millis;
        for _ in 0..2 {
            let again = protocol.poll(&token, poll(1)).await.unwrap();
            assert!(again.assignments.is_empty(), "{again:?}");
            market.clock.advance(Duration::from_millis(patience));
        }
        let miners = market.coordinator.status().miners;
        let miner = miners.iter().find(|miner| miner.node == slow.node).unwrap();
        assert_eq!((miner.refused, miner.failed), (1, 0));
        let other_token = market.join(protocol.as_ref(), other).await;
        let (again, _) = completed_by(market, protocol.as_ref(), &other_token, other).await;
        assert_eq!(again.task, task.id());
        assert_eq!(task.result().await.unwrap().receipt.value.miner, other.node);
    })
    .await;
}

#[tokio::test]
async fn a_heartbeat_learns_which_models_tasks_wait_for() {
    const NONE: [ModelId; 0] = [];
    both(async |market, protocol| {
        let token = market.join(protocol.as_ref(), &market.miners[0]).await;
        let wanted = async |warm: Vec<ModelId>| {
            let busy = PollRequest { warm, ..poll(0) };
            protocol.poll(&token, busy).await.unwrap();
            let beat = Heartbeat { leases: Vec::new() };
            protocol.heartbeat(&token, beat).await.unwrap().wanted
        };
        assert_eq!(wanted(Vec::new()).await, NONE);
        let spec = spec("a red circle");
        let _task = market.coordinator.submit(spec).await.unwrap();
        assert_eq!(wanted(Vec::new()).await, [model()]);
        assert_eq!(wanted(vec![model()]).await, NONE);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_task_is_stopped_at_the_next_sign_of_life() {
    both(async |market, protocol| {
        let miner = &market.miners[0];
        let token = market.join(protocol.as_ref(), miner).await;
        let (task, assignment) = market.assigned(protocol.as_ref(), &token).await;
        task.cancel().await.unwrap();
        assert_eq!(task.state().fault(), Some(Fault::Requester));
        let reply = protocol
            .heartbeat(&token, alive(assignment.lease, 10))
            .await
            .unwrap();
        assert_eq!(reply.leases, [LeaseStatus::Cancelled]);
        let late = market.completion(
            market.receipt(&assignment, miner, PICTURE),
            &miner.operator,
            PICTURE,
        );
        assert_eq!(
            kind(protocol.complete(&token, late).await),
            ErrorKind::Conflict
        );
        assert_eq!(kind(task.result().await), ErrorKind::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn a_task_that_nobody_takes_ends_with_its_time() {
    both(async |market, _| {
        let task = market
            .coordinator
            .submit(spec("a blue square"))
            .await
            .unwrap();
        market.clock.advance(Duration::from_millis(
            market.coordinator.settings().default_timeout_millis + 1,
        ));
        let error = task.result().await.unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Timeout, Retry::Later)
        );
        assert!(task.state().fault().is_some());
    })
    .await;
}

#[tokio::test]
async fn offers_are_bounded_and_matched() {
    both(async |market, protocol| {
        let token = market.join(protocol.as_ref(), &market.miners[0]).await;
        let one = poll(1).capabilities.remove(0);
        let many = PollRequest {
            capabilities: vec![one.clone(); PollRequest::MAX_CAPABILITIES + 1],
            ..poll(1)
        };
        assert_eq!(kind(protocol.poll(&token, many).await), ErrorKind::Invalid);

        let task = market
            .coordinator
            .submit(spec("a red circle"))
            .await
            .unwrap();
        let offer = |change: fn(&mut cuckoo_core::Capability)| {
            let mut capability = one.clone();
            change(&mut capability);
            PollRequest {
                capabilities: vec![capability],
                ..poll(1)
            }
        };
        for (what, request) in [
            (
                "another model",
                offer(|it| it.model = "chat".parse().unwrap()),
            ),
            (
                "a higher price",
                offer(|it| it.min_price = cai(1) + U256::from(1)),
            ),
            ("shorter inputs", offer(|it| it.max_input_bytes = 1)),
            ("no slot", poll(0)),
            (
                "nothing",
                PollRequest {
                    capabilities: Vec::new(),
                    ..poll(1)
                },
            ),
        ] {
            let reply = protocol.poll(&token, request).await.unwrap();
            assert!(reply.assignments.is_empty(), "{what}");
        }
        assert_eq!(task.state(), TaskState::Queued);
        assert_eq!(
            market.polled(protocol.as_ref(), &token).await.task,
            task.id()
        );
    })
    .await;
}

/// Polls as `miner` and completes what it is given.
async fn completed_by(
    market: &Market,
    protocol: &dyn TaskProtocol,
    token: &SessionToken,
    miner: &Member,
) -> (cuckoo_core::Assignment, Completion) {
    let assignment = market.polled(protocol, token).await;
    let receipt = market.receipt(&assignment, miner, PICTURE);
    let completion = market.completion(receipt, &miner.operator, PICTURE);
    protocol.complete(token, completion.clone()).await.unwrap();
    (assignment, completion)
}
