use async_trait::async_trait;
use cuckoo_core::{B256, Capability, ErrorKind, ManualClock, Output};

use super::*;
use crate::{Execution, TaskContext, Trial};

/// Takes three seconds and one for each letter of its input; time passes for nothing else.
#[derive(Debug)]
struct Typist {
    clock: Arc<ManualClock>,
    concurrency: usize,
    trials: Vec<Trial>,
    cold: bool,
}

fn model() -> ModelId {
    "letters".parse().unwrap()
}

#[async_trait]
impl Executor for Typist {
    fn capabilities(&self) -> Vec<Capability> {
        vec![Capability::new(model(), B256::repeat_byte(7), "hand-1")]
    }

    async fn execute(&self, task: Assignment, _: TaskContext) -> Result<Execution> {
        if task.input == "unreadable" {
            return Err(Error::invalid("nobody can read that"));
        }
        let letters = task.input.len() as u64;
        self.clock.advance(Duration::from_secs(3 + letters));
        Ok(Execution::new(Output::new("text/plain", task.input)))
    }

    fn warm(&self) -> Vec<ModelId> {
        match self.cold {
            true => Vec::new(),
            false => vec![model()],
        }
    }

    fn work(&self, task: &Assignment) -> Option<f64> {
        match task.input.as_str() {
            "?" => None,
            "!" => panic!("no such letter"),
            "endless" => Some(f64::INFINITY),
            letters => Some(letters.len() as f64),
        }
    }

    fn concurrency(&self) -> usize {
        self.concurrency
    }

    fn trials(&self, _: &ModelId) -> Vec<Trial> {
        self.trials.clone()
    }
}

struct Desk {
    clock: Arc<ManualClock>,
    pace: Arc<Pace>,
}

impl Desk {
    fn new(concurrency: usize) -> Self {
        Self::of(concurrency, &[], false)
    }

    fn of(concurrency: usize, trials: &[&str], cold: bool) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_800_000_000_000)));
        let trials = trials
            .iter()
            .map(|input| Trial::new("some letters", *input));
        let typist = Arc::new(Typist {
            clock: Arc::clone(&clock),
            concurrency,
            trials: trials.collect(),
            cold,
        });
        let pace = Pace::new(typist, Arc::clone(&clock) as _);
        Self { clock, pace }
    }

    /// A task of this input comes in, with so many seconds to its deadline.
    fn begin(&self, input: &str, seconds: u64) -> Result<Run> {
        let deadline = self.clock.now().after(Duration::from_secs(seconds));
        let task = Trial::new("", input).assignment(model(), deadline);
        self.pace.begin(&task, deadline, 100)
    }

    /// One that takes so many seconds.
    fn ran(&self, input: &str, seconds: u64) {
        let run = self.begin(input, 1 << 40).unwrap();
        self.pass(seconds);
        run.done();
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn expects(&self, input: &str) -> Option<f64> {
        let task = Trial::new("", input).assignment(model(), self.clock.now());
        let (work, state) = (self.pace.work(&task), self.pace.state());
        state.speeds.get(&model())?.estimate(work, false)
    }
}

fn close(a: Option<f64>, b: f64) -> bool {
    a.is_some_and(|a| (a - b).abs() < 1e-6)
}

#[test]
fn what_is_not_known_is_taken_and_what_takes_too_long_is_not() {
    let desk = Desk::new(usize::MAX);
    for input in ["ab", "?", "!", "endless"] {
        drop(desk.begin(input, 1).unwrap());
    }
    desk.ran("ab", 5);
    drop(desk.begin("ab", 5).unwrap());
    let error = desk.begin("ab", 4).unwrap_err();
    assert_eq!(
        (error.kind(), error.retry()),
        (ErrorKind::Rejected, Retry::Never)
    );
    for part in ["`letters`", "about 5.0 s", "in 4.0 s"] {
        assert!(error.message().contains(part), "{error}");
    }
    // Of unknown size: as long as usual, but who knows.
    for input in ["?", "!", "endless"] {
        let error = desk.begin(input, 4).unwrap_err();
        assert_eq!(
            (error.kind(), error.retry()),
            (ErrorKind::Rejected, Retry::Later),
            "{input}"
        );
        assert!(error.message().contains("is unknown"), "{error}");
        drop(desk.begin(input, 5).unwrap());
    }
    // A margin, and none asked for.
    let deadline = desk.clock.now().after(Duration::from_secs(6));
    let task = Trial::new("", "ab").assignment(model(), deadline);
    assert!(desk.pace.begin(&task, deadline, 125).is_err());
    assert!(desk.pace.begin(&task, deadline, 120).is_ok());
    assert!(desk.pace.begin(&task, desk.clock.now(), 0).is_ok());
}

