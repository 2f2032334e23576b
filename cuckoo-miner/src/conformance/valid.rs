//! Runs of valid inputs: alone, again, after all else, and beside each other.

use cuckoo_core::Result;

use super::bench::{Bench, Run, RunEnd, Task};
use super::report::Report;
use super::topic::Topic;
use crate::Execution;

/// The largest count that every language's numbers hold.
const LARGEST_COUNT: u64 = 1 << 53;

/// Runs each task twice, alone, and gives those that had an output, with it.
pub(super) async fn alone(
    bench: &mut Bench,
    tasks: &[Task],
    report: &mut Report,
) -> Result<Vec<(Task, Execution)>> {
    let topics = [
        Topic::Output,
        Topic::Repeatable,
        Topic::Stream,
        Topic::Progress,
        Topic::Usage,
    ];
    for topic in topics {
        report.reached(topic);
    }
    let (mut outputs, mut emitted) = (Vec::new(), false);
    for task in tasks {
        let Some(first) = try_once(bench, task, &mut emitted, report).await? else {
            continue;
        };
        let Some(second) = try_once(bench, task, &mut emitted, report).await? else {
            continue;
        };
        if let Some(difference) = difference(&first, &second) {
            report.fail(
                Topic::Repeatable,
                format!("{}: the second time, {difference}", task.label),
            );
        }
        let units =
            |execution: &Execution| (execution.usage.input_units, execution.usage.output_units);
        if units(&first) != units(&second) {
            let found = format!(
                "{}: {:?} units of input and output, then {:?}",
                task.label,
                units(&first),
                units(&second)
            );
            report.fail(Topic::Usage, found);
        }
        outputs.push((task.clone(), first));
    }
    if !emitted && !outputs.is_empty() {
        report.say(
            Topic::Stream,
            "nothing is emitted: watchers see an output when it is whole",
        );
    }
    Ok(outputs)
}

/// Runs the tasks again, one after the other: do they still give `outputs`?
pub(super) async fn again(
    bench: &mut Bench,
    outputs: &[(Task, Execution)],
    report: &mut Report,
) -> Result<()> {
    report.reached(Topic::Recovery);
    for (task, before) in outputs {
        let run = bench.run(task, report).await?;
        compare(bench, task, before, &run, Topic::Recovery, report);
    }
    Ok(())
}

/// Runs each task twice and all at once: do they give `outputs`?
pub(super) async fn together(
    bench: &mut Bench,
    outputs: &[(Task, Execution)],
    report: &mut Report,
) -> Result<()> {
    report.reached(Topic::Overlap);
    let twice: Vec<_> = outputs.iter().chain(outputs).collect();
    let tasks: Vec<_> = twice.iter().map(|(task, _)| task.clone()).collect();
    let runs = bench.run_all(&tasks, report).await?;
    for ((task, before), run) in twice.into_iter().zip(&runs) {
        compare(bench, task, before, run, Topic::Overlap, report);
    }
    Ok(())
}

fn compare(
    bench: &Bench,
    task: &Task,
    before: &Execution,
    run: &Run,
    topic: Topic,
    report: &mut Report,
) {
    let difference = match &run.end {
        RunEnd::Gave(execution) => difference(before, execution),
        other => Some(format!("it {}", other.describe(bench.parts.patience))),
    };
    if let Some(difference) = difference {
        report.fail(topic, format!("{}: {difference}", task.label));
    }
}

/// What is not as it was.
fn difference(before: &Execution, after: &Execution) -> Option<String> {
    let (old, new) = (&before.output, &after.output);
    if old.bytes != new.bytes {
        let same = old.bytes.iter().zip(&new.bytes);
        let same = same.take_while(|(old, new)| old == new).count();
        return Some(format!("the output differs from byte {same} on"));
    }
    if old.media_type != new.media_type {
        return Some(format!(
            "the media type is {}, not {}",
            new.media_type, old.media_type
        ));
    }
    (before.states_root != after.states_root).then(|| "the states' root differs".to_owned())
}

async fn try_once(
    bench: &mut Bench,
    task: &Task,
    emitted: &mut bool,
    report: &mut Report,
) -> Result<Option<Execution>> {
    let run = bench.run(task, report).await?;
    *emitted |= !run.emitted.is_empty();
    let label = &task.label;
    let (most, fell) = run.progress;
    if most > 1_000 {
        report.fail(Topic::Progress, format!("{label}: {most} thousandths"));
    } else if fell {
        report.fail(Topic::Progress, format!("{label}: it went back"));
    }
    let RunEnd::Gave(execution) = &run.end else {
        let found = run.end.describe(bench.parts.patience);
        report.fail(Topic::Output, format!("{label}: it {found}"));
        return Ok(None);
    };
    judge_output(label, &run, execution, report);
    judge_usage(label, &run, execution, report);
    Ok(Some(execution.clone()))
}

fn judge_output(label: &str, run: &Run, execution: &Execution, report: &mut Report) {
    let output = &execution.output;
    let begins = output.bytes.starts_with(&run.emitted);
    if !begins || !output.bytes.starts_with(&run.streamed) {
        report.fail(
            Topic::Stream,
            format!("{label}: what was emitted is not how the output begins"),
        );
    }
    // The miner withholds an output that does not begin so, too; one finding is enough.
    match run.withheld.as_ref().filter(|_| begins) {
        Some(why) => report.fail(Topic::Output, format!("{label}: {why}")),
        None if !output.media_type.contains('/') => report.fail(
            Topic::Output,
            format!("{label}: `{}` is no media type", output.media_type),
        ),
        None if output.bytes.is_empty() => {
            report.note(Topic::Output, format!("{label}: the output is empty"));
        }
        None => {}
    }
}

fn judge_usage(label: &str, run: &Run, execution: &Execution, report: &mut Report) {
    let usage = execution.usage;
    for (what, count) in [
        ("input_units", usage.input_units),
        ("output_units", usage.output_units),
    ] {
        if count > LARGEST_COUNT {
            report.fail(Topic::Usage, format!("{label}: `{what}` is {count}"));
        }
    }
    // All cores at once are the most that can be spent.
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u128;
    let most = (run.took.as_millis() + 1) * cores;
    if u128::from(usage.compute_millis) > most {
        let found = format!(
            "{label}: {} ms of computing in a run of {} ms",
            usage.compute_millis,
            run.took.as_millis()
        );
        report.fail(Topic::Usage, found);
    }
    if usage.output_units == 0 && !execution.output.bytes.is_empty() {
        report.note(
            Topic::Usage,
            format!("{label}: no units of output are counted, though there is one"),
        );
    }
}
