//! Settings that were checked are set: nothing between two of them can fail.

use std::fmt::Debug;
use std::sync::Arc;

use gemba_core::metric;
use gemba_core::receipt::{Event, Seq, SettingChange};
use gemba_kernel::Context;

use super::{Regulator, RegulatorMsg};
use crate::health::HealthMsg;
use crate::line::{LineCell, LineRules};
use crate::settings::{Checked, Settings, SettingsErrors};

/// What changes, old and new.
#[derive(Default)]
struct Changes(Vec<SettingChange>);

impl Changes {
    /// Takes note of a setting. A whole configuration that is applied again changes little of it.
    fn note(&mut self, setting: &str, from: &dyn Debug, to: &dyn Debug) {
        let (from, to) = (format!("{from:?}"), format!("{to:?}"));
        if from != to {
            self.0.push(SettingChange { setting: setting.into(), from: from.into(), to: to.into() });
        }
    }
}

impl Regulator {
    /// Checks all settings, then sets all of them; what is wrong is told in a receipt, too.
    pub(super) fn apply(
        &mut self,
        settings: &Settings,
        why: Arc<str>,
        ctx: &Context<RegulatorMsg>,
    ) -> Result<Seq, SettingsErrors> {
        let checked = settings.check(&self.floor).inspect_err(|errors| {
            let faults = errors.0.iter().map(ToString::to_string);
            ctx.system().record(None, ctx.path(), Event::settings_refused(faults, why.clone()));
        })?;
        let mut changes = Changes::default();
        if let Some(limits) = checked.limits {
            changes.note("limits", &self.floor.ceiling.limits(), &limits);
            self.floor.ceiling.set_limits(limits);
        }
        self.set_pools(&checked, &mut changes, ctx);
        self.set_lines(&checked, &mut changes, ctx);
        self.set_levelling(&checked, &mut changes);
        self.set_measuring(&checked, &mut changes);
        if let Some(rules) = checked.health {
            changes.note("health", &*self.floor.checking.latest(), &rules);
            self.floor.checking.publish(rules);
            // One that is down takes them when it starts.
            let _ = self.monitor.cast(HealthMsg::Follow);
        }
        if let Some(jidoka) = checked.jidoka {
            changes.note("jidoka", &*self.floor.jidoka.latest(), &jidoka);
            self.stances.iter_mut().for_each(|line| line.set_rules(jidoka));
            self.floor.jidoka.publish(jidoka);
        }
        self.publish(ctx);
        Ok(ctx.system().record(None, ctx.path(), Event::SettingsChanged { changes: changes.0, why }))
    }

    fn set_pools(&self, checked: &Checked, changes: &mut Changes, ctx: &Context<RegulatorMsg>) {
        for (index, rules) in &checked.pools {
            let pool = &self.floor.pools[*index];
            changes.note(&format!("pool {}", pool.name), &pool.rules(), rules);
            pool.rules.publish(*rules);
        }
        for (index, waiting) in &checked.waiting {
            let pool = &self.floor.pools[*index];
            changes.note(&format!("waiting for pool {}", pool.name), &*pool.waiting.latest(), waiting);
            pool.exchange.set_waiting(*waiting, ctx.now());
            pool.waiting.publish(*waiting);
        }
    }

    fn set_lines(&self, checked: &Checked, changes: &mut Changes, ctx: &Context<RegulatorMsg>) {
        for (index, rates) in &checked.rates {
            let line = &self.floor.lines[*index];
            changes.note(&format!("rates of line {}", line.name), &line.rate.rates(), rates);
            line.rate.set(*rates);
            if rates.key.is_none() {
                // Without a rate for each key nobody tells of keys any more.
                ctx.system().instruments().gauge(&metric::RATE_KEYS, &[line.name.as_str()]).set(0.0);
            }
        }
        for (index, rules) in &checked.lines {
            let line = &self.floor.lines[*index];
            if line.rules() != *rules {
                note_line(line, rules, changes);
                line.set_rules(rules);
                if rules.adaptive.is_none() {
                    // Without a limit nobody tells of it any more.
                    for of in ["limit", "in_flight"] {
                        let gauge = [line.name.as_str(), of];
                        ctx.system().instruments().gauge(&metric::DOWNSTREAM, &gauge).set(0.0);
                    }
                }
            }
        }
        if !checked.lines.is_empty() {
            self.floor.set_patience();
        }
    }

    fn set_levelling(&self, checked: &Checked, changes: &mut Changes) {
        let mut levelling = *self.floor.levelling.latest();
        if let Some(burst) = checked.burst {
            changes.note("burst", &levelling.burst, &burst);
            levelling.burst = burst;
        }
        if let Some(forecast) = checked.forecast {
            changes.note("forecast", &levelling.forecast, &forecast);
            levelling.forecast = forecast;
        }
        if let Some(prices) = checked.prices {
            changes.note("prices", &levelling.prices, &prices);
            levelling.prices = prices;
        }
        self.floor.levelling.publish(levelling);
    }

    /// What kaizen goes by, as a whole, from its next look on.
    fn set_measuring(&self, checked: &Checked, changes: &mut Changes) {
        let mut measuring = (*self.floor.measuring.latest()).clone();
        if let Some(ladder) = checked.ladder {
            changes.note("ladder", &measuring.ladder, &ladder);
            measuring.ladder = ladder;
        }
        if let Some(levels) = &checked.levels {
            changes.note("levels", &measuring.levels, levels);
            measuring.levels = levels.clone();
        }
        if let Some(regressions) = checked.regressions {
            changes.note("regressions", &measuring.baseline, &regressions);
            measuring.baseline = regressions;
        }
        if let Some(burn) = checked.burn_rates {
            changes.note("burn rates", &measuring.burn, &burn);
            measuring.burn = burn;
        }
        if let Some(pools) = checked.pool_health {
            changes.note("health of pools", &measuring.pools, &pools);
            measuring.pools = pools;
        }
        self.floor.measuring.publish(measuring);
    }
}

fn note_line(line: &LineCell, to: &LineRules, changes: &mut Changes) {
    let (name, from) = (&line.name, line.rules());
    changes.note(&format!("breaker of line {name}"), &from.breaker, &to.breaker);
    changes.note(&format!("calls of line {name}"), &from.adaptive, &to.adaptive);
    changes.note(&format!("deadline of line {name}"), &from.deadline, &to.deadline);
    changes.note(&format!("what follows on line {name}"), &from.follow_up_within, &to.follow_up_within);
    changes.note(&format!("objective of line {name}"), &from.objective, &to.objective);
    changes.note(&format!("receipts of line {name}"), &from.receipts, &to.receipts);
    changes.note(&format!("objectives of line {name}"), &from.objectives, &to.objectives);
}
