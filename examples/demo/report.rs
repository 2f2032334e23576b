//! `report.html`: one self-contained page that shows what happened, for people who would rather look than read.

mod answered;
mod chart;

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cuckoo_core::{Error, Result, Wei, format_cai};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::answers::Answers;
use crate::ledger::{Life, Row};

/// Everything the page shows.
pub(crate) struct Report {
    pub(crate) closing_line: String,
    pub(crate) chain: String,
    pub(crate) seconds: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) share_error: f64,
    pub(crate) audit_probability: f64,
    pub(crate) answers: Answers,
    pub(crate) life: Option<Life>,
    pub(crate) conviction: Option<Conviction>,
    pub(crate) trial: Option<Judgement>,
}

/// The case against a miner: what each party signed for the same input.
pub(crate) struct Conviction {
    pub(crate) convicted: String,
    pub(crate) prompt: String,
    pub(crate) input: String,
    pub(crate) statements: Vec<Statement>,
}

/// One miner's signed claim about the disputed task.
pub(crate) struct Statement {
    pub(crate) miner: String,
    pub(crate) operator: String,
    pub(crate) png: Option<Vec<u8>>,
    pub(crate) output_hash: String,
    pub(crate) signature: String,
    pub(crate) convicted: bool,
}

/// What the dispute court made of the case.
pub(crate) struct Judgement {
    pub(crate) dispute: String,
    pub(crate) convicted: bool,
    pub(crate) claimed: String,
    /// Names of the jurors, and the hash of what each got.
    pub(crate) votes: Vec<(String, String)>,
    pub(crate) slashed: Wei,
    pub(crate) left: Wei,
    pub(crate) jury_fee: Wei,
}

impl Report {
    /// Writes the page.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.page().into_string()).map_err(|source| {
            Error::unavailable(format!("cannot write {}", path.display())).with_source(source)
        })
    }

    fn page(&self) -> Markup {
        let paid = self.rows.iter().map(|row| row.paid).sum::<Wei>();
        let rewards = self.rows.iter().map(|row| row.rewards).sum::<Wei>();
        let slashed = self.trial.as_ref().map_or(Wei::ZERO, |trial| trial.slashed);
        let audits = self.rows.iter().map(|row| row.audits).sum::<u64>();
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "Cuckoo: a market of inference, run once" }
                    style { (PreEscaped(include_str!("report/report.css"))) }
                }
                body {
                    header {
                        h1 { "A market of inference, run once" }
                        p.lead {
                            "Six miners with unequal stake drew pictures, answered questions and embedded texts. "
                            "One of them cheated. Nobody had to trust anybody."
                        }
                        ul.facts {
                            (fact(&self.answers.pictures.len().to_string(), "pictures"))
                            (fact(&self.answers.chats.len().to_string(), "answers"))
                            (fact(&self.answers.embedded.to_string(), "texts embedded"))
                            (fact(&audits.to_string(), "audits"))
                            (fact(&format!("{} CAI", format_cai(paid)), "redeemed from vouchers"))
                            (fact(&format!("{} CAI", cents(rewards)), "rewards to those who vote"))
                            (fact(&format!("{} CAI", format_cai(slashed)), "slashed by the court"))
                            (fact(&format!("{:.3}", self.share_error), "distance from the fair shares"))
                            (fact(&format!("{:.0} s", self.seconds), "start to end"))
                        }
                    }
                    main {
                        (self.shares())
                        (answered::gallery(&self.answers.pictures))
                        (answered::chats(&self.answers.chats))
                        (answered::searches(&self.answers))
                        @if let Some(life) = &self.life { (life_of_a_task(life)) }
                        @if let Some(case) = &self.conviction { (evidence(case)) }
                        @if let (Some(trial), Some(case)) = (&self.trial, &self.conviction) {
                            (judgement(trial, &case.convicted))
                        }
                    }
                    footer { p { code #closing { (self.closing_line) } } p { (self.chain) } }
                }
            }
        }
    }

    fn shares(&self) -> Markup {
        html! {
            section #shares {
                h2 { "Work follows stake" }
                p {
                    "Each task went to one of the miners that were free, in proportion to the votes behind them. "
                    "The fair share is what each miner's stake entitled it to while it was in the market; "
                    "the cheater's ends with its suspension."
                }
                (chart::shares(&self.rows))
                table {
                    thead { tr {
                        th { "miner" } th.number { "stake, CAI" } th.number { "stake share" }
                        th.number { "fair share" } th.number { "task share" } th.number { "tasks" }
                        th.number { "audited" } th.number { "redeemed, CAI" }
                        th.number { "rewards, CAI" }
                    } }
                    tbody { @for row in &self.rows {
                        tr.suspended[row.suspended] {
                            td { (row.name) @if row.suspended { span.tag { "suspended" } } }
                            td.number { (format_cai(row.stake)) }
                            td.number { (percent(row.stake_share)) }
                            td.number { (percent(row.fair_share)) }
                            td.number { (percent(row.task_share)) }
                            td.number { (row.tasks) }
                            td.number { (row.audited) }
                            td.number { (format_cai(row.paid)) }
                            td.number { (cents(row.rewards)) }
                        }
                    } }
                }
                p.note {
                    "An audit repeats a task on a second miner, drawn by stake, with probability "
                    (percent(self.audit_probability)) "; its output must be equal to the last byte. "
                    "A voucher is the coordinator's signed debt; redeeming it moves CAI from its escrow to the miner's owner "
                    "and, by a set part, to those who vote for the miner. Rewards are that part and a share of a budget that "
                    "all active nodes earn by their votes."
                }
            }
        }
    }
}

