use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use cuckoo_core::{Assignment, Capability, ErrorKind};

use super::*;
use crate::{Execution, TaskContext};

/// Counts how many of it are alive.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn among(alive: &Arc<AtomicUsize>) -> Arc<dyn Executor> {
        alive.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self(Arc::clone(alive)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Executor for Counted {
    fn capabilities(&self) -> Vec<Capability> {
        Vec::new()
    }

    async fn execute(&self, _: Assignment, _: TaskContext) -> Result<Execution> {
        Err(Error::execution("only counted"))
    }
}

/// The models of the pool's executors.
const NAMES: [&str; 3] = ["first", "second", "third"];

/// The models of these places.
fn models(places: &[usize]) -> Vec<ModelId> {
    let names = places.iter().map(|place| NAMES[*place]);
    names.map(|name| name.parse().unwrap()).collect()
}

/// A pool of 10 bytes with three executors of 4, and how many are alive of each.
fn pool() -> (Arc<Pool>, [Arc<AtomicUsize>; 3]) {
    let pool = Arc::new(Pool::new(10));
    let alive: [Arc<AtomicUsize>; 3] = Default::default();
    for (place, count) in alive.iter().enumerate() {
        pool.add(4, models(&[place]), Counted::among(count));
    }
    (pool, alive)
}

fn counts(alive: &[Arc<AtomicUsize>; 3]) -> [usize; 3] {
    [0, 1, 2].map(|index| alive[index].load(Ordering::SeqCst))
}

async fn take(pool: &Arc<Pool>, alive: &[Arc<AtomicUsize>; 3], place: usize) -> Lease {
    let count = Arc::clone(&alive[place]);
    let load = || async move { Ok(Counted::among(&count)) };
    pool.acquire(place, load).await.unwrap()
}

/// Hears what is wanted, and loads what is next; gives that.
async fn want(pool: &Arc<Pool>, alive: &[Arc<AtomicUsize>; 3], places: &[usize]) -> Option<usize> {
    let next = pool.want(&models(places));
    if let Some(place) = next {
        let count = Arc::clone(&alive[place]);
        let load = || async move { Ok(Counted::among(&count)) };
        Arc::clone(pool).preload(place, load).await;
    }
    next
}

#[tokio::test]
async fn the_longest_idle_makes_room() {
    let (pool, alive) = pool();
    assert_eq!(counts(&alive), [1, 1, 0], "the third found no room");
    drop(take(&pool, &alive, 0).await);
    drop(take(&pool, &alive, 2).await);
    assert_eq!(counts(&alive), [1, 0, 1]);
    drop(take(&pool, &alive, 1).await);
    assert_eq!(counts(&alive), [0, 1, 1]);
    assert!(!pool.is_loaded(0) && pool.is_loaded(1));
    assert_eq!(pool.used(), 8);
}

#[tokio::test]
async fn what_is_in_use_stays_and_others_wait_in_turn() {
    let (pool, alive) = pool();
    let first = take(&pool, &alive, 0).await;
    let second = take(&pool, &alive, 1).await;
    let mut cold = Box::pin(take(&pool, &alive, 2));
    assert!(futures::poll!(&mut cold).is_pending());
    // One that is warm comes later, so it waits too.
    let mut warm = Box::pin(take(&pool, &alive, 1));
    assert!(futures::poll!(&mut warm).is_pending());
    drop(first);
    let third = cold.await;
    assert_eq!(counts(&alive), [0, 1, 1]);
    drop((second, third));
    drop(warm.await);
    assert_eq!(counts(&alive), [0, 1, 1]);
}

#[tokio::test]
async fn who_stops_waiting_leaves_nothing_behind() {
    let (pool, alive) = pool();
    let held = (take(&pool, &alive, 0).await, take(&pool, &alive, 1).await);
    let mut cold = Box::pin(take(&pool, &alive, 2));
    assert!(futures::poll!(&mut cold).is_pending());
    drop(cold);
    drop(take(&pool, &alive, 1).await);
    drop(held);
    drop(take(&pool, &alive, 2).await);
    assert_eq!(pool.used(), 8);
}

#[tokio::test]
async fn a_load_serves_all_who_wait_for_it_and_outlives_them() {
    let (pool, alive) = pool();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let count = Arc::clone(&alive[2]);
    let load = || async move {
        let _ = gate.await;
        Ok(Counted::among(&count))
    };
    let mut first = Box::pin(pool.acquire(2, load));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(take(&pool, &alive, 2));
    assert!(futures::poll!(&mut second).is_pending());
    assert!(!pool.is_loaded(2), "on its way is not there");
    drop(first);
    open.send(()).unwrap();
    drop(second.await);
    assert_eq!(counts(&alive)[2], 1, "loaded once");
    assert!(pool.is_loaded(2));
}

#[tokio::test]
async fn a_load_that_fails_is_tried_again() {
    let (pool, alive) = pool();
    let failing = || async { Err(Error::unavailable("no memory")) };
    let error = pool.acquire(2, failing).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!pool.is_loaded(2));
    assert_eq!(pool.used(), 4, "one was unloaded for it");
    let panicking = || async { panic!("a defect") };
    let error = pool.acquire(2, panicking).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Execution);
    drop(take(&pool, &alive, 2).await);
    assert_eq!(pool.used(), 8);
}

