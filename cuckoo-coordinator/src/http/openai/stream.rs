//! Texts as they are made, as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse, Response, Sse};
use cuckoo_core::{
    Error, FinishReason, Result, TaskResult, TextLine, TextOutput, TextPiece, TextReader,
};
use futures::stream::{self, BoxStream, Peekable, StreamExt as _};
use serde::Serialize;

use super::Refused;
use super::request::Tasks;
use super::text::TextUsage;
use crate::OutputEvent;

/// How often a quiet stream says that it is there: below the minute after which common proxies hang up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How long the first piece is waited for, so that what fails before it is answered with its status: longer than a second
/// miner is waited for when one calls an input invalid, and well below the minute of common proxies.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);

/// What an event tells.
#[derive(Debug)]
pub(super) enum Part {
    /// A choice begins.
    Begin(usize),
    /// More of a choice.
    Piece(usize, TextPiece),
    /// A choice has ended.
    End(usize, FinishReason),
    /// All have ended, and this is what they took.
    Usage(TextUsage),
}

/// Answers with the texts of `tasks`, of which each prompt has `choices`; `event` writes a part, or leaves it out.
///
/// The stream holds the tasks, so they are cancelled when the client hangs up.
///
/// # Errors
/// What a task failed with before anything was said; later failures are events.
pub(super) async fn stream<E: Serialize + 'static>(
    mut tasks: Tasks,
    choices: usize,
    event: impl FnMut(Part) -> Option<E> + Send + 'static,
) -> Result<Response, Refused> {
    let texts = tasks.iter().enumerate().map(|(index, task)| {
        let mut text = Text::default();
        task.output_stream()
            .flat_map(move |event| stream::iter(text.take(event)))
            .map(move |step| (index, step))
            .boxed()
    });
    let mut steps = Box::pin(stream::select_all(texts).boxed().peekable());
    // Like the arrival of a body, how long an answer is held back is real time.
    let first = tokio::time::timeout(FIRST_PATIENCE, steps.as_mut().peek()).await;
    if let Ok(Some((_, Err(_)))) = first
        && let Some((_, Err(error))) = steps.next().await
    {
        tasks.arm(true);
        return Err(error.into());
    }
    let telling = Telling {
        begun: vec![false; tasks.len()],
        steps,
        tasks,
        choices,
        usage: TextUsage::default(),
        event,
        over: false,
    };
    let events = stream::unfold(telling, |mut telling| async move {
        let events = telling.next().await?;
        Some((stream::iter(events), telling))
    });
    let events = events.flatten().map(Ok::<_, Infallible>);
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

type Steps = BoxStream<'static, (usize, Result<Step>)>;

/// A stream of events on its way.
struct Telling<F> {
    steps: Pin<Box<Peekable<Steps>>>,
    tasks: Tasks,
    choices: usize,
    usage: TextUsage,
    event: F,
    begun: Vec<bool>,
    over: bool,
}

impl<E: Serialize, F: FnMut(Part) -> Option<E>> Telling<F> {
    /// The next events; none after the last.
    async fn next(&mut self) -> Option<Vec<Event>> {
        if self.over {
            return None;
        }
        Some(match self.steps.next().await {
            Some((index, Ok(step))) => self.told(index, step),
            Some((_, Err(error))) => {
                self.over = true;
                self.tasks.arm(true);
                vec![written(&Refused::from(error).body())]
            }
            None => {
                self.over = true;
                let usage = (self.event)(Part::Usage(self.usage));
                let mut events: Vec<_> = usage.iter().map(written).collect();
                events.push(Event::default().data("[DONE]"));
                events
            }
        })
    }

    fn told(&mut self, index: usize, step: Step) -> Vec<Event> {
        let begun = self.begun.get_mut(index);
        let begins = begun.is_some_and(|begun| !std::mem::replace(begun, true));
        let begin = begins.then_some(Part::Begin(index));
        let part = match step {
            Step::Piece(piece) => Part::Piece(index, piece),
            Step::End(reason, result) => {
                self.usage.add(index, self.choices, &result);
                Part::End(index, reason)
            }
        };
        let parts = begin.into_iter().chain([part]);
        let events = parts.filter_map(&mut self.event);
        events.map(|event| written(&event)).collect()
    }
}

/// A chunk is plain data: were it ever not JSON, the client would see an event without it.
fn written(chunk: &impl Serialize) -> Event {
    Event::default().json_data(chunk).unwrap_or_default()
}

/// What becomes of one choice.
enum Step {
    Piece(TextPiece),
    End(FinishReason, Box<TaskResult>),
}

/// Reads one choice as it is made.
#[derive(Default)]
struct Text {
    reader: TextReader,
    said: bool,
    reason: Option<FinishReason>,
}

impl Text {
    fn take(&mut self, event: Result<OutputEvent>) -> Vec<Result<Step>> {
        match self.read(event) {
            Ok(steps) => steps.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        }
    }

    fn read(&mut self, event: Result<OutputEvent>) -> Result<Vec<Step>> {
        match event? {
            OutputEvent::Bytes(bytes) => {
                let mut steps = Vec::new();
                for line in self.reader.read(&bytes)? {
                    match line {
                        TextLine::Piece(piece) => {
                            self.said = true;
                            steps.push(Step::Piece(piece));
                        }
                        // Told with the end: whoever reads no further than this would cancel a task whose receipt is
                        // still on its way.
                        TextLine::End { finish_reason } => self.reason = Some(finish_reason),
                    }
                }
                Ok(steps)
            }
            OutputEvent::Restart if !self.said => {
                *self = Self::default();
                Ok(Vec::new())
            }
            OutputEvent::Restart => Err(Error::unavailable(
                "the miner was lost or found wrong after it had begun, and another one says something else; ask again",
            )),
            OutputEvent::End(result) => {
                // Reads as a whole what came in parts: the same checks, once.
                let reason = match self.reason {
                    Some(reason)
                        if self.reader.is_complete()
                            && result.output.media_type == TextOutput::MEDIA_TYPE =>
                    {
                        reason
                    }
                    _ => TextOutput::read(&result.output)?.finish_reason,
                };
                Ok(vec![Step::End(reason, result)])
            }
        }
    }
}
