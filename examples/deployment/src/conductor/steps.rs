//! Steps of a delivery: written down first, and then known.

use std::time::Duration;

use gemba::light::Light;
use gemba::receipt::Event;
use gemba::time::Timestamp;
use gemba::{Context, DatabaseError};
use tokio::time::Instant;

use super::{Conductor, Msg};
use crate::delivery::{Delivery, Outcome, Step};
use crate::measures;
use crate::view::StepView;

impl Conductor {
    /// Says once in each stage that the delivery takes too long, unless it is yellow already.
    pub(super) fn slow(&self, now: Timestamp) -> Option<Step> {
        let limit = Duration::from_millis(self.parts.service.slow_after_ms);
        let is_green = self.last.as_ref().is_none_or(|last| last.light == Light::Green);
        self.record.delivery.as_ref().filter(|_| is_green)?.slow(limit, now)
    }

    /// Writes a step down, and then lets it be known. What it means is carried out by the rest of the tick.
    pub(super) async fn take(&mut self, step: Step, ctx: &mut Context<Msg>) -> Result<(), DatabaseError> {
        let Some(delivery) = self.record.delivery.clone() else { return Ok(()) };
        match &delivery.outcome {
            Outcome::Running => {}
            Outcome::Succeeded => {
                (self.record.stable, self.record.delivery) = (Some(delivery.to.clone()), None);
                self.ended.0 += 1;
            }
            Outcome::RolledBack { .. } => {
                (self.record.stable, self.record.delivery) = (delivery.from.clone(), None);
                self.ended.1 += 1;
            }
        }
        let unix_ms = ctx.system().unix_ms();
        let told = self.measures.step(&delivery, step.light, Instant::now());
        self.save(Some((delivery.clone(), unix_ms, step.what.clone()))).await?;
        self.tell(&delivery, step, unix_ms, &told, ctx);
        Ok(())
    }

    /// Lets a step be known that is written down.
    pub(super) fn tell(
        &mut self,
        delivery: &Delivery,
        step: Step,
        unix_ms: u64,
        measured: &[measures::Told],
        ctx: &mut Context<Msg>,
    ) {
        let Step { light, what } = step;
        let event = Event::RolloutMoved {
            service: self.parts.service.name.clone(),
            rollout: delivery.id.as_str().into(),
            light,
            why: what.as_str().into(),
        };
        self.cause = Some(ctx.system().record(self.cause, ctx.path(), event));
        measures::publish(ctx.system().instruments(), self.parts.service.name.as_str(), measured);
        self.last = Some(StepView { delivery: delivery.id.clone(), unix_ms, light, what });
    }

    pub(super) async fn save(&mut self, step: Option<(Delivery, u64, String)>) -> Result<(), DatabaseError> {
        self.saved_at = Some(Instant::now());
        self.parts.store.save(self.parts.service.name.as_str(), &self.record, step).await
    }
}
