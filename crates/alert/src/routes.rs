//! The routes of a node, as its builder takes them, and the part of the tree they become.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::alert::{AlertRules, Alerts, Routes};
use gemba_core::light::Light;
use gemba_core::name::{Name, NameError};
use gemba_kernel::{ChildSpec, Shutdown, Supervisor, task};
use hyper::Uri;
use tokio::sync::watch;

use crate::alerter::Alerter;
use crate::email::Email;
use crate::http::{self, Client};
use crate::route::{Route, STOP_MAX};
use crate::sink::Sink;

/// Where PagerDuty takes events.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// What is wrong with a route. All faults are told together, and nothing is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// A route has a name that cannot stand in a path.
    #[error("{0}")]
    Name(#[from] NameError),
    /// Two routes have the same name.
    #[error("two routes are called '{name}'; give each its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// An address is none. It is not shown: it may hold a secret.
    #[error("the address of route '{route}' is not a URL with http or https and a host")]
    Url {
        /// The route.
        route: String,
    },
    /// A key is missing.
    #[error("the routing key of route '{route}' is empty; PagerDuty shows it at the integration")]
    Key {
        /// The route.
        route: String,
    },
    /// A mail route cannot send.
    #[error("{what} of route '{route}' is wrong: {why}")]
    Email {
        /// The route.
        route: String,
        /// What is wrong.
        what: &'static str,
        /// Why.
        why: String,
    },
}

/// Everything wrong with the routes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} fault(s) in the alert routes, nothing was started:\n  {}", .0.len(), .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub struct RouteErrors(pub Vec<RouteError>);

/// Who is told of which light, and how.
///
/// Each route is told from one light on: the log and Slack from yellow, mail and PagerDuty from red, the page
/// from purple and of what nobody acknowledges. Source: FLOW.md, andon.
///
/// # Examples
///
/// ```
/// use gemba_alert::{AlertRoutes, Email};
///
/// let routes = AlertRoutes::new()
///     .slack("https://hooks.slack.com/services/T000/B000/XXXX")
///     .email(Email::new("smtp.example.org", "gemba@example.org", "team@example.org"))
///     .pagerduty("routing-key-of-the-team")
///     .page("routing-key-of-the-one-on-call");
/// # assert!(routes.check().is_ok());
/// ```
pub struct AlertRoutes {
    rules: AlertRules,
    routes: Vec<(String, Light, Target)>,
}

enum Target {
    Log,
    Slack(String),
    Webhook(String),
    PagerDuty { url: String, key: String },
    Email(Email),
}

impl AlertRoutes {
    /// The log, from yellow on, and nothing else.
    pub fn new() -> Self {
        Self { rules: AlertRules::default(), routes: vec![("log".to_owned(), Light::Yellow, Target::Log)] }
    }

    /// When an alert is repeated, escalated and over.
    pub fn rules(mut self, rules: AlertRules) -> Self {
        self.rules = rules;
        self
    }

    /// Route `slack`, from yellow on: an incoming webhook.
    pub fn slack(self, url: &str) -> Self {
        self.add("slack", Light::Yellow, Target::Slack(url.to_owned()))
    }

    /// Route `name`, from `light` on: whatever takes Alertmanager's webhooks, version 4.
    pub fn webhook(self, name: &str, light: Light, url: &str) -> Self {
        self.add(name, light, Target::Webhook(url.to_owned()))
    }

    /// Route `email`, from red on.
    pub fn email(self, email: Email) -> Self {
        self.add("email", Light::Red, Target::Email(email))
    }

    /// Route `pagerduty`, from red on: the routing key of the team's integration.
    pub fn pagerduty(self, routing_key: &str) -> Self {
        self.pagerduty_at("pagerduty", Light::Red, PAGERDUTY, routing_key)
    }

    /// Route `page`, from purple on and for whatever nobody acknowledges: the routing key of who is on call.
    pub fn page(self, routing_key: &str) -> Self {
        self.pagerduty_at("page", Light::Purple, PAGERDUTY, routing_key)
    }

    /// Route `name`, from `light` on: PagerDuty's events, version 2, at another address than theirs, as the
    /// European one or a proxy.
    pub fn pagerduty_at(self, name: &str, light: Light, url: &str, routing_key: &str) -> Self {
        self.add(name, light, Target::PagerDuty { url: url.to_owned(), key: routing_key.to_owned() })
    }

    fn add(mut self, name: &str, light: Light, target: Target) -> Self {
        self.routes.push((name.to_owned(), light, target));
        self
    }

    /// Looks for faults without starting anything.
    ///
    /// # Errors
    ///
    /// [`RouteErrors`] with every fault.
    pub fn check(self) -> Result<(), RouteErrors> {
        self.assemble(&watch::channel(false).1).map(|_| ())
    }