#[tokio::test]
async fn a_wanted_model_is_loaded_while_another_works() {
    let (pool, alive) = pool();
    let working = take(&pool, &alive, 0).await;
    assert_eq!(want(&pool, &alive, &[2]).await, Some(2));
    assert_eq!(counts(&alive), [1, 0, 1], "what was idle made room");
    assert!(pool.is_loaded(2));
    assert_eq!(want(&pool, &alive, &[2]).await, None, "it is there");
    drop(working);
    // It was used last, so to speak.
    drop(take(&pool, &alive, 1).await);
    assert_eq!(counts(&alive), [0, 1, 1]);
}

#[tokio::test]
async fn nothing_in_work_or_wanted_makes_room_for_what_is_wanted() {
    let (pool, alive) = pool();
    let working = (take(&pool, &alive, 0).await, take(&pool, &alive, 1).await);
    assert_eq!(want(&pool, &alive, &[2]).await, None, "both are in work");
    assert_eq!(counts(&alive), [1, 1, 0]);
    drop(working);
    let all = want(&pool, &alive, &[0, 2, 1]).await;
    assert_eq!(all, None, "both are wanted");
    assert_eq!(counts(&alive), [1, 1, 0]);
    // What is no longer wanted may go, though it was used later.
    assert_eq!(want(&pool, &alive, &[0, 2]).await, Some(2));
    assert_eq!(counts(&alive), [1, 0, 1]);
    // A task has no such regard, but takes what is not wanted first.
    assert_eq!(want(&pool, &alive, &[0]).await, None);
    drop(take(&pool, &alive, 1).await);
    assert_eq!(counts(&alive), [1, 1, 0]);
    drop(take(&pool, &alive, 0).await);
    assert_eq!(want(&pool, &alive, &[0, 1]).await, None);
    drop(take(&pool, &alive, 2).await);
    assert_eq!(counts(&alive), [1, 0, 1]);
}

#[tokio::test]
async fn nothing_is_unloaded_for_a_room_that_would_not_do() {
    let (pool, alive) = pool();
    let large: Arc<AtomicUsize> = Arc::default();
    pool.add(8, vec!["large".parse().unwrap()], Counted::among(&large));
    let working = take(&pool, &alive, 0).await;
    let load = || async { panic!("there is no room") };
    Arc::clone(&pool).preload(3, load).await;
    assert_eq!(counts(&alive), [1, 1, 0]);
    drop(working);
    let count = Arc::clone(&large);
    let load = || async move { Ok(Counted::among(&count)) };
    Arc::clone(&pool).preload(3, load).await;
    assert_eq!((counts(&alive), pool.used()), ([0, 0, 0], 8));
}

#[tokio::test]
async fn tasks_that_wait_for_room_come_before_what_is_wanted() {
    let (pool, alive) = pool();
    let first = take(&pool, &alive, 0).await;
    let second = take(&pool, &alive, 1).await;
    let mut waiting = Box::pin(take(&pool, &alive, 2));
    assert!(futures::poll!(&mut waiting).is_pending());
    drop(first);
    // There is room for it now, and somebody waited before.
    pool.want(&models(&[0]));
    let load = || async { panic!("a task waits for the room") };
    Arc::clone(&pool).preload(2, load).await;
    drop(waiting.await);
    assert_eq!(counts(&alive), [0, 1, 1]);
    drop(second);
}

