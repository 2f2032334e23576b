//! The budget: what is loaded, who uses it, and what has to go.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuckoo_core::{Error, ModelId, Result};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::sync::{Mutex as FairMutex, Notify};

use crate::{Executor, heap};

/// An executor that is there or on its way; all who wait for it get the same one.
type Loaded = Shared<BoxFuture<'static, Result<Arc<dyn Executor>, Arc<Error>>>>;

/// One executor's place.
#[derive(Debug)]
struct Place {
    models: Vec<ModelId>,
    memory: u64,
    loaded: Option<Loaded>,
    /// Tasks that run on it or wait for it to be loaded.
    users: usize,
    /// When it was used last, in uses of the pool.
    used_at: u64,
    /// Tasks wait for it elsewhere.
    wanted: bool,
    /// It could not be loaded, and is not loaded again before a task needs it.
    broken: bool,
}

impl Place {
    /// What came of loading it; nothing while it is on its way or not asked for.
    fn arrived(&self) -> Option<Result<Arc<dyn Executor>, Arc<Error>>> {
        self.loaded.clone()?.now_or_never()
    }

    /// Whether it is being loaded, for somebody who waits or nobody any more.
    fn is_coming(&self) -> bool {
        self.loaded.is_some() && self.arrived().is_none()
    }

    /// Whether its memory can be given to another: not that of what is half loaded.
    fn is_idle(&self) -> bool {
        self.users == 0 && self.arrived().is_some()
    }
}

#[derive(Debug, Default)]
struct State {
    places: Vec<Place>,
    uses: u64,
}

impl State {
    /// Bytes that what is loaded, or on its way, takes.
    fn used(&self) -> u64 {
        let loaded = self.places.iter().filter(|place| place.loaded.is_some());
        loaded.map(|place| place.memory).sum()
    }

    /// What has to be unloaded for `place`, which is not loaded, so that it can be for tasks that may come: of what is idle
    /// and not wanted, the longest idle. Nothing if that gives too little room, or if another one is on its way.
    fn leaving_for(&self, place: usize, budget: u64) -> Option<Vec<usize>> {
        let entry = &self.places[place];
        if entry.loaded.is_some() || self.places.iter().any(Place::is_coming) {
            return None;
        }
        let needed = self.used().saturating_add(entry.memory);
        let mut excess = needed.saturating_sub(budget);
        let mut spare: Vec<_> = (0..self.places.len())
            .filter(|spare| self.places[*spare].is_idle() && !self.places[*spare].wanted)
            .collect();
        spare.sort_by_key(|spare| self.places[*spare].used_at);
        let mut leaving = Vec::new();
        for spare in spare {
            if excess == 0 {
                break;
            }
            excess = excess.saturating_sub(self.places[spare].memory);
            leaving.push(spare);
        }
        (excess == 0).then_some(leaving)
    }
}

#[derive(Debug)]
pub(super) struct Pool {
    budget: u64,
    state: Mutex<State>,
    /// Held while somebody makes room. First come, first served: a task whose model is cold is not kept waiting by ever
    /// new ones for models that are warm.
    turn: FairMutex<()>,
    /// Somebody left, so there may be room.
    left: Notify,
}

