//! What every store promises, checked on the one in memory and the one on disk; and what only the one on disk can do:
//! outlive its process, whatever ends that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the lint's exception for tests does not reach their fixtures"
)]

#[path = "store/agreement.rs"]
mod agreement;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/commands.rs"]
mod commands;
#[path = "store/crash.rs"]
mod crash;
#[path = "store/file.rs"]
mod file;
#[path = "store/fixture.rs"]
mod fixture;
#[path = "store/keeping.rs"]
mod keeping;
#[path = "store/queries.rs"]
mod queries;
#[path = "store/sessions.rs"]
mod sessions;
#[path = "store/subject.rs"]
mod subject;
