//! A collector of traces on loopback, which keeps what it is sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use bytes::Bytes;
use cuckoo_coordinator::serve;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

/// It stops when dropped.
pub(crate) struct Collector {
    pub(crate) url: String,
    taken: Taken,
    _server: DropGuard,
}

type Taken = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) {
    taken.lock().unwrap().push((headers, body));
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Taken::default();
        let routes = Router::new()
            .route("/v1/traces", post(take))
            .with_state(Arc::clone(&taken));
        let stop = CancellationToken::new();
        tokio::spawn(serve(listener, routes, stop.clone().cancelled_owned()));
        Self {
            url,
            taken,
            _server: stop.drop_guard(),
        }
    }

    /// What came, as it was sent.
    pub(crate) fn taken(&self) -> Vec<(HeaderMap, Bytes)> {
        self.taken.lock().unwrap().clone()
    }

    /// Every span that came, and the name of the service it came from.
    pub(crate) fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for (headers, body) in self.taken() {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            let request = ExportTraceServiceRequest::decode(body).unwrap();
            for resource in request.resource_spans {
                let about = resource.resource.unwrap().attributes;
                let service = text(&about, "service.name");
                let scopes = resource.scope_spans.into_iter();
                let all = scopes.flat_map(|scope| scope.spans);
                spans.extend(all.map(|span| (service.clone(), span)));
            }
        }
        spans
    }
}

/// An attribute, as text; empty when there is none.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == name);
    match found.and_then(|attribute| attribute.value.clone()) {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => text,
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => number.to_string(),
        Some(AnyValue {
            value: Some(Value::BoolValue(flag)),
        }) => flag.to_string(),
        None => String::new(),
        other => panic!("{name} is {other:?}"),
    }
}
