//! What came back, read from the outputs of the tasks.

use cuckoo_core::{Embeddings, Result, TaskResult, TextOutput};

use crate::Finished;
use crate::ledger::Ledger;
use crate::requests::Request;

/// How many pictures a query shows.
const HITS: usize = 4;

/// Everything that was served, by kind, in the order of the requests.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) pictures: Vec<Picture>,
    pub(crate) chats: Vec<Chat>,
    pub(crate) searches: Vec<Search>,
    /// How many texts were embedded.
    pub(crate) embedded: usize,
}

/// One accepted picture.
pub(crate) struct Picture {
    pub(crate) prompt: String,
    pub(crate) miner: String,
    pub(crate) png: Vec<u8>,
    pub(crate) audited: bool,
    /// Its miner was suspended later: accepted without an audit, and quite possibly wrong.
    pub(crate) doubtful: bool,
}

/// A question and what the chat model said.
pub(crate) struct Chat {
    pub(crate) asked: &'static str,
    pub(crate) answer: String,
    pub(crate) miner: String,
    pub(crate) audited: bool,
    pub(crate) right: bool,
}

/// A query and the captions nearest to it.
pub(crate) struct Search {
    pub(crate) query: &'static str,
    pub(crate) miner: String,
    /// Nearest first.
    pub(crate) hits: Vec<Hit>,
}

/// A caption that was found.
pub(crate) struct Hit {
    pub(crate) caption: String,
    /// Cosine of the angle between its embedding and the query's.
    pub(crate) similarity: f32,
}

impl Answers {
    /// Reads what was served.
    ///
    /// # Errors
    /// When an output is not what its kind of model gives.
    pub(crate) fn read(
        requests: &[Request],
        finished: &[Finished],
        ledger: &Ledger,
    ) -> Result<Self> {
        let mut answers = Self::default();
        let mut known = Vec::new();
        for (request, (handle, result)) in requests.iter().zip(finished) {
            let Ok(result) = result else { continue };
            let by = result.receipt.value.miner;
            let (miner, audited) = (ledger.name(by), ledger.was_audited(handle.id()));
            match request {
                Request::Picture { prompt, .. } => answers.pictures.push(Picture {
                    prompt: prompt.clone(),
                    miner,
                    png: result.output.bytes.to_vec(),
                    audited,
                    doubtful: !audited && ledger.suspended_after(by).is_some(),
                }),
                Request::Chat(question) => {
                    let answer = TextOutput::read(&result.output)?.text;
                    answers.chats.push(Chat {
                        asked: question.asked,
                        right: question.is_answered_by(&answer),
                        answer,
                        miner,
                        audited,
                    });
                }
                Request::Index(captions) => {
                    answers.embedded += captions.len();
                    known.extend(
                        captions
                            .iter()
                            .cloned()
                            .zip(vectors(result, captions.len())?),
                    );
                }
                Request::Query(query) => {
                    answers.embedded += 1;
                    let vector = vectors(result, 1)?.remove(0);
                    answers.searches.push(Search {
                        query,
                        miner,
                        hits: nearest(&known, &vector),
                    });
                }
            }
        }
        Ok(answers)
    }
}

fn vectors(result: &TaskResult, texts: usize) -> Result<Vec<Vec<f32>>> {
    Ok(Embeddings::read(&result.output, texts)?.vectors().collect())
}

/// The captions nearest to a query; the model gives vectors of length 1.
fn nearest(known: &[(String, Vec<f32>)], query: &[f32]) -> Vec<Hit> {
    let similarity = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum();
    let mut hits: Vec<_> = known
        .iter()
        .map(|(caption, vector)| Hit {
            caption: caption.clone(),
            similarity: similarity(vector),
        })
        .collect();
    hits.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    hits.truncate(HITS);
    hits
}
