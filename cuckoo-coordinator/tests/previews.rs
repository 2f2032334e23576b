//! A picture in the making, from a miner with a real model to those who watch the task: in the same process, and over HTTP.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cuckoo_coordinator::{Coordinator, ModelSettings, Settings, router, serve};
use cuckoo_core::{
    DeployConfig, DevChain, Key, LocalMarket, ModelId, OsEntropy, SystemClock, TaskSpec, cai,
    http_client, paths,
};
use cuckoo_miner::{Image, ImageExecutor, ImageRequest, Miner};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const PROMPT: &str = "a large red circle on a blue background";
/// So many that a run lasts for several heartbeats on any machine.
const STEPS: usize = 300;

/// An event of a task as it was sent.
struct Sent {
    name: String,
    id: Option<String>,
    data: Value,
}

fn read(text: &str) -> Vec<Sent> {
    let event = |text: &str| {
        let field = |name: &str| {
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            Some(value.trim().to_owned())
        };
        Some(Sent {
            name: field("event:")?,
            id: field("id:"),
            data: serde_json::from_str(&field("data:")?).unwrap(),
        })
    };
    text.split("\n\n").filter_map(event).collect()
}

/// That it is a picture, of the size of the model's latents.
fn check(media_type: &str, png: &[u8]) {
    assert_eq!(media_type, "image/png");
    let image = Image::from_png(png).unwrap();
    assert_eq!((image.width, image.height), (16, 16));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_is_watched_while_it_is_made_and_comes_out_the_same() {
    let (clock, entropy) = (Arc::new(SystemClock), Arc::new(OsEntropy::new().unwrap()));
    let (chain, treasury) = (DevChain::new(clock.clone()), Key::random(&*entropy));
    chain.fund(treasury.address(), cai(3_000_000));
    let chain = chain
        .deploy(&treasury, &DeployConfig::demo())
        .await
        .unwrap();
    let market = LocalMarket::new(chain.clone(), treasury, entropy);
    let host = market.add_coordinator("host", cai(2_000_000), cai(10));
    let host = host.await.unwrap();
    let artist = market.add_miner("artist", cai(20_000)).await.unwrap();
    let patience = Duration::from_secs(30);
    let parties = [&host, &artist];
    let settled = market.settle(&parties, &*clock, patience);
    settled.await.unwrap();
    let model: ModelId = "shapes".parse().unwrap();
    let settings = Settings {
        models: vec![ModelSettings::new(model.clone(), cai(1))],
        audit_probability: 0.0,
        heartbeat_millis: 50,
        ..Settings::default()
    };
    let coordinator = Coordinator::builder()
        .operator(host.operator)
        .chain(chain.clone())
        .settings(settings)
        .start()
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let routes = router(coordinator.clone());
    tokio::spawn(serve(listener, routes, stop.clone().cancelled_owned()));
    let _server = stop.drop_guard();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/shapes");
    let executor = ImageExecutor::load(folder, model.clone())
        .unwrap()
        .with_limits(usize::MAX, STEPS);
    let _miner = Miner::builder()
        .operator(artist.operator)
        .chain(chain)
        .executor(Arc::new(executor.clone()))
        .coordinator(coordinator.protocol())
        .start()
        .await
        .unwrap();

    let input = json!({ "prompt": PROMPT, "seed": 7, "steps": STEPS });
    let task = TaskSpec::new(model, input).with_timeout(Duration::from_secs(600));
    let task = coordinator.submit(task).await.unwrap();
    let client = http_client().no_proxy().build().unwrap();
    let id = task.id().to_string();
    let events = client
        .get(format!("{url}{}", paths::TASK_EVENTS.replace("{id}", &id)))
        .send();
    let (previews, events) = tokio::join!(task.previews().collect::<Vec<_>>(), async {
        events.await.unwrap().text().await.unwrap()
    });

    assert!(previews.len() > 1, "{} previews", previews.len());
    for preview in &previews {
        check(&preview.media_type, &preview.data);
    }
    let sent = read(&events);
    let shown: Vec<_> = sent.iter().filter(|sent| sent.name == "preview").collect();
    assert!(!shown.is_empty(), "{events}");
    for preview in shown {
        assert_eq!(preview.id, None);
        let data = STANDARD.decode(preview.data["data"].as_str().unwrap());
        check(preview.data["media_type"].as_str().unwrap(), &data.unwrap());
    }
    let last = sent.last().unwrap();
    assert_eq!(
        (last.name.as_str(), last.id.as_deref()),
        ("state", Some("completed"))
    );
    let state = client.get(format!("{url}{}", paths::TASK.replace("{id}", &id)));
    let state: Value = state.send().await.unwrap().json().await.unwrap();
    assert_eq!(state["state"], "completed");
    assert!(state["preview"].is_null(), "{state}");

    // The same picture, made without anybody looking.
    let pipeline = executor.pipeline();
    let request = ImageRequest {
        prompt: PROMPT.to_owned(),
        negative_prompt: None,
        image: None,
        strength: None,
        width: None,
        height: None,
        steps: STEPS,
        guidance: pipeline.default_guidance(),
        seed: 7,
        sampler: None,
    };
    let alone = pipeline.generate(&request, &mut |_| ControlFlow::Continue(()));
    let output = task.result().await.unwrap().output;
    assert_eq!(output.bytes, alone.unwrap().to_png().unwrap());
}
