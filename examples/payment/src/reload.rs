//! Takes the configuration anew on SIGHUP, or when an operator asks for it: all of it, or none.

use std::sync::Arc;

use gemba::receipt::{Event, Seq, SettingChange};
use gemba::reload::{self, ReloadError};
use gemba::{ChildSpec, RegulatorHandle, TaskContext};

use crate::config::{ConfigOptions, PaymentConfig};
use crate::facts::{FactBook, Rules};

/// Reads the configuration again when it is told to. `started` is what the service was started with.
pub fn child(
    options: ConfigOptions,
    started: PaymentConfig,
    regulator: RegulatorHandle,
    facts: Arc<FactBook>,
) -> ChildSpec {
    let parts = Arc::new(Parts { options, started, regulator, facts });
    reload::reload(move |ctx, why| {
        let parts = parts.clone();
        async move { parts.reload(&ctx, why).await }
    })
}

/// What a reload needs.
#[derive(Debug)]
struct Parts {
    options: ConfigOptions,
    started: PaymentConfig,
    regulator: RegulatorHandle,
    facts: Arc<FactBook>,
}

impl Parts {
    /// Reads, checks, and applies; returns the receipts of what changed. That of the plant's settings is the cause of
    /// that of the service's own.
    async fn reload(&self, ctx: &TaskContext, why: Arc<str>) -> Result<Vec<Seq>, ReloadError> {
        let config = self.options.load();
        let config =
            config.map_err(|errors| ReloadError::Faults(errors.lines().map(Arc::from).collect()))?.value;
        let fixed = self.started.needs_restart(&config);
        if !fixed.is_empty() {
            return Err(ReloadError::NeedsRestart(fixed.into_iter().map(Arc::from).collect()));
        }
        // What can fail comes first.
        let applied = self.regulator.apply(config.plant.settings(), why.clone()).await;
        let receipt = applied.map_err(|error| ReloadError::Faults(vec![error.to_string().into()]))?;
        let (old, new) = (self.facts.rules(), config.rules());
        let changes = changes(&old, &new);
        self.facts.set_rules(new);
        if changes.is_empty() {
            return Ok(vec![receipt]);
        }
        let own = ctx.system().record(Some(receipt), ctx.path(), Event::SettingsChanged { changes, why });
        Ok(vec![receipt, own])
    }
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