#[tokio::test]
async fn what_is_on_its_way_keeps_its_room_and_one_is_loaded_at_a_time() {
    let (pool, alive) = pool();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let count = Arc::clone(&alive[2]);
    let load = || async move {
        let _ = gate.await;
        Ok(Counted::among(&count))
    };
    drop(take(&pool, &alive, 1).await);
    assert_eq!(pool.want(&models(&[2])), Some(2));
    let mut preload = Box::pin(Arc::clone(&pool).preload(2, load));
    assert!(futures::poll!(&mut preload).is_pending());
    assert_eq!(counts(&alive), [0, 1, 0]);
    assert_eq!(pool.want(&models(&[2, 0])), None);
    // A task that needs the room has it once the load is done; one of the model itself shares it.
    let second = take(&pool, &alive, 1).await;
    let mut other = Box::pin(take(&pool, &alive, 0));
    assert!(futures::poll!(&mut other).is_pending());
    open.send(()).unwrap();
    preload.await;
    drop(other.await);
    assert_eq!(counts(&alive), [1, 1, 0]);
    drop(second);
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_any_more_keeps_its_room_until_it_is_done() {
    let (pool, alive) = pool();
    let working = take(&pool, &alive, 1).await;
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let count = Arc::clone(&alive[2]);
    let load = || async move {
        let _ = gate.await;
        Ok(Counted::among(&count))
    };
    let mut cancelled = Box::pin(pool.acquire(2, load));
    assert!(futures::poll!(&mut cancelled).is_pending());
    drop(cancelled);
    assert_eq!(counts(&alive), [0, 1, 0]);
    // Neither for what is wanted nor for a task.
    assert_eq!(pool.want(&models(&[0])), None);
    let never = || async { panic!("there is no room") };
    Arc::clone(&pool).preload(0, never).await;
    let mut task = Box::pin(take(&pool, &alive, 0));
    for _ in 0..10 {
        assert!(futures::poll!(&mut task).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!((counts(&alive), pool.used()), ([0, 1, 0], 8));
    // The task has it once the load is done, though nobody took what was loaded.
    open.send(()).unwrap();
    drop(task.await);
    assert_eq!((counts(&alive), pool.used()), ([1, 1, 0], 8));
    drop(working);
}

#[tokio::test]
async fn a_load_that_failed_with_nobody_waiting_is_tried_again() {
    let (pool, alive) = pool();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let failing = || async move {
        let _ = gate.await;
        Err(Error::unavailable("no memory"))
    };
    let mut cancelled = Box::pin(pool.acquire(2, failing));
    assert!(futures::poll!(&mut cancelled).is_pending());
    drop(cancelled);
    open.send(()).unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.used(), 4, "one was unloaded for it");
    drop(take(&pool, &alive, 2).await);
    assert!(pool.is_loaded(2));
}

#[tokio::test]
async fn what_never_fits_beside_the_others_keeps_nothing_from_being_loaded() {
    let (pool, alive) = pool();
    let large: Arc<AtomicUsize> = Arc::default();
    pool.add(8, vec!["large".parse().unwrap()], Counted::among(&large));
    let working = take(&pool, &alive, 0).await;
    let mut wanted: Vec<ModelId> = vec!["large".parse().unwrap()];
    wanted.extend(models(&[2]));
    assert_eq!(pool.want(&wanted), Some(2), "the first that fits");
    drop(working);
    assert_eq!(pool.want(&wanted), Some(3), "now it would");
}

#[tokio::test]
async fn two_that_are_wanted_one_after_the_other_are_not_loaded_at_once() {
    let pool = Arc::new(Pool::new(8));
    let alive: [Arc<AtomicUsize>; 3] = Default::default();
    // The third takes the room of both others until it is unloaded.
    let third = pool.add(8, models(&[2]), Counted::among(&alive[2]));
    for (place, count) in alive[..2].iter().enumerate() {
        assert_eq!(
            pool.add(4, models(&[place]), Counted::among(count)),
            place + 1
        );
    }
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let count = Arc::clone(&alive[0]);
    let load = || async move {
        let _ = gate.await;
        Ok(Counted::among(&count))
    };
    let mut preload = Box::pin(Arc::clone(&pool).preload(1, load));
    assert!(futures::poll!(&mut preload).is_pending());
    assert!(!pool.is_loaded(third));
    // Now the second is wanted more, and there is room for it.
    assert_eq!(pool.want(&models(&[1, 0])), None);
    let never = || async { panic!("another one is on its way") };
    Arc::clone(&pool).preload(2, never).await;
    assert_eq!(pool.used(), 4);
    open.send(()).unwrap();
    preload.await;
    assert_eq!(pool.want(&models(&[1, 0])), Some(2));
}

#[tokio::test]
async fn what_could_not_be_loaded_is_left_to_the_next_task() {
    let (pool, alive) = pool();
    assert_eq!(pool.want(&models(&[2])), Some(2));
    let failing = || async { Err(Error::unavailable("no memory")) };
    Arc::clone(&pool).preload(2, failing).await;
    assert_eq!(pool.used(), 4, "one was unloaded for it");
    assert_eq!(want(&pool, &alive, &[2]).await, None);
    assert_eq!(want(&pool, &alive, &[2, 0]).await, Some(0), "the next one");
    drop(take(&pool, &alive, 2).await);
    drop(take(&pool, &alive, 0).await);
    drop(take(&pool, &alive, 1).await);
    assert_eq!(want(&pool, &alive, &[2]).await, Some(2));
}
