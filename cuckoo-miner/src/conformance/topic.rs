//! What is checked, what each check means, and what to do where it fails.

/// One check, in the order of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Samples,
    Capabilities,
    Output,
    Repeatable,
    Stream,
    Progress,
    Usage,
    Refusals,
    Fields,
    Panics,
    Deadline,
    Cancellation,
    Recovery,
    Overlap,
}

impl Topic {
    pub(super) const ALL: [Self; 14] = [
        Self::Samples,
        Self::Capabilities,
        Self::Output,
        Self::Repeatable,
        Self::Stream,
        Self::Progress,
        Self::Usage,
        Self::Refusals,
        Self::Fields,
        Self::Panics,
        Self::Deadline,
        Self::Cancellation,
        Self::Recovery,
        Self::Overlap,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Samples => "samples",
            Self::Capabilities => "capabilities",
            Self::Output => "output",
            Self::Repeatable => "repeatable",
            Self::Stream => "stream",
            Self::Progress => "progress",
            Self::Usage => "usage",
            Self::Refusals => "refusals",
            Self::Fields => "fields",
            Self::Panics => "panics",
            Self::Deadline => "deadline",
            Self::Cancellation => "cancellation",
            Self::Recovery => "recovery",
            Self::Overlap => "overlap",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Samples => "there is a valid input to try each model with",
            Self::Capabilities => "what is offered is complete, and stays the same",
            Self::Output => "a valid input gives an output that can be handed in",
            Self::Repeatable => "the same input gives the same bytes again",
            Self::Stream => "what is emitted is the beginning of the output",
            Self::Progress => "progress goes up, to 1000 at most",
            Self::Usage => "what is counted is plausible, and equal for equal inputs",
            Self::Refusals => "what is no input is refused as `invalid`",
            Self::Fields => "strange fields are refused or run, and harm nothing",
            Self::Panics => "no input makes it panic",
            Self::Deadline => "a deadline that passed does not blame the requester",
            Self::Cancellation => "a cancelled run ends, and its slot is free again",
            Self::Recovery => "after all that, a valid input gives what it gave before",
            Self::Overlap => "runs beside each other give what each gives alone",
        }
    }

    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Samples => {
                "give `Samples` for each model of `capabilities`: a valid input at least, each a JSON object"
            }
            Self::Capabilities => {
                "offer each model once, with a hash of what decides its output and a name for its arithmetic, the same at every call"
            }
            Self::Output => {
                "give bytes within the miner's `max_output_bytes`, and a media type such as image/png; every input that is called \
                 valid must run, with the `seed` that coordinators add"
            }
            Self::Repeatable => {
                "take all randomness from the input's `seed`, and keep clocks, thread counts and the order of hash maps out of the \
                 output: audits compare it on another miner, byte for byte"
            }
            Self::Stream => {
                "emit nothing but the output's own next bytes, in order; TextWriter of cuckoo-core makes both for texts"
            }
            Self::Progress => {
                "report the share done in thousandths, 0 to 1000, from one place that only counts up"
            }
            Self::Usage => {
                "count units of the input and of the output alone, and leave `compute_millis` at 0 for the miner to fill in"
            }
            Self::Refusals => {
                "parse the input as the JSON object it should be, first of all, and answer `Error::invalid` to anything else"
            }
            Self::Fields => {
                "read the input into a type of its own (serde, with deny_unknown_fields), bound every size, and answer \
                 `Error::invalid`, or `Error::rejected` where this miner can never do it, with `Retry::Later` where it has no room now"
            }
            Self::Panics => {
                "answer an error in its place: no unwrap, index or arithmetic on what a stranger wrote; a miner is blamed for a panic"
            }
            Self::Deadline => {
                "give the output all the same, or `Error::timeout`; look at `context.deadline()` only to give up early"
            }
            Self::Cancellation => {
                "wait for `context.cancelled()` beside the work, ask `context.is_cancelled()` in loops, and put work that blocks \
                 into spawn_blocking, where it asks too"
            }
            Self::Recovery => {
                "keep no state that one run can break for the next, such as a lock that a panic poisons or a permit that is not given back"
            }
            Self::Overlap => "share nothing that runs write to, or give each run its own",
        }
    }
}
