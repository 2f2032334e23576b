//! One task's spans: which stage it is in, and since when.

use std::time::{Duration, SystemTime};

use cuckoo_core::{Fault, LeaseId, NodeId, TaskId, Timestamp};
use opentelemetry::trace::{Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use super::super::tally::{fault_name, verdict_name};
use crate::dispatch::Role;
use crate::events::Event;
use crate::{Verdict, dispatch::Lease};

const MINER: &str = "cuckoo.miner.id";
const OUTCOME: &str = "cuckoo.task.outcome";
const VERDICT: &str = "cuckoo.verdict";
const ERROR_TYPE: &str = "error.type";

/// A durable task that has not ended. Every span of it is open: it is ended by the event that ends the stage.
#[derive(Debug)]
pub(super) struct Journey {
    tracer: SdkTracer,
    /// The whole of it.
    task: Context,
    /// While it waits for a miner.
    queue: Option<Context>,
    /// Under which miners work now.
    leases: Vec<Working>,
    /// From the first output that is held back to the verdict.
    audit: Option<Context>,
    /// From the decision to its being durable.
    settlement: Option<Context>,
    /// How often a miner got it.
    attempts: i64,
}

#[derive(Debug)]
struct Working {
    lease: LeaseId,
    miner: NodeId,
    span: Context,
}

/// What is known of a task before its first span.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// Where its spans belong: the request that submitted it.
    pub(super) parent: Context,
    pub(super) id: TaskId,
    pub(super) model: String,
    /// When it was submitted.
    pub(super) at: Timestamp,
}

impl Journey {
    /// A task whose spans begin; `None` when they are not to be sent.
    pub(super) fn begin(tracer: &SdkTracer, origin: Origin) -> Option<Self> {
        let Origin {
            parent,
            id,
            model,
            at,
        } = origin;
        let about = vec![
            KeyValue::new("cuckoo.task.id", id.to_string()),
            KeyValue::new("cuckoo.task.model", model),
        ];
        let task = open(tracer, &parent, "task", at, about);
        let sent = task.span().span_context().is_sampled();
        sent.then(|| Self {
            tracer: tracer.clone(),
            task,
            queue: None,
            leases: Vec::new(),
            audit: None,
            settlement: None,
            attempts: 0,
        })
    }

    /// It is durable and waits for a miner.
    pub(super) fn admitted(&mut self, submitted: Timestamp, at: Timestamp) {
        let admission = self.open("admission", submitted, Vec::new());
        close(&admission, at);
        self.wait(at);
    }

    /// It was taken up after a restart, which its miner may not have noticed.
    pub(super) fn resumed(
        &mut self,
        lease: Option<(LeaseId, &Lease)>,
        audited: bool,
        at: Timestamp,
    ) {
        self.task
            .span()
            .set_attribute(KeyValue::new("cuckoo.task.resumed", true));
        match lease {
            Some((id, lease)) => self.lease(id, lease.miner, lease.role, lease.granted_at),
            None if audited => self.audit = Some(self.open("audit", at, Vec::new())),
            None => self.wait(at),
        }
    }

    /// A receipt and its output were checked.
    pub(super) fn verified(
        &self,
        lease: LeaseId,
        miner: NodeId,
        held: bool,
        (began, ended): (Timestamp, Timestamp),
    ) {
        let working = self.leases.iter().find(|working| working.lease == lease);
        let parent = working.map_or(&self.task, |working| &working.span);
        let about = vec![KeyValue::new(MINER, number(miner))];
        let verification = open(&self.tracer, parent, "verification", began, about);
        if !held {
            fail(&verification, "unverified");
        }
        close(&verification, ended);
    }

    /// Goes on as `event` says; tells whether that was the end.
    pub(super) fn follow(&mut self, event: &Event, at: Timestamp) -> bool {
        match event {
            Event::Assigned { miner, lease } => {
                self.attempts += 1;
                end(&mut self.queue, at);
                self.lease(*lease, *miner, Role::Work, at);
            }
            Event::Requeued { miner, .. } => {
                self.lost(|working| working.miner == *miner, at);
                if self.queue.is_none() {
                    self.wait(at);
                }
            }
            Event::Received { miner, .. } => {
                self.worked(*miner, at);
                // Accepted already where no audit was drawn.
                if self.settlement.is_none() && self.audit.is_none() {
                    self.audit = Some(self.open("audit", at, Vec::new()));
                }
            }
            Event::AuditDrawn { auditor, lease } => {
                // The auditor before this one, if any, failed or vanished.
                self.lost(|_| true, at);
                self.lease(*lease, *auditor, Role::Audit, at);
            }
            Event::AuditMatched { auditor } => self.audited(*auditor, true, at),
            Event::AuditMismatched { auditor } => self.audited(*auditor, false, at),
            Event::Verdict { verdict } => self.judged(verdict, at),
            Event::Paid { miner, amount, .. } => self.happened(
                "paid",
                at,
                vec![
                    KeyValue::new(MINER, number(*miner)),
                    KeyValue::new("cuckoo.amount_wei", amount.to_string()),
                ],
            ),
            Event::Suspended { miner, .. } => {
                self.happened("suspended", at, vec![KeyValue::new(MINER, number(*miner))]);
            }
            Event::Completed { miner } => {
                let span = self.task.span();
                span.set_attribute(KeyValue::new(MINER, number(*miner)));
                self.end("completed", at);
                return true;
            }
            Event::Failed { kind, fault, .. } => {
                self.failed(&kind.to_string(), *fault, at);
                return true;
            }
            Event::Cancelled => {
                // Nobody's failure.
                for working in self.leases.drain(..) {
                    close(&working.span, at);
                }
                self.end("cancelled", at);
                return true;
            }
            Event::Submitted | Event::Progress { .. } => {}
        }
        false
    }