impl Pool {
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            state: Mutex::default(),
            turn: FairMutex::new(()),
            left: Notify::new(),
        }
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget
    }

    pub(super) fn used(&self) -> u64 {
        self.lock().used()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an executor, which stays loaded if there is room.
    pub(super) fn add(
        &self,
        memory: u64,
        models: Vec<ModelId>,
        executor: Arc<dyn Executor>,
    ) -> usize {
        let mut state = self.lock();
        let fits = state.used().saturating_add(memory) <= self.budget;
        let executor = async { Ok(executor) }.boxed().shared();
        let (loaded, unloaded) = match fits {
            true => (Some(executor), Vec::new()),
            false => (None, vec![executor]),
        };
        let place = state.places.len();
        state.places.push(Place {
            models,
            memory,
            loaded,
            users: 0,
            used_at: 0,
            wanted: false,
            broken: false,
        });
        drop(state);
        free(unloaded);
        place
    }

    /// Whether a task runs at once: what is on its way is not there yet.
    pub(super) fn is_loaded(&self, place: usize) -> bool {
        self.loaded(place).is_some()
    }

    /// The executor at `place`, if it is there.
    pub(super) fn loaded(&self, place: usize) -> Option<Arc<dyn Executor>> {
        self.lock().places[place].arrived()?.ok()
    }

    /// The executor at `place`, loaded by `load` if it is not there, once there is room. Safe to drop: what has begun to be
    /// loaded is loaded to its end and serves the next.
    pub(super) async fn acquire<F>(
        self: &Arc<Self>,
        place: usize,
        load: impl FnOnce() -> F,
    ) -> Result<Lease>
    where
        F: Future<Output = Result<Arc<dyn Executor>>> + Send + 'static,
    {
        let (user, loaded) = {
            let _turn = self.turn.lock().await;
            self.room_for(place).await;
            self.enter(place, load)
        };
        match self.finish(place, loaded).await {
            Ok(executor) => Ok(Lease { executor, user }),
            Err(error) => Err(Error::new(error.kind(), error.to_string()).with_source(error)),
        }
    }

    /// Notes for which models tasks wait elsewhere, the most wanted first; gives the place to load next: the first that is
    /// not there and that room can be made for. None while any is on its way.
    pub(super) fn want(&self, models: &[ModelId]) -> Option<usize> {
        let mut state = self.lock();
        for place in &mut state.places {
            place.wanted = place.models.iter().any(|model| models.contains(model));
        }
        let place_of = |model: &ModelId| {
            let mut places = state.places.iter();
            places.position(|place| place.models.contains(model))
        };
        models.iter().filter_map(place_of).find(|&place| {
            !state.places[place].broken && state.leaving_for(place, self.budget).is_some()
        })
    }

    /// Has the executor at `place` loaded for tasks that may come, where that takes nothing from anybody: no task here waits
    /// for room, and what makes room for it is idle and not wanted itself.
    pub(super) async fn preload<F>(self: Arc<Self>, place: usize, load: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Arc<dyn Executor>>> + Send + 'static,
    {
        let (user, loaded) = {
            let Ok(_turn) = self.turn.try_lock() else {
                return;
            };
            let Some(unloaded) = self.spare_room(place) else {
                return;
            };
            free(unloaded);
            self.enter(place, load)
        };
        if let Err(error) = self.finish(place, loaded).await {
            tracing::warn!(%error, "a model that tasks wait for could not be loaded");
        }
        drop(user);
    }

    /// Unloads what has to leave for `place`, if room can be made for it; else nothing.
    fn spare_room(&self, place: usize) -> Option<Vec<Loaded>> {
        let mut state = self.lock();
        let leaving = state.leaving_for(place, self.budget)?;
        let unload = |spare: usize| state.places[spare].loaded.take();
        Some(leaving.into_iter().filter_map(unload).collect())
    }

    /// Waits until a load is done; gives up one that failed, so that the next task tries again.
    async fn finish(&self, place: usize, loaded: Loaded) -> Result<Arc<dyn Executor>, Arc<Error>> {
        let result = loaded.clone().await;
        let entry = &mut self.lock().places[place];
        // Unless a later one has its place.
        let same = |there: &Loaded| there.ptr_eq(&loaded);
        if entry.loaded.as_ref().is_some_and(same) {
            entry.broken = result.is_err();
            if entry.broken {
                entry.loaded = None;
            }
        }
        result
    }

    /// Waits until a place is loaded, or could be.
    async fn room_for(&self, place: usize) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            let (fits, unloaded) = self.make_room(place);
            // Freeing much memory takes a while, so it happens outside the lock.
            free(unloaded);
            if fits {
                return;
            }
            left.await;
        }
    }

    /// Unloads what is idle until there is room for `place`, what is wanted last and else longest idle first; gives whether
    /// there is.
    fn make_room(&self, place: usize) -> (bool, Vec<Loaded>) {
        let mut state = self.lock();
        let mut unloaded = Vec::new();
        if state.places[place].loaded.is_some() {
            return (true, unloaded);
        }
        let memory = state.places[place].memory;
        while state.used().saturating_add(memory) > self.budget {
            let idle = state
                .places
                .iter_mut()
                .filter(|place| place.is_idle())
                .min_by_key(|place| (place.wanted, place.used_at));
            let Some(idle) = idle else {
                return (false, unloaded);
            };
            unloaded.extend(idle.loaded.take());
        }
        (true, unloaded)
    }

    /// Takes a place that [`room_for`](Self::room_for) made sure of.
    fn enter<F>(self: &Arc<Self>, place: usize, load: impl FnOnce() -> F) -> (User, Loaded)
    where
        F: Future<Output = Result<Arc<dyn Executor>>> + Send + 'static,
    {
        let mut state = self.lock();
        state.uses += 1;
        let uses = state.uses;
        let entry = &mut state.places[place];
        entry.users += 1;
        entry.used_at = uses;
        let loaded = entry.loaded.get_or_insert_with(|| {
            let loading = tokio::spawn(load());
            let loaded = async move {
                let joined = loading
                    .await
                    .map_err(|join| Error::execution("loading a model failed").with_source(join));
                joined.and_then(|loaded| loaded).map_err(Arc::new)
            }
            .boxed()
            .shared();
            // Nobody may wait for it when it is done, and somebody for its room.
            let (pool, done) = (Arc::clone(self), loaded.clone());
            tokio::spawn(async move {
                let _ = pool.finish(place, done).await;
                pool.left.notify_waiters();
            });
            loaded
        });
        let loaded = loaded.clone();
        let user = User {
            pool: Arc::clone(self),
            place,
        };
        (user, loaded)
    }
}

/// Keeps a place from being unloaded.
#[derive(Debug)]
struct User {
    pool: Arc<Pool>,
    place: usize,
}

impl Drop for User {
    fn drop(&mut self) {
        self.pool.lock().places[self.place].users -= 1;
        self.pool.left.notify_waiters();
    }
}

/// A loaded executor in use.
#[derive(Debug)]
pub(super) struct Lease {
    executor: Arc<dyn Executor>,
    #[expect(dead_code, reason = "kept for its drop, after the executor's")]
    user: User,
}

impl Lease {
    pub(super) fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }
}

/// Lets go of what was unloaded, and of its memory.
fn free(unloaded: Vec<Loaded>) {
    if !unloaded.is_empty() {
        drop(unloaded);
        heap::give_back();
    }
}

#[cfg(test)]
mod tests;
