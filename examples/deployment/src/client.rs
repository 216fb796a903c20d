//! The commands that talk to a running manager.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use crate::host;
use crate::policy::Strategy;
use crate::store::Past;
use crate::view::{RegionView, ServiceView, WaitingView};

/// How long an answer may take; ending everything takes longest.
const ANSWER_MAX: Duration = Duration::from_secs(90);

/// How often a service is looked at that is watched.
const WATCH: Duration = Duration::from_secs(1);

/// Where the manager is.
#[derive(Debug, Clone, clap::Args)]
pub struct Manager {
    /// The manager.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8070", env = "DEPLOYMENT_MANAGER")]
    pub manager: String,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("the manager does not answer; start it with `deployment serve`, or name it with --manager")]
    Silent(#[from] reqwest::Error),
    /// It says no.
    #[error("{}", words(.0))]
    Problem(Value),
}

/// A problem document as words: the detail, and each violation or field on a line of its own.
fn words(problem: &Value) -> String {
    let mut text = problem["title"].as_str().unwrap_or("the manager refuses").to_owned();
    if let Some(detail) = problem["detail"].as_str() {
        let _ = write!(text, ": {detail}");
    }
    for violation in problem["violations"].as_array().into_iter().flatten() {
        let part = |name: &str| violation[name].as_str().unwrap_or_default().to_owned();
        let _ = write!(text, "\n  {}: {}", part("rule"), part("message"));
    }
    for error in problem["errors"].as_array().into_iter().flatten() {
        let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
        let _ = write!(text, "\n  {}: {}", part("field"), part("detail"));
    }
    text
}

/// A client of the manager.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the manager at `base`.
    pub fn new(base: &str) -> Self {
        Self { http: host::client(None), base: base.trim_end_matches('/').to_owned() }
    }

    /// How a service is.
    pub async fn service(&self, service: &str) -> Result<ServiceView, ClientError> {
        self.get(&format!("/v1/services/{service}")).await
    }

    /// Every delivery that waits, in order.
    pub async fn queue(&self) -> Result<Vec<WaitingView>, ClientError> {
        self.get("/v1/queue").await
    }

    /// Its deliveries, the last first.
    pub async fn history(&self, service: &str) -> Result<Vec<Past>, ClientError> {
        self.get(&format!("/v1/services/{service}/history")).await
    }

    /// Begins a delivery and tells its id.
    pub async fn begin(
        &self,
        service: &str,
        version: &str,
        strategy: Strategy,
        id: Option<&str>,
    ) -> Result<String, ClientError> {
        let wanted = json!({ "version": version, "strategy": strategy, "id": id });
        let answer = self.post(&format!("/v1/services/{service}/rollouts"), &wanted).await?;
        Ok(answer["id"].as_str().unwrap_or_default().to_owned())
    }

    /// Says what a person wants: `pause`, `resume`, `promote` or `abort`.
    pub async fn order(&self, service: &str, order: &str) -> Result<String, ClientError> {
        self.order_by(service, order, std::env::var("USER").ok().as_deref()).await
    }

    /// Says what this person wants.
    pub async fn order_by(
        &self,
        service: &str,
        order: &str,
        by: Option<&str>,
    ) -> Result<String, ClientError> {
        let answer = self.post(&format!("/v1/services/{service}/{order}"), &json!({ "by": by })).await?;
        Ok(answer["did"].as_str().unwrap_or_default().to_owned())
    }

    /// Ends everything.
    pub async fn down(&self) -> Result<(), ClientError> {
        self.post("/v1/down", &json!({})).await.map(drop)
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self.http.get(format!("{}{path}", self.base)).timeout(ANSWER_MAX).send().await?;
        if answer.status().is_success() {
            return Ok(answer.json().await?);
        }
        Err(ClientError::Problem(answer.json().await.unwrap_or_default()))
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let answer =
            self.http.post(format!("{}{path}", self.base)).timeout(ANSWER_MAX).json(body).send().await?;
        let is_success = answer.status().is_success();
        let body: Value = answer.json().await.unwrap_or_default();
        if is_success { Ok(body) } else { Err(ClientError::Problem(body)) }
    }
}

