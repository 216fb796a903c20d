//! What our supervisors answer, in the words of the trace.

use gemba_core::supervision::{ChildCounts, ChildStatus};
use gemba_core::view::ActorKind;
use gemba_kernel::{ChildError, ChildInfo, Started};

pub(super) fn started(result: Result<Option<Started>, ChildError>) -> String {
    match result {
        Ok(Some(_)) => "ok".to_owned(),
        Ok(None) => "ignored".to_owned(),
        Err(error) => word(&error),
    }
}

/// `forgets`: OTP terminates a dynamic child that is gone already with `ok`, ours no longer knows its name.
pub(super) fn done(result: Result<(), ChildError>, forgets: bool) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(ChildError::NotFound { .. }) if forgets => "ok".to_owned(),
        Err(error) => word(&error),
    }
}

pub(super) fn told<T>(result: Result<T, ChildError>, tell: impl FnOnce(&T) -> String) -> String {
    match result {
        Ok(value) => tell(&value),
        Err(error) => word(&error),
    }
}

fn word(error: &ChildError) -> String {
    match error {
        ChildError::NotRunning => "gone",
        ChildError::NotFound { .. } => "not_found",
        ChildError::AlreadyStarted { .. } => "already_started",
        ChildError::AlreadyPresent { .. } => "already_present",
        ChildError::Running { .. } => "running",
        ChildError::Restarting { .. } => "restarting",
        ChildError::Spec(_) => "refused",
        ChildError::Failed { .. } => "failed",
        ChildError::Timeout { .. } => "timeout",
        other => return other.to_string(),
    }
    .to_owned()
}

pub(super) fn which(children: &[ChildInfo], dynamic: bool) -> String {
    let mut all: Vec<_> = children
        .iter()
        .map(|child| {
            let kind = if child.kind == ActorKind::Supervisor { "supervisor" } else { "worker" };
            match child.status {
                ChildStatus::Running => format!("{}:run:{kind}", child.name),
                ChildStatus::Down => format!("{}:down:{kind}", child.name),
                ChildStatus::Restarting if dynamic => format!("?:restarting:{kind}"),
                ChildStatus::Restarting => format!("{}:restarting:{kind}", child.name),
                other => format!("{}:{other:?}:{kind}", child.name),
            }
        })
        .collect();
    if dynamic {
        all.sort();
    }
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// OTP counts the one template of a dynamic supervisor, ours its children.
pub(super) fn numbers(counts: ChildCounts, dynamic: bool) -> String {
    let ChildCounts { specs, active, supervisors, workers } = counts;
    let specs = if dynamic { 1 } else { specs };
    format!("{specs} {active} {supervisors} {workers}")
}

pub(super) fn count(counts: ChildCounts, dynamic: bool) -> String {
    format!("count {}", numbers(counts, dynamic))
}
