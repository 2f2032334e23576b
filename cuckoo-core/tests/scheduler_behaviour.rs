//! What every `Scheduler` promises, checked on all of them against a plain model of who could be chosen.

#![allow(clippy::expect_used, reason = "this is a test")]

use std::collections::BTreeMap;

use cuckoo_core::{
    B256, ErrorKind, LoggedChoice, NodeId, Scheduler, SchedulerEvent, StakeLottery, StakeOrder,
    TaskId, U256, replay,
};
use proptest::prelude::*;

fn schedulers() -> [Box<dyn Scheduler>; 2] {
    let seed = B256::repeat_byte(9);
    [
        Box::new(StakeOrder::new(seed)),
        Box::new(StakeLottery::new(seed)),
    ]
}

fn weight() -> impl Strategy<Value = U256> {
    prop_oneof![
        1 => Just(U256::ZERO),
        1 => Just(U256::from(1)),
        1 => Just(U256::MAX),
        5 => (0_u32..=100).prop_map(|bits| U256::from(1) << bits as usize),
        8 => (20_000_u64..2_000_000).prop_map(cuckoo_core::cai),
    ]
}

fn event() -> impl Strategy<Value = SchedulerEvent> {
    let miner = || (0_u64..10).prop_map(NodeId);
    prop_oneof![
        2 => (miner(), weight()).prop_map(|(miner, weight)| SchedulerEvent::Join { miner, weight }),
        1 => miner().prop_map(|miner| SchedulerEvent::Leave { miner }),
        4 => (miner(), 0_u32..4).prop_map(|(miner, free_slots)| SchedulerEvent::SetFree { miner, free_slots }),
        1 => miner().prop_map(|miner| SchedulerEvent::Refund { miner }),
        8 => (any::<[u8; 32]>(), prop::collection::vec(miner(), 0..4)).prop_map(|(task, excluded)| {
            SchedulerEvent::Assign { task: TaskId::from(B256::from(task)), excluded }
        }),
    ]
}

/// The free slots of the active miners.
#[derive(Default)]
struct Model(BTreeMap<NodeId, u32>);

impl Model {
    /// Follows `event`, and fails if `chosen` breaks a promise.
    fn follow(&mut self, event: &SchedulerEvent, chosen: Option<NodeId>) {
        match event {
            SchedulerEvent::Join { miner, weight } if weight.is_zero() => _ = self.0.remove(miner),
            SchedulerEvent::Join { miner, .. } => _ = self.0.entry(*miner).or_default(),
            SchedulerEvent::Leave { miner } => _ = self.0.remove(miner),
            SchedulerEvent::SetFree { miner, free_slots } => {
                if let Some(slots) = self.0.get_mut(miner) {
                    *slots = *free_slots;
                }
            }
            SchedulerEvent::Refund { .. } => {}
            SchedulerEvent::Assign { excluded, .. } => {
                let possible = |miner: &NodeId| !excluded.contains(miner);
                match chosen {
                    Some(miner) => {
                        assert!(possible(&miner), "{miner} is excluded");
                        let slots = self
                            .0
                            .get_mut(&miner)
                            .expect("an active miner of positive weight");
                        *slots = slots.checked_sub(1).expect("a free slot");
                    }
                    None => {
                        let idle = self
                            .0
                            .iter()
                            .find(|(miner, slots)| **slots > 0 && possible(miner));
                        assert_eq!(idle, None, "idle while a task waits");
                    }
                }
                return;
            }
        }
        assert_eq!(chosen, None, "a choice nobody asked for");
    }
}

fn record(scheduler: &mut dyn Scheduler, events: &[SchedulerEvent]) -> Vec<LoggedChoice> {
    let log = events.iter().map(|event| LoggedChoice {
        event: event.clone(),
        chosen: scheduler.apply(event),
    });
    log.collect()
}