/// Prints how a service is, again and again if it is watched, until nothing is delivered.
pub async fn status(client: &Client, service: &str, watch: bool) -> Result<(), ClientError> {
    loop {
        let view = client.service(service).await?;
        print!("{}", text(&view));
        if !watch || (view.delivery.is_none() && view.waiting.is_none()) {
            return Ok(());
        }
        println!();
        sleep(WATCH).await;
    }
}

/// A service as text.
pub fn text(view: &ServiceView) -> String {
    let mut text = match &view.delivery {
        Some(delivery) => format!("{} {delivery}\n", view.service),
        None => format!("{} runs {}\n", view.service, view.stable.as_deref().unwrap_or("nothing")),
    };
    if let Some(waiting) = &view.waiting {
        let _ = writeln!(text, "{}", waiting_text(waiting));
    }
    if let Some(last) = &view.last {
        let _ = writeln!(text, "{} {}", last.light.glyph(), last.what);
    }
    for region in &view.regions {
        text.push_str(&region_text(region));
    }
    text
}

/// A delivery that waits, as text.
fn waiting_text(waiting: &WaitingView) -> String {
    let WaitingView { service, version, position, why, .. } = waiting;
    format!("{service} {version} waits, number {position} in the queue: {why}")
}

/// Prints every delivery that waits, in order.
pub async fn queue(client: &Client) -> Result<(), ClientError> {
    let waiting = client.queue().await?;
    if waiting.is_empty() {
        println!("nothing waits");
    }
    for waiting in &waiting {
        println!("{} {}", waiting.id, waiting_text(waiting));
    }
    Ok(())
}

/// Prints what a delivery that was asked for waits for, if it does.
pub async fn waits(client: &Client, id: &str) -> Result<(), ClientError> {
    for waiting in client.queue().await?.iter().filter(|waiting| waiting.id == id) {
        println!("{}", waiting_text(waiting));
    }
    Ok(())
}

fn region_text(region: &RegionView) -> String {
    let mut text = format!("  {} at {}\n", region.region, region.address);
    if let Some(trouble) = &region.trouble {
        let _ = writeln!(text, "    {trouble}");
    }
    for version in &region.versions {
        let share =
            if version.requests == 0 { 0.0 } else { version.failures as f64 / version.requests as f64 };
        let _ = writeln!(
            text,
            "    {:<10} {:>5.1} %  {}/{} ready  {} requests  {:.2} % failed  p99 {:.1} ms",
            version.version,
            version.share * 100.0,
            version.instances.0,
            version.instances.1,
            version.requests,
            share * 100.0,
            version.p99_ms,
        );
    }
    text
}

/// Prints every delivery with its steps, the last first.
pub async fn history(client: &Client, service: &str) -> Result<(), ClientError> {
    for past in client.history(service).await? {
        let outcome = match past.succeeded {
            Some(true) => "succeeded".to_owned(),
            Some(false) => {
                let what = if past.is_begun { "taken back" } else { "not begun" };
                format!("{what}: {}", past.why.as_deref().unwrap_or("no reason was kept"))
            }
            None if past.is_begun => "goes on".to_owned(),
            None => "waits".to_owned(),
        };
        // What it would follow is known when it begins.
        let from = if past.is_begun { past.from.as_deref().unwrap_or("nothing") } else { "…" };
        println!("{} {from} → {}: {outcome}", past.id, past.to);
        for (unix_ms, what) in &past.steps {
            // What happened while it waited was before its beginning.
            println!("  {:>8.3} s  {what}", (*unix_ms as f64 - past.begun_unix_ms as f64) / 1e3);
        }
    }
    Ok(())
}