    /// The part of the tree that alerts: a supervisor `alerts` with the alerter and a task for each route.
    ///
    /// # Errors
    ///
    /// [`RouteErrors`] with every fault.
    pub fn child(self, node: &Name) -> Result<ChildSpec, RouteErrors> {
        let rules = self.rules;
        let (last, is_last) = watch::channel(false);
        let (table, routes) = self.assemble(&is_last)?;
        let alerter = Arc::new(Alerter::new(Alerts::new(node.clone(), rules, table), routes.clone(), last));
        let alerting = task("alerter", move |ctx| {
            let alerter = alerter.clone();
            async move { alerter.run(ctx).await }
        });
        // The routes stand below their own supervisor, so that their names cannot meet the alerter's; it
        // starts before the alerter and stops after it: what it has told of in the end still goes out.
        let tasks = routes.into_iter().map(|route| {
            let name = route.name.to_string();
            let body = move |ctx| {
                let route = route.clone();
                async move { route.run(ctx).await }
            };
            task(&name, body).shutdown(Shutdown::Within(STOP_MAX))
        });
        let routes = tasks.fold(Supervisor::one_for_one("routes"), Supervisor::child);
        let often = |supervisor: Supervisor| supervisor.intensity(10, Duration::from_secs(60));
        Ok(often(Supervisor::one_for_one("alerts").child(often(routes)).child(alerting)).into())
    }

    fn assemble(self, last: &watch::Receiver<bool>) -> Result<(Routes, Vec<Arc<Route>>), RouteErrors> {
        let (mut table, mut routes, mut errors) = (Routes::new(), Vec::new(), Vec::new());
        let client = http::client();
        let mut names = BTreeSet::new();
        for (text, light, target) in self.routes {
            let name = Name::new(&text).map_err(|error| errors.push(error.into())).ok();
            if !names.insert(text.clone()) {
                errors.push(RouteError::Duplicate { name: text.clone() });
            }
            let sink = target.sink(&text, &client).map_err(|error| errors.push(error)).ok();
            if let (Some(name), Some(sink)) = (name, sink) {
                table = table.from(light, name.clone());
                routes.push(Arc::new(Route::new(name, sink, last.clone())));
            }
        }
        if errors.is_empty() { Ok((table, routes)) } else { Err(RouteErrors(errors)) }
    }
}

impl Target {
    fn sink(self, route: &str, client: &Client) -> Result<Sink, RouteError> {
        let client = client.clone();
        Ok(match self {
            Self::Log => Sink::Log,
            Self::Slack(url) => Sink::Slack { client, url: parse(route, &url)? },
            Self::Webhook(url) => Sink::Webhook { client, url: parse(route, &url)? },
            Self::PagerDuty { url, key } => {
                let url = parse(route, &url)?;
                if key.trim().is_empty() {
                    return Err(RouteError::Key { route: route.to_owned() });
                }
                Sink::PagerDuty { client, url, routing_key: key.into() }
            }
            Self::Email(email) => Sink::Email(Box::new(email.mailer(route)?)),
        })
    }
}

fn parse(route: &str, url: &str) -> Result<Uri, RouteError> {
    let web =
        |url: &Uri| ["http", "https"].contains(&url.scheme_str().unwrap_or_default()) && url.host().is_some();
    url.parse().ok().filter(web).ok_or_else(|| RouteError::Url { route: route.to_owned() })
}

impl Default for AlertRoutes {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AlertRoutes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.routes.iter().map(|(name, light, _)| (name, light));
        f.debug_map().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::email::Encryption;

    #[test]
    fn all_faults_are_told_at_once_and_no_secret_with_them() {
        let routes = AlertRoutes::new()
            .slack("hooks.slack.com/services/s3cret")
            .slack("https://hooks.slack.com/services/s3cret")
            .webhook("two words", Light::Red, "ftp://s3cret")
            .pagerduty(" ")
            .email(Email::new("localhost", "nobody", "ann@example.org").credentials("ann", "s3cret"));
        assert!(!format!("{routes:?}").contains("s3cret"));
        let errors = routes.check().unwrap_err();
        assert_eq!(errors.0.len(), 6, "{errors}");
        assert!(!errors.to_string().contains("s3cret"), "{errors}");
    }

    #[test]
    fn a_password_does_not_travel_in_clear() {
        let email = Email::new("localhost", "a@example.org", "b@example.org").encryption(Encryption::None);
        assert!(AlertRoutes::new().email(email.clone()).check().is_ok());
        assert!(!format!("{:?}", email.clone().credentials("a", "s3cret")).contains("s3cret"));
        assert!(AlertRoutes::new().email(email.credentials("a", "s3cret")).check().is_err());
    }

    #[test]
    fn mail_with_tls_is_ready_to_send() {
        for encryption in [Encryption::Tls, Encryption::StartTls] {
            let email = Email::new("smtp.example.org", "a@example.org", "Ann <b@example.org>");
            let email = email.to("c@example.org").encryption(encryption).credentials("a", "s3cret");
            assert!(AlertRoutes::new().email(email).check().is_ok());
        }
    }
}