proptest! {
    #[test]
    fn choices_keep_the_promises(events in prop::collection::vec(event(), 1..300)) {
        for mut scheduler in schedulers() {
            let mut model = Model::default();
            for event in &events {
                let chosen = scheduler.apply(event);
                model.follow(event, chosen);
            }
        }
    }

    #[test]
    fn a_log_replays_byte_for_byte(events in prop::collection::vec(event(), 1..200)) {
        for (mut first, (mut second, mut third)) in
            schedulers().into_iter().zip(schedulers().into_iter().zip(schedulers()))
        {
            let log = record(first.as_mut(), &events);
            let text = serde_json::to_string(&log).unwrap();
            let read: Vec<LoggedChoice> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&read, &log);
            replay(second.as_mut(), &read).unwrap();
            let events: Vec<_> = read.into_iter().map(|entry| entry.event).collect();
            prop_assert_eq!(serde_json::to_string(&record(third.as_mut(), &events)).unwrap(), text);
        }
    }

    #[test]
    fn an_assignment_to_nobody_changes_nothing(events in prop::collection::vec(event(), 1..100)) {
        for (mut plain, mut asked) in schedulers().into_iter().zip(schedulers()) {
            let everybody: Vec<NodeId> = (0..10).map(NodeId).collect();
            for event in &events {
                prop_assert_eq!(asked.assign(TaskId::from(B256::ZERO), &everybody), None);
                prop_assert_eq!(plain.apply(event), asked.apply(event));
            }
        }
    }
}

#[test]
fn replay_finds_the_entry_that_breaks_the_rules() {
    for (mut first, mut second) in schedulers().into_iter().zip(schedulers()) {
        let mut events: Vec<SchedulerEvent> = Vec::new();
        for number in 1..=3 {
            events.push(SchedulerEvent::Join {
                miner: NodeId(number),
                weight: cuckoo_core::cai(20_000 * number),
            });
            events.push(SchedulerEvent::SetFree {
                miner: NodeId(number),
                free_slots: 9,
            });
        }
        for number in 0..5 {
            let task = TaskId::from(B256::repeat_byte(number));
            events.push(SchedulerEvent::Assign {
                task,
                excluded: vec![NodeId(2)],
            });
        }
        let mut log = record(first.as_mut(), &events);
        let honest = log[8].chosen;
        log[8].chosen = if honest == Some(NodeId(1)) {
            Some(NodeId(3))
        } else {
            Some(NodeId(1))
        };
        let error = replay(second.as_mut(), &log).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unverified);
        assert!(error.to_string().contains("entry 8"), "{error}");
    }
}

#[test]
fn the_form_of_a_log_is_fixed() {
    let entry = |event, chosen| serde_json::to_string(&LoggedChoice { event, chosen }).unwrap();
    let miner = NodeId(7);
    let task = TaskId::from(B256::repeat_byte(0xab));
    let name = "ab".repeat(32);
    let lines = [
        entry(
            SchedulerEvent::Join {
                miner,
                weight: cuckoo_core::cai(20_000),
            },
            None,
        ),
        entry(
            SchedulerEvent::SetFree {
                miner,
                free_slots: 2,
            },
            None,
        ),
        entry(
            SchedulerEvent::Assign {
                task,
                excluded: vec![],
            },
            Some(miner),
        ),
        entry(
            SchedulerEvent::Assign {
                task,
                excluded: vec![miner],
            },
            None,
        ),
        entry(SchedulerEvent::Refund { miner }, None),
        entry(SchedulerEvent::Leave { miner }, None),
    ];
    assert_eq!(
        lines,
        [
            r#"{"event":"join","miner":7,"weight":"0x43c33c1937564800000"}"#.to_owned(),
            r#"{"event":"set_free","miner":7,"free_slots":2}"#.to_owned(),
            format!(r#"{{"event":"assign","task":"0x{name}","chosen":7}}"#),
            format!(r#"{{"event":"assign","task":"0x{name}","excluded":[7]}}"#),
            r#"{"event":"refund","miner":7}"#.to_owned(),
            r#"{"event":"leave","miner":7}"#.to_owned(),
        ]
    );
}