fn fact(value: &str, label: &str) -> Markup {
    html! { li { strong { (value) } " " span { (label) } } }
}

fn life_of_a_task(life: &Life) -> Markup {
    html! {
        section #life {
            h2 { "The life of one task" }
            p { "“" (life.prompt) "”, task " code { (life.task) } }
            ol.life {
                @for step in &life.steps {
                    li {
                        span.time { (step.millis) " ms" }
                        div {
                            strong { (step.title) }
                            @if !step.detail.is_empty() { p { (step.detail) } }
                            @if let Some(signature) = &step.signature {
                                p.signature { span { (signature.what) } code { (signature.bytes) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn evidence(case: &Conviction) -> Markup {
    html! {
        section #evidence {
            h2 { "The evidence against " (case.convicted) }
            p {
                "Asked for “" (case.prompt) "”, three miners signed for what they computed from the same input and seed. "
                "Anyone can check the signatures; the odd one out was not paid and is suspended."
            }
            div.statements {
                @for statement in &case.statements {
                    article.convicted[statement.convicted] {
                        @if let Some(png) = &statement.png {
                            img src=(data_url(png)) alt={ "what " (statement.miner) " returned" } width="64" height="64";
                        }
                        h3 { (statement.miner) @if statement.convicted { span.tag { "cheated" } } }
                        dl {
                            dt { "operator" } dd { code { (statement.operator) } }
                            dt { "output hash" } dd { code { (statement.output_hash) } }
                            dt { "signature" } dd { code { (statement.signature) } }
                        }
                    }
                }
            }
            details { summary { "The input, as signed" } pre { code { (case.input) } } }
        }
    }
}

fn judgement(trial: &Judgement, accused: &str) -> Markup {
    let agreed = trial
        .votes
        .iter()
        .filter(|(_, vote)| *vote != trial.claimed)
        .count();
    html! {
        section #trial {
            h2 {
                "The court: " (accused)
                @if trial.convicted { " was slashed " (format_cai(trial.slashed)) " CAI" } @else { " was not convicted" }
            }
            p {
                "The coordinator's owner put up a bond and opened dispute " (trial.dispute) "; the accused answered with another. "
                "A jury was drawn by stake from the other miners. Each did the task again, committed to what it got "
                "before anybody could see it, and then revealed it: " (agreed) " of " (trial.votes.len())
                " got another output than the accused had signed for."
            }
            table {
                thead { tr { th { "who" } th { "output hash" } th { "" } } }
                tbody {
                    tr.suspended { td { (accused) } td { code { (trial.claimed) } } td { "signed in its receipt" } }
                    @for (juror, vote) in &trial.votes {
                        tr.juror {
                            td { (juror) } td { code { (vote) } }
                            td { @if *vote == trial.claimed { "agrees" } @else { "disagrees" } }
                        }
                    }
                }
            }
            p.note {
                "Half of what was slashed is burnt; the reporter and the wronged coordinator get the rest, at most as much as the "
                "accused's owner lost itself. The accused's bond paid each juror of the majority "
                (format_cai(trial.jury_fee)) " CAI; " (accused) "'s owner has " (format_cai(trial.left))
                " CAI left in its node."
            }
        }
    }
}

/// Decimal CAI to the hundredth.
fn cents(amount: Wei) -> String {
    format!("{:.2}", f64::from(amount) / 1e18)
}

fn data_url(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
