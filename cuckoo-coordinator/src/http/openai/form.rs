//! Forms: the fields of a request beside a file, as `multipart/form-data` (RFC 7578).

use std::convert::Infallible;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use cuckoo_core::{Error, Result};
use futures::stream;
use multer::Multipart;
use serde_json::Value;

use super::Refused;
use super::request::Rest;
use crate::http::access::bearer;
use crate::http::body::read;
use crate::http::error::Refusal;

/// The field that is a file.
const FILE: &str = "file";
/// The most bytes of a form beside its file: every field several times over, and what is between them.
const MAX_BESIDE: usize = 128 * 1024;
/// The longest text of a field, in bytes.
const MAX_TEXT: usize = 64 * 1024;
/// The longest name of a field, in bytes.
const MAX_NAME: usize = 64;
/// The most fields: each takes more memory than its bytes.
const MAX_FIELDS: usize = 64;

/// A form that was read.
#[derive(Debug)]
pub(super) struct Form {
    /// What its fields say: texts, lists of texts where a name ends in `[]`, and true for the file.
    pub(super) fields: Value,
    /// The file.
    pub(super) file: Option<Bytes>,
}

impl Form {
    /// Reads a request's body with a file of at most `max_file` bytes.
    ///
    /// # Errors
    /// Status 400 for a malformed form, 403 where it may be the doing of a web page, 408, 413 and 415 as for every body.
    pub(super) async fn read(request: Request, max_file: usize) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        refuse_pages(&parts.headers)?;
        let boundary = boundary(&parts.headers)?;
        let limit = max_file.saturating_add(MAX_BESIDE);
        let bytes = read(&parts.headers, body, limit).await?;
        let form = Self::parse(bytes, boundary).await?;
        let length = form.file.as_ref().map_or(0, Bytes::len);
        if length > max_file {
            let message = format!("the file is {length} bytes; at most {max_file} are taken");
            let too_long =
                Refusal::with_status(StatusCode::PAYLOAD_TOO_LARGE, Error::invalid(message));
            return Err(Refused::from(too_long).about(FILE));
        }
        Ok(form)
    }

    async fn parse(bytes: Bytes, boundary: String) -> Result<Self, Refused> {
        let whole = stream::once(async move { Ok::<_, Infallible>(bytes) });
        let mut parts = Multipart::new(whole, boundary);
        let mut fields = Rest::new();
        let mut file = None;
        let mut count = 0;
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            let name = part.name().unwrap_or_default().to_owned();
            if !(1..=MAX_NAME).contains(&name.len()) {
                let message = format!("a field's name is 1 to {MAX_NAME} bytes");
                return Err(Error::invalid(message).into());
            }
            count += 1;
            if count > MAX_FIELDS {
                let message = format!("the form has more than {MAX_FIELDS} fields");
                return Err(Error::invalid(message).into());
            }
            let content = part.bytes().await.map_err(broken)?;
            let value = if name == FILE {
                file = Some(content);
                Value::Bool(true)
            } else {
                Value::String(text(&name, &content)?)
            };
            add(&mut fields, name, value)?;
        }
        Ok(Self {
            fields: Value::Object(fields),
            file,
        })
    }
}

/// A browser sends a form to any site without the site's leave, as long as no header but the usual ones goes with it: a page
/// must not use a coordinator on its visitor's machine.
fn refuse_pages(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(ORIGIN) && bearer(headers)?.is_none() {
        return Err(Refusal::with_status(
            StatusCode::FORBIDDEN,
            Error::unauthorized(
                "a web page sends this with the header `Authorization: Bearer <key>`, where no key is asked for with any; \
                 its origin must be among those of [http] cors_origins",
            ),
        ));
    }
    Ok(())
}

/// What is between the fields.
fn boundary(headers: &HeaderMap) -> Result<String, Refusal> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    multer::parse_boundary(content_type).map_err(|source| {
        Refusal::with_status(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Error::invalid(
                "send a form as `Content-Type: multipart/form-data; boundary=...`, as `curl -F` does",
            )
            .with_source(source),
        )
    })
}

fn broken(source: multer::Error) -> Error {
    Error::invalid("the form is malformed or breaks off; send it as `curl -F` does")
        .with_source(source)
}

fn text(name: &str, content: &[u8]) -> Result<String, Refused> {
    if content.len() > MAX_TEXT {
        let length = content.len();
        let message = format!("{name} has {length} bytes; a field has at most {MAX_TEXT}");
        return Err(Refused::param(name, message));
    }
    let text = std::str::from_utf8(content);
    let text = text.map_err(|_| Refused::param(name, format!("{name} is not UTF-8")))?;
    Ok(text.to_owned())
}

fn add(fields: &mut Rest, name: String, value: Value) -> Result<(), Refused> {
    if name.ends_with("[]") {
        let list = fields
            .entry(name)
            .or_insert_with(|| Value::Array(Vec::new()));
        if let Value::Array(list) = list {
            list.push(value);
        }
        return Ok(());
    }
    if fields.contains_key(&name) {
        let message = format!("{name} is there twice; send it once");
        return Err(Refused::param(name, message));
    }
    fields.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(name: &str, content: &str) -> String {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    async fn parse(body: impl Into<Bytes>) -> Result<Form, Refused> {
        Form::parse(body.into(), "x".to_owned()).await
    }

    #[tokio::test]
    async fn fields_and_lists_and_the_file_are_told_apart() {
        let parts = [
            part("model", "ear"),
            part("a[]", "1"),
            part("a[]", "2"),
            part("file", "\u{0}--\r\n-x"),
            part("empty", ""),
        ];
        let form = parse(parts.concat() + "--x--\r\n").await.unwrap();
        let expected = json!({"model": "ear", "a[]": ["1", "2"], "file": true, "empty": ""});
        assert_eq!(form.fields, expected);
        assert_eq!(form.file.unwrap(), "\u{0}--\r\n-x");
    }

    #[tokio::test]
    async fn what_is_no_form_ends_in_an_error_wherever_it_is_cut() {
        let whole = part("model", "ear") + &part("file", "sound") + "--x--";
        for end in 0..whole.len() {
            let cut = Bytes::copy_from_slice(&whole.as_bytes()[..end]);
            assert!(parse(cut).await.is_err(), "cut at {end}");
        }
        parse(whole).await.unwrap();
    }

    #[tokio::test]
    async fn forms_are_bounded() {
        let end = "--x--";
        let many = part("a[]", "1").repeat(MAX_FIELDS);
        parse(many.clone() + end).await.unwrap();
        let long = "a".repeat(MAX_TEXT);
        parse(part("a", &long) + end).await.unwrap();
        for bad in [
            many + &part("b", "1"),
            part("a", &(long + "a")),
            part(&"a".repeat(MAX_NAME + 1), "1"),
            part("", "1"),
            part("a", "1").repeat(2),
            part("file", "1").repeat(2),
            "--x\r\n\r\nnameless\r\n".to_owned(),
        ] {
            assert!(parse(bad + end).await.is_err());
        }
        let latin =
            [&b"--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\xe9\r\n--x--"[..]];
        let refused = parse(latin.concat()).await.unwrap_err();
        let body = serde_json::to_value(refused.body()).unwrap();
        assert_eq!(body["error"]["param"], "a");
    }
}
