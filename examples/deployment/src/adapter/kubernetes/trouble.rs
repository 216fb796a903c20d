//! What a cluster answers when it does not do as asked, in plain words, and whether trying again helps.

use std::time::Duration;

use kube::Error;
use kube::core::Status;
use tokio::time::timeout;

use crate::adapter::Trouble;

/// How long one request may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What was asked of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing<'a> {
    /// The verb, as in a role.
    pub(super) what: &'static str,
    /// The resource, as in a role.
    pub(super) kind: &'static str,
    pub(super) namespace: &'a str,
}

/// A trouble, and what it means for whoever asked.
#[derive(Debug)]
pub(super) struct Answer {
    trouble: Trouble,
    /// The object is not there; its kind is known.
    pub(super) is_missing: bool,
    /// Somebody else was faster.
    pub(super) is_race: bool,
    /// What one knows is too old; look anew.
    pub(super) is_gone: bool,
}

impl From<Answer> for Trouble {
    fn from(answer: Answer) -> Self {
        answer.trouble
    }
}

/// Asks, within the time that a request may take.
pub(super) async fn within<T>(
    doing: &Doing<'_>,
    asked: impl Future<Output = Result<T, Error>>,
) -> Result<T, Answer> {
    match timeout(ANSWER_MAX, asked).await {
        Ok(answered) => answered.map_err(|error| explain(doing, &error)),
        Err(_) => Err(passing(format!("the cluster did not answer within {} s", ANSWER_MAX.as_secs()))),
    }
}

/// What is to be ended and is not there has ended.
pub(super) fn gone_is_as_good<T>(ended: Result<T, Answer>) -> Result<(), Trouble> {
    match ended {
        Ok(_) => Ok(()),
        Err(answer) if answer.is_missing => Ok(()),
        Err(answer) => Err(answer.into()),
    }
}

fn passing(what: impl Into<String>) -> Answer {
    Answer { trouble: Trouble::passing(what), is_missing: false, is_race: false, is_gone: false }
}

fn lasting(what: impl Into<String>) -> Answer {
    Answer { trouble: Trouble::lasting(what), is_missing: false, is_race: false, is_gone: false }
}

/// An error in words.
pub(super) fn explain(doing: &Doing<'_>, error: &Error) -> Answer {
    if let Error::Api(status) = error {
        return refused(doing, status);
    }
    if let Error::SerdeError(error) = error {
        return lasting(format!("the cluster's {} cannot be read: {error}", doing.kind));
    }
    if let Error::Auth(error) = error {
        return lasting(format!("no way to log in to the cluster: {}", crate::chain(error)));
    }
    passing(format!("the cluster does not answer: {}", crate::chain(error)))
}

fn refused(doing: &Doing<'_>, status: &Status) -> Answer {
    let Doing { what, kind, namespace } = doing;
    let message = &status.message;
    match status.code {
        401 => lasting(format!(
            "the cluster does not know who we are: {message}; look at the user in the kubeconfig"
        )),
        403 => lasting(format!(
            "the cluster forbids it: {message}; give this user a role in {namespace} with {what} on {kind}"
        )),
        404 if status.reason == "NotFound" => {
            Answer { is_missing: true, ..lasting(format!("the cluster says: {message}")) }
        }
        // A kind that is not there is answered by nobody in particular, in plain text.
        404 if *kind == "httproutes" => lasting(
            "the cluster has no HTTPRoute of gateway.networking.k8s.io/v1; install the CRDs of the Gateway API",
        ),
        404 => {
            lasting(format!("the cluster has no {kind}: {message}; does the kubeconfig name an API server?"))
        }
        409 => conflict(doing, status),
        410 => Answer {
            is_gone: true,
            ..passing(format!("the cluster has forgotten what came since: {message}"))
        },
        429 => {
            let wait = status.details.as_ref().map_or(0, |details| details.retry_after_seconds).max(1);
            let mut answer = passing(format!("the cluster is too busy: {message}; asked again in {wait} s"));
            answer.trouble.again_after = Some(Duration::from_secs(wait.into()));
            answer
        }
        400..=499 => lasting(format!("the cluster refuses to {what} {kind}: {message}")),
        code => passing(format!("the cluster fails with {code}: {message}")),
    }
}

/// Either somebody else owns a field, or somebody was faster.
fn conflict(doing: &Doing<'_>, status: &Status) -> Answer {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let owned: Vec<String> = causes
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| format!("{} ({})", cause.field, cause.message))
        .collect();
    if owned.is_empty() {
        let what = format!("somebody else changed it meanwhile: {}", status.message);
        return Answer { is_race: true, ..passing(what) };
    }
    lasting(format!(
        "somebody else owns fields of {} that we write: {}; let them go there, or set take_over = true",
        doing.kind,
        owned.join(", ")
    ))
}
