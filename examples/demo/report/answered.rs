//! What was asked and what came back: the gallery, the conversation, and what was found.

use maud::{Markup, html};

use super::data_url;
use crate::answers::{Answers, Chat, Picture};

/// Every picture with its prompt and who drew it.
pub(super) fn gallery(pictures: &[Picture]) -> Markup {
    html! {
        section #gallery {
            h2 { "What was asked, what came back" }
            div.gallery {
                @for picture in pictures {
                    figure.doubtful[picture.doubtful] {
                        img src=(data_url(&picture.png)) alt=(picture.prompt) width="64" height="64";
                        figcaption {
                            (picture.prompt)
                            span.by {
                                (picture.miner)
                                @if picture.audited { " · audited" }
                                @if picture.doubtful { " · before it was caught" }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Questions and answers, with a mark for what is right.
pub(super) fn chats(chats: &[Chat]) -> Markup {
    html! {
        section #chats {
            h2 { "What was said" }
            p {
                "A language model of 2.4 MB, trained for this repository on sums and stories. Each answer is checked: a sum by "
                "its result, a story by what it had to be about."
            }
            div.chats {
                @for chat in chats {
                    div.chat {
                        p.asked { (chat.asked) }
                        p.answer.wrong[!chat.right] { (chat.answer) }
                        span.by {
                            @if chat.right { "✓ right" } @else { "✗ wrong" }
                            " · " (chat.miner)
                            @if chat.audited { " · audited" }
                        }
                    }
                }
            }
        }
    }
}

/// Queries with the pictures whose captions are nearest.
pub(super) fn searches(answers: &Answers) -> Markup {
    let png_of = |caption: &str| {
        answers
            .pictures
            .iter()
            .find(|picture| picture.prompt == caption && !picture.doubtful)
            .map(|picture| data_url(&picture.png))
    };
    html! {
        section #searches {
            h2 { "What was found" }
            p {
                "An embedding model made a vector of each caption and of each query. Nearest are those at the smallest angle; "
                "the numbers are its cosines. The queries say it in other words than the captions."
            }
            @for search in &answers.searches {
                div.search {
                    h3 { "“" (search.query) "”" span.by { "embedded by " (search.miner) } }
                    div.gallery {
                        @for hit in &search.hits {
                            figure {
                                @if let Some(png) = png_of(&hit.caption) {
                                    img src=(png) alt=(hit.caption) width="64" height="64";
                                }
                                figcaption { (hit.caption) span.by { (format!("{:.2}", hit.similarity)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