#[test]
fn time_grows_with_the_size_and_from_what_every_task_costs() {
    let desk = Desk::new(usize::MAX);
    // One run says nothing of the fixed part.
    desk.ran("abcd", 7);
    assert!(close(desk.expects("abcdefgh"), 14.0));
    desk.ran("a", 4);
    assert!(close(desk.expects("abcdefgh"), 11.0));
    assert!(close(desk.expects(""), 3.0));
    // A larger task that was quicker is noise: then size tells nothing, and never the opposite.
    let noisy = Desk::new(usize::MAX);
    noisy.ran("a", 9);
    noisy.ran("ab", 8);
    let usual = noisy.expects("?");
    assert_eq!(noisy.expects("abcdefgh"), usual);
    assert_eq!(noisy.expects(""), usual);
}

#[test]
fn estimates_follow_a_machine_that_becomes_slower_and_one_that_recovers() {
    let desk = Desk::new(usize::MAX);
    for _ in 0..10 {
        desk.ran("ab", 5);
        desk.ran("abcdef", 9);
    }
    assert!(close(desk.expects("abcd"), 7.0));
    let mut before = 7.0;
    for _ in 0..20 {
        desk.ran("ab", 10);
        desk.ran("abcdef", 18);
        let now = desk.expects("abcd").unwrap();
        assert!(now > before && now < 14.0, "{before}, then {now}");
        before = now;
    }
    assert!(before > 13.9, "{before}");
    assert!(desk.begin("abcd", 13).is_err());
    for _ in 0..20 {
        desk.ran("ab", 5);
        desk.ran("abcdef", 9);
    }
    drop(desk.begin("abcd", 8).unwrap());
    // The clock jumped by a day: not believed.
    desk.ran("abcd", 86_400);
    let jumped = desk.expects("abcd").unwrap();
    assert!(jumped < 2.0 * 7.0, "{jumped}");
}

#[test]
fn what_is_late_takes_longer_than_it_had_and_failures_teach_nothing() {
    let desk = Desk::new(usize::MAX);
    let run = desk.begin("ab", 10).unwrap();
    desk.pass(10);
    run.late();
    drop(run);
    assert!(close(desk.expects("ab"), 10.0));
    // Cut off after less than was expected, which it knew before.
    let run = desk.begin("ab", 20).unwrap();
    desk.pass(5);
    run.late();
    drop(run);
    drop(desk.begin("ab", 20).unwrap());
    assert!(close(desk.expects("ab"), 10.0));
}

#[test]
fn what_waits_in_the_executor_waits_for_what_is_before_it() {
    let desk = Desk::new(2);
    desk.ran("ab", 5);
    let first = desk.begin("ab", 60).unwrap();
    desk.pass(2);
    let second = desk.begin("ab", 60).unwrap();
    // Three seconds until the first is done, then five.
    let error = desk.begin("ab", 7).unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "it would do as the first one");
    let error = desk.begin("ab", 4).unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    let third = desk.begin("ab", 8).unwrap();
    // The second's place is free in five, and the third's in eight.
    let error = desk.begin("ab", 9).unwrap_err();
    assert!(error.message().contains("after 5.0 s"), "{error}");
    desk.pass(3);
    first.done();
    drop(first);
    // It began when the first was done, so its own time is what it took since.
    desk.pass(5);
    third.done();
    assert!(close(desk.expects("ab"), 5.0));
    drop(third);
    drop(second);
    drop(desk.begin("ab", 6).unwrap());
}

