//! What the queue and people ask of a conductor: begin a delivery, take it back for a newer one, hold it, release it.

use gemba::light::Light;
use gemba::{Context, DatabaseError};
use tokio::time::Instant;

use super::{Conductor, Msg, Order, clock};
use crate::delivery::{Delivery, Step};
use crate::policy::{DeploymentRequest, way_back};

impl Conductor {
    /// Takes what the file says now. A version of which something runs stays what it was.
    pub(super) fn renew(&mut self) {
        if !self.parts.fleet.has_changed().unwrap_or(false) {
            return;
        }
        let fleet = self.parts.fleet.borrow_and_update().clone();
        let Some(mut service) = fleet.service(self.parts.service.name.as_str()).cloned() else { return };
        let delivered = self.record.delivery.iter();
        let delivered = delivered.flat_map(|delivery| delivery.from.iter().chain([&delivery.to]));
        let run = self.instances.running.keys().map(|seat| &seat.version);
        for version in self.record.stable.iter().chain(delivered).chain(run) {
            if let Some(artefact) = self.parts.service.versions.get(version) {
                service.versions.insert(version.clone(), artefact.clone());
            }
        }
        self.parts.service = service.clone();
        self.instances.renew(service);
    }

    pub(super) async fn begin(
        &mut self,
        request: DeploymentRequest,
        ctx: &mut Context<Msg>,
    ) -> Result<String, String> {
        let storage = |error: DatabaseError| crate::chain(&error);
        let id = request.id.clone();
        if let Some(delivery) = &self.record.delivery {
            let same = delivery.id == id;
            return if same {
                Ok(id)
            } else {
                Err(format!("delivery {} of this service goes on", delivery.id))
            };
        }
        if self.parts.store.find(&id).await.map_err(storage)?.is_some_and(|found| found.is_begun) {
            return Ok(id);
        }
        self.renew();
        if !self.parts.service.versions.contains_key(&request.version) {
            return Err(format!("the fleet has no version {}", request.version));
        }
        // By the record: what the queue saw may be older than an order to end everything.
        if let Some(why) = way_back(&request, self.record.stable.as_deref()) {
            return Err(why);
        }
        let rules = self.parts.service.care.rules().map_err(|errors| errors.join("; "))?;
        let versions = (self.record.stable.as_deref(), request.version.as_str());
        let unix_ms = ctx.system().unix_ms();
        // Those of the file as it is: while it waited the manager may have been started again with others.
        let regions = self.parts.service.regions.iter().map(|region| region.name.to_string());
        let delivery = Delivery::begin(&id, &request.service, versions, regions, rules, unix_ms);
        let from = delivery.from.as_deref().unwrap_or("nothing");
        let step = Step { light: Light::Green, what: format!("{} is to follow {from}", delivery.to) };
        self.record.delivery = Some(delivery.clone());
        self.saved_at = Some(Instant::now());
        let first = (delivery.clone(), unix_ms, step.what.clone());
        let begun = self.parts.store.begin(&request.service, &self.record, first).await.map_err(storage);
        if begun != Ok(true) {
            self.record.delivery = None;
            return begun.and(Err("it was taken out of the queue; ask for another one".to_owned()));
        }
        self.cause = None;
        let told = self.measures.step(&delivery, step.light, Instant::now());
        self.tell(&delivery, step, unix_ms, &told, ctx);
        Ok(id)
    }

    pub(super) async fn supersede(
        &mut self,
        id: &str,
        by: &str,
        ctx: &mut Context<Msg>,
    ) -> Result<(), DatabaseError> {
        let delivery = self.record.delivery.as_mut().filter(|delivery| delivery.id == id);
        let step = delivery.and_then(|delivery| delivery.fail(&format!("superseded by {by}")));
        let Some(step) = step else { return Ok(()) };
        self.take(step, ctx).await
    }

    /// Does what a person asks; in words why not, if it does not fit.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`] if it could not be written: what this actor holds is more than the record says then.
    pub(super) async fn carry(
        &mut self,
        order: Order,
        by: &str,
        ctx: &mut Context<Msg>,
    ) -> Result<Result<String, String>, DatabaseError> {
        let now = clock(ctx);
        if order == Order::Down {
            self.record.stable = None;
        }
        let Some(delivery) = &mut self.record.delivery else {
            return match order {
                Order::Down => self.save(None).await.map(|()| Ok("everything ends".to_owned())),
                Order::Pause | Order::Resume | Order::Promote | Order::Abort => {
                    Ok(Err("nothing is delivered now".to_owned()))
                }
            };
        };
        let carried = match order {
            Order::Pause => delivery.pause(now),
            Order::Resume => delivery.resume(now),
            Order::Promote => delivery.promote(now),
            Order::Abort => delivery.abort(),
            Order::Down => {
                // There is nothing to go back to; written down with the end of the delivery, or not at all.
                delivery.from = None;
                delivery.abort()
            }
        };
        let mut step = match carried {
            Ok(step) => step,
            Err(why) => return Ok(Err(why)),
        };
        step.what = format!("{} (by {by})", step.what);
        let what = step.what.clone();
        self.take(step, ctx).await?;
        Ok(Ok(what))
    }
}
