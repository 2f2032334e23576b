//! Runs of inputs that are wrong.

use std::time::Duration;

use cuckoo_core::{ErrorKind, Result};

use super::Subject;
use super::bench::{Bench, RunEnd, Task};
use super::inputs::{no_inputs, strange_fields, with_unknown_field};
use super::report::Report;
use super::topic::Topic;

/// A strange input that still runs after this long was taken; it is stopped.
const TAKEN: Duration = Duration::from_secs(5);

/// What is no input at all, and what its author says is none: only `Invalid` will do.
pub(super) async fn refusals(
    bench: &mut Bench,
    subject: &Subject,
    report: &mut Report,
) -> Result<()> {
    report.reached(Topic::Refusals);
    let made_up = no_inputs(&subject.first_text(), subject.limit());
    let made_up = made_up
        .into_iter()
        .map(|(what, text)| (what.to_owned(), text));
    let given = subject.invalid.iter().enumerate().map(|(number, input)| {
        let what = format!("invalid sample {}", number + 1);
        (what, input.to_string())
    });
    for (what, input) in made_up.chain(given) {
        let task = subject.task(&what, input);
        let run = bench.run(&task, report).await?;
        match &run.end {
            RunEnd::Refused(ErrorKind::Invalid, _) => {}
            other => {
                let found = other.describe(bench.parts.patience);
                report.fail(Topic::Refusals, format!("{}: it {found}", task.label));
            }
        }
    }
    Ok(())
}

/// Inputs with one field that is strange: the executor knows best whether it takes them, and nothing but a refusal may come
/// of those it does not.
pub(super) async fn fields(
    bench: &mut Bench,
    subject: &Subject,
    report: &mut Report,
) -> Result<()> {
    report.reached(Topic::Fields);
    let Some(valid) = subject.valid.first() else {
        return Ok(());
    };
    for (what, input) in strange_fields(valid, subject.limit()) {
        let task = subject.task(&what, input);
        let taken = TAKEN.min(bench.parts.patience);
        let run = bench.run_for(taken, &task, report).await?;
        judge(&task, &run.end, report);
    }
    let task = subject.task("an unknown field", with_unknown_field(valid));
    let run = bench.run(&task, report).await?;
    judge(&task, &run.end, report);
    if matches!(run.end, RunEnd::Gave(_)) {
        let found = format!(
            "{}: it is ignored; a requester who misspelt one is not told",
            task.label
        );
        report.note(Topic::Fields, found);
    }
    Ok(())
}

fn judge(task: &Task, end: &RunEnd, report: &mut Report) {
    match end {
        RunEnd::Gave(_)
        | RunEnd::Hung
        | RunEnd::Refused(ErrorKind::Invalid | ErrorKind::Rejected, _) => {}
        RunEnd::Refused(..) | RunEnd::Panicked(_) => {
            let found = end.describe(TAKEN);
            report.fail(Topic::Fields, format!("{}: it {found}", task.label));
        }
    }
}