#[test]
fn a_model_that_is_loaded_first_takes_longer() {
    let desk = Desk::of(usize::MAX, &[], true);
    {
        let mut state = desk.pace.state();
        let speed = state.speeds.entry(model()).or_default();
        speed.learn(Some(2.0), false, 5.0);
    }
    desk.ran("ab", 12);
    assert!(close(desk.expects("ab"), 5.0));
    let error = desk.begin("ab", 11).unwrap_err();
    assert_eq!(error.retry(), Retry::Later, "it may be loaded by then");
    let error = desk.begin("ab", 4).unwrap_err();
    assert_eq!(error.retry(), Retry::Never);
    drop(desk.begin("ab", 12).unwrap());
}

#[test]
fn after_long_refusals_alone_one_task_is_tried() {
    let desk = Desk::new(usize::MAX);
    desk.ran("ab", 5);
    // However long there was nothing to do.
    desk.pass(RETRY.as_secs());
    assert!(desk.begin("ab", 4).is_err());
    desk.pass(RETRY.as_secs() - 1);
    assert!(desk.begin("ab", 4).is_err());
    desk.pass(1);
    let run = desk.begin("ab", 4).unwrap();
    assert!(desk.begin("ab", 4).is_err(), "only one");
    desk.pass(1);
    run.done();
    drop(desk.begin("ab", 4).unwrap());
}

#[test]
fn small_tasks_do_not_keep_large_ones_out_for_good() {
    let desk = Desk::new(usize::MAX);
    desk.ran("a", 3);
    desk.ran("abcd", 12);
    assert!(desk.begin("abcd", 6).is_err());
    for _ in 0..RETRY.as_secs() / 60 {
        desk.pass(57);
        desk.ran("a", 3);
    }
    drop(desk.begin("abcd", 6).unwrap());
}

#[tokio::test]
async fn trials_are_timed_before_the_first_task() {
    let desk = Desk::of(usize::MAX, &["a", "abcde"], false);
    let measured = desk.pace.measure(&model()).await.unwrap();
    let (what, took) = measured.unwrap();
    assert_eq!((what.as_str(), took.as_secs()), ("some letters", 8));
    assert!(close(desk.expects("abcdefghij"), 13.0));
    assert_eq!(desk.expects("?"), None, "small tasks are not usual ones");
    assert!(desk.begin("abcdefghij", 12).is_err());
    let pace = desk.pace.measured(&model()).unwrap();
    let timed = pace.trials.iter().map(|trial| (trial.work, trial.seconds));
    assert_eq!(
        timed.collect::<Vec<_>>(),
        [(Some(1.0), 4.0), (Some(5.0), 8.0)]
    );
    assert_eq!(pace.work_per_second, Some(5.0 / 8.0));
    // What later runs taught is not what the trials took.
    desk.ran("abcdefghij", 20);
    assert_eq!(desk.pace.measured(&model()), Some(pace));

    let none = Desk::new(1);
    assert_eq!(none.pace.measure(&model()).await.unwrap(), None);
    none.ran("ab", 5);
    assert_eq!(none.pace.measured(&model()), None);
    let unsized_trial = Desk::of(1, &["?"], false);
    unsized_trial.pace.measure(&model()).await.unwrap();
    let pace = unsized_trial.pace.measured(&model()).unwrap();
    assert_eq!((pace.work_per_second, pace.trials.len()), (None, 1));
    let none = Desk::new(1);
    assert_eq!(none.expects("ab"), None);
}

#[tokio::test]
async fn trials_that_fail_or_take_long_teach_nothing() {
    for (inputs, said) in [
        (["a", "unreadable"], "nobody can read"),
        (
            ["a", "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz"],
            "longer than",
        ),
    ] {
        let desk = Desk::of(usize::MAX, &inputs, false);
        let measured = desk.pace.measure(&model()).await;
        let error = measured.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(desk.pace.measured(&model()), None);
        assert_eq!(desk.expects("ab"), None);
    }
}