    /// It ended, but nobody knows how: the events were too many.
    pub(super) fn abandon(&mut self, at: Timestamp) {
        self.end("unknown", at);
    }

    fn open(&self, name: &'static str, at: Timestamp, about: Vec<KeyValue>) -> Context {
        open(&self.tracer, &self.task, name, at, about)
    }

    fn wait(&mut self, at: Timestamp) {
        self.queue = Some(self.open("queue", at, Vec::new()));
    }

    fn lease(&mut self, lease: LeaseId, miner: NodeId, role: Role, at: Timestamp) {
        let mut about = vec![
            KeyValue::new(MINER, number(miner)),
            KeyValue::new("cuckoo.lease.id", lease.to_string()),
        ];
        let parent = match role {
            Role::Work => {
                about.push(KeyValue::new("cuckoo.lease.role", "work"));
                about.push(KeyValue::new("cuckoo.task.attempt", self.attempts.max(1)));
                &self.task
            }
            Role::Audit => {
                about.push(KeyValue::new("cuckoo.lease.role", "audit"));
                self.audit.as_ref().unwrap_or(&self.task)
            }
        };
        let span = open(&self.tracer, parent, "lease", at, about);
        self.leases.push(Working { lease, miner, span });
    }

    /// Leases that came to nothing.
    fn lost(&mut self, which: impl Fn(&Working) -> bool, at: Timestamp) {
        for gone in self.leases.extract_if(.., |working| which(working)) {
            fail(&gone.span, "lost");
            close(&gone.span, at);
        }
    }

    /// Leases that gave an output.
    fn worked(&mut self, miner: NodeId, at: Timestamp) {
        for done in self.leases.extract_if(.., |working| working.miner == miner) {
            close(&done.span, at);
        }
    }

    fn audited(&mut self, auditor: NodeId, matched: bool, at: Timestamp) {
        for working in self
            .leases
            .iter()
            .filter(|working| working.miner == auditor)
        {
            let matched = KeyValue::new("cuckoo.audit.matched", matched);
            working.span.span().set_attribute(matched);
        }
        self.worked(auditor, at);
    }

    fn judged(&mut self, verdict: &Verdict, at: Timestamp) {
        let name = || KeyValue::new(VERDICT, verdict_name(verdict));
        self.task.span().set_attribute(name());
        if let Some(audit) = &self.audit {
            audit.span().set_attribute(name());
        }
        if let Verdict::NotDrawn { accepted } = verdict {
            // Handed in, checked and accepted at once.
            self.worked(*accepted, at);
        }
        self.lost(|_| true, at);
        end(&mut self.audit, at);
        // Where all outputs differ nothing is settled: others try.
        if !matches!(verdict, Verdict::AllDiffer { .. }) {
            end(&mut self.settlement, at);
            self.settlement = Some(self.open("settlement", at, Vec::new()));
        }
    }

    fn happened(&self, what: &'static str, at: Timestamp, about: Vec<KeyValue>) {
        let span = self.settlement.as_ref().unwrap_or(&self.task).span();
        span.add_event_with_timestamp(what, time(at), about);
    }

    fn failed(&mut self, kind: &str, fault: Fault, at: Timestamp) {
        // Without the message: it may hold a miner's words, and the collector may be anybody's.
        fail(&self.task, kind);
        let fault = KeyValue::new("cuckoo.fault", fault_name(fault));
        self.task.span().set_attribute(fault);
        self.end("failed", at);
    }

    fn end(&mut self, outcome: &'static str, at: Timestamp) {
        self.lost(|_| true, at);
        for stage in [&mut self.queue, &mut self.audit, &mut self.settlement] {
            end(stage, at);
        }
        let span = self.task.span();
        span.set_attribute(KeyValue::new(OUTCOME, outcome));
        close(&self.task, at);
    }
}

fn open(
    tracer: &SdkTracer,
    parent: &Context,
    name: &'static str,
    at: Timestamp,
    about: Vec<KeyValue>,
) -> Context {
    let span = tracer
        .span_builder(name)
        .with_start_time(time(at))
        .with_attributes(about)
        .start_with_context(tracer, parent);
    Context::new().with_span(span)
}

fn fail(span: &Context, kind: &str) {
    let span = span.span();
    span.set_attribute(KeyValue::new(ERROR_TYPE, kind.to_owned()));
    span.set_status(Status::error(""));
}

fn close(span: &Context, at: Timestamp) {
    span.span().end_with_timestamp(time(at));
}

fn end(stage: &mut Option<Context>, at: Timestamp) {
    if let Some(span) = stage.take() {
        close(&span, at);
    }
}

fn time(at: Timestamp) -> SystemTime {
    let since = Duration::from_millis(at.as_millis());
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn number(miner: NodeId) -> i64 {
    i64::try_from(miner.0).unwrap_or(i64::MAX)
}
