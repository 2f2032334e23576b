//! What is asked of the market: pictures, questions to the chat model, and texts to embed, so that pictures can be found.

use cuckoo_core::{EmbeddingsInput, Error, Message, ModelId, Result, Role, TaskSpec, TextInput};
use serde_json::json;

/// Names under which the market offers its models.
pub(crate) const PICTURES: &str = "shapes";
/// See [`PICTURES`].
pub(crate) const CHATS: &str = "stories";
/// See [`PICTURES`].
pub(crate) const EMBEDDINGS: &str = "captions";

/// More than any answer of the chat model has.
const MAX_TOKENS: u32 = 160;

/// A question whose answer can be told right from wrong.
pub(crate) struct Question {
    pub(crate) asked: &'static str,
    /// What a right answer contains.
    right: &'static [&'static str],
}

impl Question {
    /// Whether an answer says all that it must.
    pub(crate) fn is_answered_by(&self, answer: &str) -> bool {
        self.right.iter().all(|part| answer.contains(part))
    }
}

/// Sums, stories about what is asked for, and a caption for the picture model.
const QUESTIONS: [Question; 8] = [
    ask("What is 17 + 25?", &["17 + 25 = 42."]),
    ask(
        "Tell me a story about Mia and a red kite.",
        &["Mia", "a red kite"],
    ),
    ask("What is 83 minus 38?", &["83 - 38 = 45."]),
    ask(
        "Tom has 26 nuts and finds 35 more. How many nuts does Tom have now?",
        &["Tom has 61 nuts."],
    ),
    ask(
        "Tell me a short story about Leo, a golden key and an owl.",
        &["Leo", "a golden key", "owl"],
    ),
    ask("What is 7 times 8?", &["7 x 8 = 56."]),
    ask(
        "Give me a prompt for a small blue ring.",
        &["a small blue ring on a"],
    ),
    ask(
        "Write a long story about Nora and a blue umbrella.",
        &["Nora", "a blue umbrella"],
    ),
];

const fn ask(asked: &'static str, right: &'static [&'static str]) -> Question {
    Question { asked, right }
}

/// Queries that say it in other words than any caption.
const QUERIES: [&str; 3] = [
    "a huge crimson disc",
    "is there some hoop that is huge and golden?",
    "find an emerald box, please",
];

/// One task's worth.
pub(crate) enum Request {
    Picture {
        prompt: String,
        steps: u32,
    },
    Chat(&'static Question),
    /// The captions of all pictures, to be found by.
    Index(Vec<String>),
    /// What is looked for among them.
    Query(&'static str),
}

impl Request {
    /// What goes to the coordinator.
    pub(crate) fn task(&self) -> Result<TaskSpec> {
        let (model, input) = match self {
            Self::Picture { prompt, steps } => (
                PICTURES,
                Ok(json!({ "prompt": prompt, "steps": steps, "guidance": 2.0 })),
            ),
            Self::Chat(question) => {
                let message = Message {
                    role: Role::User,
                    content: question.asked.to_owned(),
                };
                let input = TextInput {
                    max_tokens: Some(MAX_TOKENS),
                    temperature: Some(0.0),
                    ..TextInput::chat(vec![message])
                };
                (CHATS, serde_json::to_value(input))
            }
            Self::Index(captions) => (
                EMBEDDINGS,
                serde_json::to_value(EmbeddingsInput::new(captions.clone())),
            ),
            Self::Query(query) => (
                EMBEDDINGS,
                serde_json::to_value(EmbeddingsInput::new(vec![(*query).to_owned()])),
            ),
        };
        let input =
            input.map_err(|source| Error::internal("an input is no JSON").with_source(source))?;
        Ok(TaskSpec::new(model.parse::<ModelId>()?, input))
    }

    /// What it is called where people read it.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Picture { prompt, .. } => prompt,
            Self::Chat(question) => question.asked,
            Self::Index(_) => "the captions of all pictures",
            Self::Query(query) => query,
        }
    }
}

/// So many pictures with the questions spread among them, then the captions and the queries.
pub(crate) fn all(pictures: usize, steps: u32) -> Vec<Request> {
    let prompts = cuckoo_examples::varied(pictures);
    let mut requests = Vec::new();
    let mut questions = QUESTIONS.iter();
    for (index, prompt) in prompts.iter().enumerate() {
        requests.push(Request::Picture {
            prompt: prompt.clone(),
            steps,
        });
        let due = (index + 1) * QUESTIONS.len() / pictures;
        while QUESTIONS.len() - questions.len() < due {
            requests.extend(questions.next().map(Request::Chat));
        }
    }
    requests.extend(
        prompts
            .chunks(EmbeddingsInput::MAX_TEXTS)
            .map(|captions| Request::Index(captions.to_vec())),
    );
    requests.extend(QUERIES.into_iter().map(Request::Query));
    requests
}
