//! Runs that must end before they are done.

use cuckoo_core::{ErrorKind, Result, Timestamp};

use super::Subject;
use super::bench::{Bench, GRACE, RunEnd};
use super::probe::End;
use super::report::Report;
use super::topic::Topic;
use crate::TaskContext;

/// A task whose deadline passed long ago.
pub(super) async fn deadline(
    bench: &mut Bench,
    subject: &Subject,
    report: &mut Report,
) -> Result<()> {
    report.reached(Topic::Deadline);
    let task = subject.task("a deadline that passed", subject.first_text());
    let context = TaskContext::new(Timestamp::from_millis(1)).with_blobs(subject.blobs.clone());
    let found = match bench.parts.run_bare(&task, context).await {
        Some(
            End::Gave(_)
            | End::Refused(ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Rejected, _),
        ) => return Ok(()),
        Some(End::Refused(kind, message)) => format!("it failed as {kind}: {message}"),
        Some(End::Panicked(message)) => {
            report.fail(Topic::Panics, format!("{}: {message}", task.label));
            format!("it panicked: {message}")
        }
        Some(End::Dropped) | None => RunEnd::Hung.describe(bench.parts.patience),
    };
    report.fail(Topic::Deadline, format!("{}: {found}", task.label));
    Ok(())
}

/// A run that the coordinator cancels while it is under way.
pub(super) async fn cancellation(
    bench: &mut Bench,
    subject: &Subject,
    report: &mut Report,
) -> Result<()> {
    const TOPIC: Topic = Topic::Cancellation;
    report.reached(TOPIC);
    let input = match &subject.long {
        Some(long) => long.to_string(),
        None => subject.first_text(),
    };
    let task = subject.task("a run that is cancelled", input);
    let label = &task.label;
    let (clock, patience) = (bench.parts.clock.clone(), bench.parts.patience);
    let lease = bench.begin(&task).await?;
    if !bench.began(lease).await {
        report.fail(
            TOPIC,
            format!(
                "{label}: no slot was free for it in {} s",
                patience.as_secs_f64()
            ),
        );
        return Ok(());
    }
    let asked = clock.now();
    let end = bench.cancel(lease).await;
    let millis = clock.now().since(asked).as_millis();
    let ended = end.is_some();
    match end {
        Some(End::Gave(_)) => report.note(
            TOPIC,
            format!(
                "{label}: it was done before it could be cancelled; give Samples::long an input that takes a second or more"
            ),
        ),
        Some(End::Refused(ErrorKind::Invalid, message)) => {
            report.fail(TOPIC, format!("{label}: it refused its input: {message}"));
        }
        Some(End::Refused(..)) => {
            report.say(TOPIC, format!("{label}: it ended by itself, in {millis} ms"));
        }
        Some(End::Panicked(message)) => {
            report.fail(Topic::Panics, format!("{label}: {message}"));
            report.fail(TOPIC, format!("{label}: it panicked: {message}"));
        }
        Some(End::Dropped) => report.note(
            TOPIC,
            format!(
                "{label}: it did not end by itself, so the miner dropped it after {} s; what it left to other threads goes on",
                GRACE.as_secs_f64()
            ),
        ),
        None => report.fail(
            TOPIC,
            format!(
                "{label}: {} s later it still runs, and holds its slot: it never comes to an await point",
                patience.as_secs_f64()
            ),
        ),
    }
    if ended && !bench.let_go(lease).await {
        let found = format!(
            "{label}: the run is gone, and {} s later something still holds its context: a thread that goes on",
            patience.as_secs_f64()
        );
        report.fail(TOPIC, found);
    }
    let next = subject.task("the task after it", subject.first_text());
    let run = bench.run(&next, report).await?;
    if !matches!(run.end, RunEnd::Gave(_)) {
        let found = run.end.describe(patience);
        report.fail(TOPIC, format!("{}: it {found}", next.label));
    }
    Ok(())
}
