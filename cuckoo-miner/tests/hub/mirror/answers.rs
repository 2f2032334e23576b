//! What the mirror answers: the list of a model's files, the files, and the contents of large ones.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, Response, header, response};
use cuckoo_core::{Clock as _, SystemClock};
use futures::stream;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Call, Commit, Fault, LIST, Shared, Shelf, git_id, hex, is_large, lock};

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;

/// Notes a call, and what is to go wrong with it; its number.
fn note(
    shelf: &Shared,
    store: bool,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> (usize, Option<Fault>) {
    let text = |name| {
        let value: Option<&HeaderValue> = headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let call = Call {
        store,
        method: method.clone(),
        path: path.to_owned(),
        range: text(header::RANGE),
        token: text(header::AUTHORIZATION),
        sent: 0,
    };
    let mut shelf = lock(shelf);
    shelf.count += 1;
    let number = shelf.count;
    shelf.calls.insert(number, call);
    let redirects = !store && is_large(path);
    // What happens to a large file's content happens at the store.
    let fault = match redirects && method == Method::GET {
        true => None,
        false => {
            let once = shelf.once.get_mut(path).and_then(VecDeque::pop_front);
            once.or_else(|| shelf.always.get(path).copied())
        }
    };
    (number, fault)
}

fn answer(status: u16) -> response::Builder {
    Response::builder().status(status)
}

fn refusal(status: u16, code: &str, retry_after: Option<u64>) -> Response<Body> {
    let mut answer = answer(status).header("x-error-code", code);
    if let Some(seconds) = retry_after {
        answer = answer.header(header::RETRY_AFTER, seconds);
    }
    answer.body(Body::from("no")).unwrap()
}

/// The commit that a revision stands for; else the hub's code for what is missing.
fn commit<'a>(shelf: &'a Shelf, model: &str, revision: &str) -> Result<&'a Commit, &'static str> {
    let commits = shelf.models.get(model);
    let commits = commits.ok_or("RepoNotFound")?;
    let found = match revision {
        "main" => commits.last(),
        id => commits.iter().find(|commit| commit.id == id),
    };
    found.ok_or("RevisionNotFound")
}

pub(super) async fn list(
    State(shelf): State<Shared>,
    Path((org, name, revision)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let (_, fault) = note(&shelf, false, &method, LIST, &headers);
    if let Some(Fault::Status(status, code, wait)) = fault {
        return refusal(status, code, wait);
    }
    let shelf = lock(&shelf);
    let commit = match commit(&shelf, &format!("{org}/{name}"), &revision) {
        Ok(commit) => commit,
        Err(code) => return refusal(404, code, None),
    };
    let siblings = commit.files.iter().map(|(path, content)| {
        if shelf.lean {
            return json!({"rfilename": path});
        }
        let mut file = json!({"rfilename": path, "size": content.len(), "blobId": git_id(content)});
        if is_large(path) {
            file["lfs"] = json!({
                "sha256": hex(&Sha256::digest(content)), "size": content.len(), "pointerSize": 132,
            });
        }
        file
    });
    let siblings: Vec<Value> = siblings.collect();
    let mut body = json!({
        "id": format!("{org}/{name}"), "sha": commit.id, "private": false, "siblings": siblings,
    });
    if let Some(lie) = shelf.lie {
        lie(&mut body);
    }
    answer(200).body(Body::from(body.to_string())).unwrap()
}

pub(super) async fn resolve(
    State(shelf): State<Shared>,
    Path((org, name, revision, path)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let (number, fault) = note(&shelf, false, &method, &path, &headers);
    let (id, content, store) = {
        let shelf = lock(&shelf);
        let commit = match commit(&shelf, &format!("{org}/{name}"), &revision) {
            Ok(commit) => commit,
            Err(code) => return refusal(404, code, None),
        };
        match commit.files.get(&path) {
            Some(content) => (commit.id.clone(), content.clone(), shelf.store.unwrap()),
            None => return refusal(404, "EntryNotFound", None),
        }
    };
    if !is_large(&path) {
        let mut response = send(&shelf, number, fault, content.clone(), &headers);
        let head = response.headers_mut();
        head.insert(
            header::ETAG,
            format!("\"{}\"", git_id(&content)).parse().unwrap(),
        );
        head.insert("x-repo-commit", id.parse().unwrap());
        return response;
    }
    if let Some(Fault::Status(status, code, wait)) = fault {
        return refusal(status, code, wait);
    }
    let sha256 = hex(&Sha256::digest(&content));
    answer(302)
        .header(
            header::LOCATION,
            format!("http://{store}/{sha256}?signature=secret"),
        )
        .header(header::ETAG, format!("\"{}\"", git_id(&content)))
        .header("x-linked-etag", format!("\"{sha256}\""))
        .header("x-linked-size", content.len())
        .header("x-repo-commit", id)
        .body(Body::empty())
        .unwrap()
}

pub(super) async fn stored(
    State(shelf): State<Shared>,
    Path(sha256): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response<Body> {
    let found = lock(&shelf).stored.get(&sha256).cloned();
    let Some((path, content)) = found else {
        return refusal(404, "", None);
    };
    let (number, fault) = note(&shelf, true, &method, &path, &headers);
    send(&shelf, number, fault, content, &headers)
}

/// A content, or the part of it that is asked for, with what goes wrong.
fn send(
    shelf: &Shared,
    number: usize,
    fault: Option<Fault>,
    mut content: Bytes,
    headers: &HeaderMap,
) -> Response<Body> {
    let (mut cut, mut pause) = (usize::MAX, Duration::ZERO);
    match fault {
        Some(Fault::Status(status, code, wait)) => return refusal(status, code, wait),
        Some(Fault::Cut(after)) => cut = after,
        Some(Fault::WrongBytes) => {
            let mut bytes = content.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            content = bytes.into();
        }
        Some(Fault::Shorter(by)) => content.truncate(content.len() - by),
        Some(Fault::Slow(long)) => pause = long,
        Some(Fault::NoRange) | None => {}
    }
    let size = content.len();
    let range = headers
        .get(header::RANGE)
        .map(|range| range.to_str().unwrap());
    let from: usize = match (range, fault) {
        (None, _) | (_, Some(Fault::NoRange)) => 0,
        (Some(range), _) => {
            let from = range.strip_prefix("bytes=").unwrap();
            from.strip_suffix('-').unwrap().parse().unwrap()
        }
    };
    if from >= size && from > 0 {
        return refusal(416, "", None);
    }
    let part = content.slice(from..);
    let answer = match from {
        0 => answer(200),
        from => answer(206).header(
            header::CONTENT_RANGE,
            format!("bytes {from}-{}/{size}", size - 1),
        ),
    };
    let answer = answer.header(header::CONTENT_LENGTH, part.len());
    answer
        .body(body(Arc::clone(shelf), number, part, cut, pause))
        .unwrap()
}

fn body(shelf: Shared, number: usize, part: Bytes, cut: usize, pause: Duration) -> Body {
    Body::from_stream(stream::unfold(0, move |at| {
        let (shelf, part) = (Arc::clone(&shelf), part.clone());
        async move {
            if at >= part.len() {
                return None;
            }
            SystemClock.sleep(pause).await;
            if at >= cut {
                return Some((Err(io::Error::other("cut")), at));
            }
            let end = part.len().min(at + PIECE).min(cut);
            // The log may have been taken meanwhile.
            if let Some(call) = lock(&shelf).calls.get_mut(&number) {
                call.sent += (end - at) as u64;
            }
            Some((Ok(part.slice(at..end)), end))
        }
    }))
}
