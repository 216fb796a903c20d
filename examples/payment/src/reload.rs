//! Takes the configuration anew on SIGHUP: all of it, or none.

use std::sync::Arc;

use gemba::config::ConfigErrors;
use gemba::receipt::{Event, Seq, SettingChange};
use gemba::{ApplyError, ChildSpec, RegulatorHandle, Stop, TaskContext, task};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{ConfigOptions, PaymentConfig};
use crate::facts::{FactBook, Rules};

/// Why in receipts.
const WHY: &str = "the configuration was read again";

/// Why the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("can be set at the start only: {}; restart the service to change it", .0.join(", "))]
    NeedsRestart(Vec<String>),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl ReloadError {
    /// Each fault on a line of its own.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Config(errors) => errors.lines().collect(),
            Self::NeedsRestart(_) | Self::Apply(_) => vec![self.to_string()],
        }
    }
}

/// Listens for SIGHUP. `started` is the configuration that the service was started with.
pub fn child(
    options: ConfigOptions,
    started: PaymentConfig,
    regulator: RegulatorHandle,
    facts: Arc<FactBook>,
) -> ChildSpec {
    let (options, started) = (Arc::new(options), Arc::new(started));
    let body = move |ctx: TaskContext| {
        let (options, started) = (options.clone(), started.clone());
        let (regulator, facts) = (regulator.clone(), facts.clone());
        async move {
            let mut hangups = signal(SignalKind::hangup())?;
            let stopped = ctx.stopped();
            let reloads = async {
                while hangups.recv().await.is_some() {
                    match reload(&options, &started, &regulator, &facts, &ctx).await {
                        Ok(receipt) => tracing::info!(%receipt, "configuration reloaded"),
                        Err(error) => {
                            for fault in error.lines() {
                                tracing::error!(%fault, "configuration not reloaded, the old one stays in force");
                            }
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = stopped => {}
                () = reloads => {}
            }
            Ok::<(), Stop>(())
        }
    };
    task("reload", body).into()
}

/// Reads, checks, and applies; returns the receipt of what changed. The receipt of the plant's settings is the
/// cause of that of the service's own.
async fn reload(
    options: &ConfigOptions,
    started: &PaymentConfig,
    regulator: &RegulatorHandle,
    facts: &FactBook,
    ctx: &TaskContext,
) -> Result<Seq, ReloadError> {
    let config = options.load()?.value;
    let fixed = started.needs_restart(&config);
    if !fixed.is_empty() {
        return Err(ReloadError::NeedsRestart(fixed));
    }
    // What can fail comes first.
    let receipt = regulator.apply(config.plant.settings(), WHY).await?;
    let (old, new) = (facts.rules(), config.rules());
    let changes = changes(&old, &new);
    facts.set_rules(new);
    if changes.is_empty() {
        return Ok(receipt);
    }
    let event = Event::SettingsChanged { changes, why: WHY.into() };
    Ok(ctx.system().record(Some(receipt), ctx.path(), event))
}

/// What differs, old and new. Names of customers are nobody's business.
fn changes(old: &Rules, new: &Rules) -> Vec<SettingChange> {
    let change = |setting: String, from: String, to: String| SettingChange {
        setting: setting.into(),
        from: from.into(),
        to: to.into(),
    };
    let mut changes = Vec::new();
    let figures = |rules: &Rules| serde_json::to_value(rules.limits).unwrap_or_default();
    let (before, after) = (figures(old), figures(new));
    for (key, to) in after.as_object().into_iter().flatten() {
        if before[key] != *to {
            changes.push(change(format!("fraud.{key}"), before[key].to_string(), to.to_string()));
        }
    }
    let lists = [
        ("customers.blacklist", &old.lists.blacklisted, &new.lists.blacklisted),
        ("customers.trusted", &old.lists.trusted, &new.lists.trusted),
    ];
    for (key, from, to) in lists {
        if from != to {
            let added = to.difference(from).count();
            let shown = format!("{} customers, {added} of them new", to.len());
            changes.push(change(key.to_owned(), format!("{} customers", from.len()), shown));
        }
    }
    changes
}
