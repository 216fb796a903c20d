//! One payment as an honest client makes it: one key, bounded retries, until the answer is definite.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::demo::seed::{Dice, Order};

/// How long a client tries to get an answer.
pub(crate) const PAY_MAX: Duration = Duration::from_secs(10);

/// How long a client asks after a payment that is still processing.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// How often it asks.
const SETTLE_PERIOD: Duration = Duration::from_millis(200);

/// The longest wait of its first retry.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);

/// The longest wait of any retry, what the service asks for not included.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The longest `Retry-After` it honours.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);

/// How a payment ended, as its client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was told that the money has moved.
    Succeeded(Acknowledged),
    /// A policy rejected it.
    Rejected,
    /// The gateway declined it.
    Declined,
    /// The service refused it until the client gave up.
    Refused,
    /// It was told something else; what, in words.
    Failed(Box<str>),
    /// It was never told anything.
    Unanswered,
}

/// A payment the service said was made. It must be in the books, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) payment: Box<str>,
    pub(crate) amount_minor: i64,
    pub(crate) currency: &'static str,
}

/// A payment's end and how long its client waited for the answer.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// From the planned arrival, so that a late client does not hide a slow service.
    pub(crate) latency: Duration,
    pub(crate) retries: u32,
}

/// What one attempt brought.
enum Reply {
    Definite(Outcome),
    Processing(Box<str>),
    Later(Duration),
    Silence,
}

/// The fields of a payment that a client needs.
#[derive(Deserialize)]
struct PaymentView {
    id: Box<str>,
    status: Box<str>,
    amount_minor: i64,
    currency: Box<str>,
}

/// The service, as its clients see it. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    http: reqwest::Client,
    payments: String,
}

impl Desk {
    /// The desk of the service at `url`.
    pub(crate) fn new(url: &str) -> reqwest::Result<Self> {
        // The service listens on this machine: a proxy would not find it.
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, payments: format!("{}/v1/payments", url.trim_end_matches('/')) })
    }

    /// Makes the payment that should have arrived at `planned`.
    pub(crate) async fn pay(&self, order: &Order, planned: Instant, mut dice: Dice) -> Ended {
        let deadline = planned + PAY_MAX;
        let mut was_heard = false;
        let mut retries = 0;
        loop {
            let wait = match self.attempt(order, deadline).await {
                Reply::Definite(outcome) => return Ended { outcome, latency: planned.elapsed(), retries },
                Reply::Processing(payment) => {
                    let latency = planned.elapsed();
                    return Ended { outcome: self.settle(order, &payment).await, latency, retries };
                }
                Reply::Later(wait) => {
                    was_heard = true;
                    wait
                }
                Reply::Silence => Duration::ZERO,
            };
            let pause = wait.min(RETRY_AFTER_MAX) + backoff(retries, &mut dice);
            if deadline <= Instant::now() + pause {
                let outcome = if was_heard { Outcome::Refused } else { Outcome::Unanswered };
                return Ended { outcome, latency: planned.elapsed(), retries };
            }
            sleep(pause).await;
            retries += 1;
        }
    }

    async fn attempt(&self, order: &Order, deadline: Instant) -> Reply {
        let request = self
            .http
            .post(&self.payments)
            .timeout(deadline.saturating_duration_since(Instant::now()))
            .header("idempotency-key", &order.key)
            .json(&json!({
                "amount_minor": order.amount_minor,
                "currency": order.currency,
                "customer": order.customer,
                "payment_method": order.payment_method,
            }));
        match request.send().await {
            Ok(response) => read(order, response).await,
            Err(_) => Reply::Silence,
        }
    }

    /// Asks after a payment that is processing until the answer is definite.
    async fn settle(&self, order: &Order, payment: &str) -> Outcome {
        let deadline = Instant::now() + SETTLE_MAX;
        while Instant::now() < deadline {
            sleep(SETTLE_PERIOD).await;
            let asked =
                self.http.get(format!("{}/{payment}", self.payments)).timeout(SETTLE_PERIOD * 5).send();
            let Ok(response) = asked.await else { continue };
            let Ok(view) = response.json::<PaymentView>().await else { continue };
            match &*view.status {
                "captured" => return acknowledge(order, view),
                "declined" => return Outcome::Declined,
                "processing" => {}
                other => return Outcome::Failed(format!("payment ended as '{other}' after 202").into()),
            }
        }
        Outcome::Failed(format!("still processing {} s after 202", SETTLE_MAX.as_secs()).into())
    }
}

async fn read(order: &Order, response: Response) -> Reply {
    let status = response.status();
    match status {
        StatusCode::CREATED | StatusCode::ACCEPTED => match response.json::<PaymentView>().await {
            Ok(view) if status == StatusCode::ACCEPTED => Reply::Processing(view.id),
            Ok(view) => Reply::Definite(acknowledge(order, view)),
            // The answer broke off: the same key brings it again.
            Err(_) => Reply::Silence,
        },
        StatusCode::PAYMENT_REQUIRED => Reply::Definite(Outcome::Declined),
        StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            Reply::Later(retry_after(&response))
        }
        _ => {
            let text = response.text().await.unwrap_or_default();
            if status == StatusCode::UNPROCESSABLE_ENTITY && text.contains("rejected_by_policy") {
                return Reply::Definite(Outcome::Rejected);
            }
            let text: String = text.chars().take(200).collect();
            Reply::Definite(Outcome::Failed(format!("{status}: {text}").into()))
        }
    }
}

fn acknowledge(order: &Order, view: PaymentView) -> Outcome {
    if (view.amount_minor, &*view.currency) != (order.amount_minor, order.currency) {
        let what = format!("{} {}", view.amount_minor, view.currency);
        return Outcome::Failed(
            format!("asked for {} {}, paid {what}", order.amount_minor, order.currency).into(),
        );
    }
    Outcome::Succeeded(Acknowledged {
        payment: view.id,
        amount_minor: order.amount_minor,
        currency: order.currency,
    })
}

fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).map_or(Duration::ZERO, Duration::from_secs)
}

/// Exponential back-off with full jitter: anything from nothing to twice as much as last time.
fn backoff(retries: u32, dice: &mut Dice) -> Duration {
    let most = BACKOFF_FIRST.saturating_mul(1 << retries.min(16)).min(BACKOFF_MAX);
    most.mul_f64(dice.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backoff_doubles_up_to_its_limit() {
        for (retries, most) in [(0, 50), (1, 100), (5, 1_600), (6, 2_000), (40, 2_000)] {
            let most = Duration::from_millis(most);
            let waits: Vec<_> = (0..200).map(|index| backoff(retries, &mut Dice::new(7, index))).collect();
            assert!(waits.iter().all(|wait| *wait < most), "{retries}");
            assert!(waits.iter().any(|wait| most.mul_f64(0.9) < *wait), "{retries}");
            assert!(waits.iter().any(|wait| *wait < most.mul_f64(0.1)), "{retries}");
        }
    }
}
