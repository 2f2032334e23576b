//! How a pull is shown: bars on a terminal, else lines, or the log.

use std::collections::HashMap;
use std::fmt;
use std::io::IsTerminal as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{PullEvent, size_text};

/// A line is written each time that so many hundredths more are here.
const STEP: u64 = 10;
/// Smaller files have no lines of their own, in bytes.
const SMALL: u64 = 1 << 20;

/// Shows the events of one pull.
pub(crate) struct Progress {
    how: How,
    state: Mutex<State>,
}

enum How {
    Bars(MultiProgress, ProgressBar),
    Lines(fn(fmt::Arguments<'_>)),
}

#[derive(Default)]
struct State {
    all: u64,
    here: u64,
    /// Up to where each file is here.
    files: HashMap<String, File>,
    /// The next hundredth that is worth a line.
    next: u64,
}

struct File {
    at: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// On standard error.
    pub(crate) fn shown() -> Self {
        let how = if std::io::stderr().is_terminal() {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(0).with_style(style("green")));
            all.set_message("all");
            all.enable_steady_tick(Duration::from_millis(200));
            How::Bars(bars, all)
        } else {
            How::Lines(|line| eprintln!("{line}"))
        };
        Self::new(how)
    }

    /// In the log.
    pub(crate) fn logged() -> Self {
        Self::new(How::Lines(|line| tracing::info!("{line}")))
    }

    fn new(how: How) -> Self {
        Self {
            how,
            state: Mutex::default(),
        }
    }

    /// Takes an event.
    pub(crate) fn watch(&self, event: PullEvent<'_>) {
        let mut state = self.state();
        match event {
            PullEvent::Planned {
                commit,
                files,
                bytes,
                here,
            } => {
                (state.all, state.here, state.next) = (bytes, here, STEP);
                let line = format!(
                    "commit {commit}: {files} files, {}; {} are here",
                    size_text(bytes),
                    size_text(here)
                );
                self.say(&line);
                if let How::Bars(_, all) = &self.how {
                    all.set_length(bytes);
                    all.set_position(here);
                    // What was here before does not count as speed.
                    all.reset_eta();
                }
            }
            PullEvent::At { path, bytes, size } => self.at(&mut state, path, bytes, size),
            PullEvent::Repeated { path, error, pause } => {
                let line = format!("{path}: {error}; again in {:.1} s", pause.as_secs_f64());
                self.say(&line);
            }
            PullEvent::Shared { path } => {
                self.say(&format!("{path}: another program fetches it, waiting"));
            }
            PullEvent::Done { path } => {
                let file = state.files.get_mut(path);
                if let Some(bar) = file.and_then(|file| file.bar.take()) {
                    bar.finish_and_clear();
                }
            }
        }
    }

    fn at(&self, state: &mut State, path: &str, bytes: u64, size: u64) {
        let before = match state.files.get_mut(path) {
            Some(file) => std::mem::replace(&mut file.at, bytes),
            // Where it starts is counted among what was here.
            None => {
                let bar = match &self.how {
                    How::Bars(bars, _) if bytes < size => {
                        let bar = bars.add(ProgressBar::new(size).with_style(style("cyan")));
                        bar.set_message(short(path));
                        bar.set_position(bytes);
                        bar.reset_eta();
                        Some(bar)
                    }
                    _ => None,
                };
                let file = File { at: bytes, bar };
                state.files.insert(path.to_owned(), file);
                bytes
            }
        };
        state.here = state.here.saturating_add(bytes).saturating_sub(before);
        match &self.how {
            How::Bars(_, all) => {
                all.set_position(state.here);
                if let Some(bar) = state.files.get(path).and_then(|file| file.bar.as_ref()) {
                    bar.set_position(bytes);
                }
            }
            How::Lines(_) => {
                if bytes == size && before < size && size >= SMALL {
                    self.say(&format!("{path}: {}", size_text(size)));
                }
                let percent = state.here.saturating_mul(100) / state.all.max(1);
                if percent >= state.next && percent < 100 {
                    state.next = (percent / STEP + 1) * STEP;
                    let (here, all) = (size_text(state.here), size_text(state.all));
                    self.say(&format!("{percent} %: {here} of {all}"));
                }
            }
        }
    }

    /// Takes the bars away. How much is here, and of how much.
    pub(crate) fn end(&self) -> (u64, u64) {
        let state = self.state();
        if let How::Bars(bars, _) = &self.how {
            let _ = bars.clear();
        }
        (state.here, state.all)
    }

    fn say(&self, line: &str) {
        match &self.how {
            How::Bars(bars, _) => {
                let _ = bars.println(line);
            }
            How::Lines(write) => write(format_args!("{line}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn style(colour: &str) -> ProgressStyle {
    let template = format!(
        "{{msg:>28}} {{bar:30.{colour}}} {{binary_bytes:>11}} of {{binary_total_bytes}}  {{binary_bytes_per_sec}}  {{eta}}"
    );
    ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸ ")
}

/// The end of a path, which tells files apart.
fn short(path: &str) -> String {
    let count = path.chars().count();
    if count <= 28 {
        return path.to_owned();
    }
    let end: String = path.chars().skip(count - 27).collect();
    format!("…{end}")
}
