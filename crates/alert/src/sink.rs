//! Where a route leads, and what can go wrong on the way.

use std::fmt;
use std::time::Duration;

use gemba_core::alert::Notice;
use gemba_core::light::Light;
use gemba_core::name::Name;
use hyper::Uri;

use crate::email::Mailer;
use crate::http::{self, Client};
use crate::payload::{alertmanager, pagerduty, slack};

/// How long one attempt may take.
pub(crate) const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// Where a route leads. Addresses with secrets in them are never shown.
pub(crate) enum Sink {
    /// The log, for those who read it anyway.
    Log,
    /// A Slack incoming webhook; its URL is the secret.
    Slack { client: Client, url: Uri },
    /// Whatever takes Alertmanager's webhooks, version 4.
    Webhook { client: Client, url: Uri },
    /// PagerDuty Events v2.
    PagerDuty { client: Client, url: Uri, routing_key: Box<str> },
    /// Mail.
    Email(Box<Mailer>),
}

/// Why a notice did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeliverError {
    /// It took longer than [`ATTEMPT_LIMIT`].
    #[error("no answer within {} s", ATTEMPT_LIMIT.as_secs())]
    TimedOut,
    /// The connection failed.
    #[error("{}", http::reason(.0))]
    Http(#[from] http::Failure),
    /// The receiver answered with another status than success.
    #[error("the receiver answered {status}")]
    Status { status: u16, retry_after: Option<Duration> },
    /// The mail was not taken.
    #[error("{0}")]
    Mail(#[from] lettre::transport::smtp::Error),
    /// The mail could not be written.
    #[error("{0}")]
    Message(#[from] lettre::error::Error),
}

impl DeliverError {
    /// Whether another attempt would end the same way: the receiver says that the request is wrong.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Status { status, .. } => (400..500).contains(status) && ![408, 425, 429].contains(status),
            Self::Mail(error) => error.is_permanent(),
            Self::Message(_) => true,
            Self::TimedOut | Self::Http(_) => false,
        }
    }

    /// How long the receiver asks to be left alone.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::TimedOut | Self::Http(_) | Self::Mail(_) | Self::Message(_) => None,
        }
    }
}

impl Sink {
    /// Delivers a notice, within [`ATTEMPT_LIMIT`].
    pub(crate) async fn deliver(&self, route: &Name, notice: &Notice) -> Result<(), DeliverError> {
        let attempt = async {
            match self {
                Self::Log => {
                    log(notice);
                    Ok(())
                }
                Self::Slack { client, url } => http::post(client, url, &slack(notice)).await,
                Self::Webhook { client, url } => http::post(client, url, &alertmanager(route, notice)).await,
                Self::PagerDuty { client, url, routing_key } => {
                    http::post(client, url, &pagerduty(routing_key, notice)).await
                }
                Self::Email(mailer) => mailer.send(notice).await,
            }
        };
        tokio::time::timeout(ATTEMPT_LIMIT, attempt).await.map_err(|_| DeliverError::TimedOut)?
    }
}

fn log(notice: &Notice) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                station = %notice.station,
                light = %notice.light,
                notice = notice.kind.word(),
                receipt = notice.receipt.0,
                "{}",
                notice.why
            )
        };
    }
    match notice.light {
        Light::Red | Light::Purple => line!(error),
        Light::Green | Light::Yellow => line!(warn),
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Log => "Log",
            Self::Slack { .. } => "Slack",
            Self::Webhook { .. } => "Webhook",
            Self::PagerDuty { .. } => "PagerDuty",
            Self::Email(_) => "Email",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_work_later_is_tried_again() {
        for (status, is_final) in [
            (400, true),
            (403, true),
            (404, true),
            (408, false),
            (429, false),
            (500, false),
            (503, false),
            (302, false),
        ] {
            assert_eq!(DeliverError::Status { status, retry_after: None }.is_final(), is_final, "{status}");
        }
        assert!(!DeliverError::TimedOut.is_final());
    }
}
