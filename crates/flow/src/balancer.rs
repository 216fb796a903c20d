//! The balancer: publishes which pools a line may go to and how evenly they are loaded, and moves capacity.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gemba_core::affinity::{AFFINITY_LASTS, Affinity};
use gemba_core::control::{Control, ControlError};
use gemba_core::lending::{Lender, Lending, Moved};
use gemba_core::metric;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};
use gemba_core::routing::{PoolLoad, RouteError, balance, key_hash, route_home};
use gemba_kernel::{Context, Reply, Server, Stop};

use crate::floor::Floor;
use crate::pool::PoolCell;

/// Most pools that may serve one line: their loads are compared on the caller's stack.
pub(crate) const POOLS_PER_LINE_MAX: usize = 8;

/// How often the balancer looks at the pools.
const TICK: Duration = Duration::from_millis(100);

/// A cell: the table of routes. Published by the balancer, read by every caller.
#[derive(Debug)]
pub(crate) struct Routes(ArcSwap<Table>);

#[derive(Debug, Default)]
struct Table {
    lines: Vec<Vec<Arc<PoolCell>>>,
    /// Of each key that belongs to a pool, the hash of the pool's name.
    homes: Arc<BTreeMap<u64, u64>>,
    balance: f64,
}

impl Routes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(Table::default())))
    }

    /// Does something with the pool that gets a signal of line `line`, by its key and by the loads of this moment.
    pub(crate) fn choose<T>(
        &self,
        line: usize,
        key: Option<u64>,
        then: impl FnOnce(&PoolCell) -> T,
    ) -> Result<T, RouteError> {
        let table = self.0.load();
        let pools = table.lines.get(line).map_or(&[][..], Vec::as_slice);
        // Loads change with every signal and cost their reader a cache line; the only pool needs no comparison, and
        // says itself when it has no room.
        if let [pool] = pools {
            return Ok(then(pool));
        }
        let mut loads = [PoolLoad { hash: 0, workers: 0, in_hand: 0, queue_max: 0 }; POOLS_PER_LINE_MAX];
        let loads = &mut loads[..pools.len()];
        for (load, pool) in loads.iter_mut().zip(pools) {
            *load = pool.routing_load();
        }
        let home = key.and_then(|key| table.homes.get(&key).copied());
        route_home(key, home, loads).map(|index| then(&pools[index]))
    }

    pub(crate) fn balance(&self) -> f64 {
        self.0.load().balance
    }
}

/// What the balancer understands.
#[derive(Debug)]
pub(crate) enum BalancerMsg {
    Tick,
    /// Binds keys to a pool, clears a group, or moves capacity, because somebody asks.
    Control {
        control: Control,
        reply: Reply<Result<Seq, ControlError>>,
    },
}

/// The actor.
pub(crate) struct Balancer {
    floor: Arc<Floor>,
    lending: Lending,
    affinity: Affinity,
    homes: Arc<BTreeMap<u64, u64>>,
}

impl Balancer {
    pub(crate) fn new(floor: Arc<Floor>) -> Self {
        let lending = (*floor.lending.latest()).clone();
        let affinity = (*floor.affinity.latest()).clone();
        let homes = Arc::new(homes(&affinity));
        Self { floor, lending, affinity, homes }
    }

    /// Leaves out pools whose dispatcher is down while there is another one to go to.
    fn publish(&self, ctx: &Context<BalancerMsg>) {
        let lines = self.floor.serves.iter().map(|serves| {
            let pools: Vec<_> = serves.iter().map(|index| self.floor.pools[*index].clone()).collect();
            let alive: Vec<_> = pools.iter().filter(|pool| pool.address.pin().is_some()).cloned().collect();
            if alive.is_empty() { pools } else { alive }
        });
        let utilizations: Vec<_> = self.floor.pools.iter().map(|pool| pool.load.read().utilization).collect();
        let (lines, homes) = (lines.collect(), self.homes.clone());
        let table = Table { lines, homes, balance: balance(&utilizations) };
        ctx.system().instruments().gauge(&metric::BALANCE, &[]).set(table.balance);
        self.floor.routes.0.store(Arc::new(table));
    }
}

impl Balancer {
    fn lenders(&self) -> Vec<Lender> {
        let lender = |pool: &Arc<PoolCell>| {
            let (load, rules) = (pool.load.read(), pool.rules());
            let (workers_min, workers_max) = (rules.workers_min(), rules.workers_max());
            Lender { utilization: load.utilization, workers: load.workers, workers_min, workers_max }
        };
        self.floor.pools.iter().map(lender).collect()
    }

    /// Lets a pool with little to do lend a worker's worth of capacity to one at its maximum.
    fn level(&mut self, ctx: &Context<BalancerMsg>) {
        // Settings may have been changed.
        if self.lending.fit(&self.lenders()) {
            self.floor.lending.publish(self.lending.clone());
        }
        if let Some(moved) = self.lending.observe(&self.lenders(), ctx.now()) {
            self.tell(moved, None, ctx);
        }
    }

    fn tell(&self, Moved { from, to }: Moved, by: Option<Arc<str>>, ctx: &Context<BalancerMsg>) -> Seq {
        self.floor.lending.publish(self.lending.clone());
        let balance_milli = (self.floor.routes.balance() * 1e3).round() as u32;
        let [from, to] = [from, to].map(|index| self.floor.pools[index].name.clone());
        ctx.system().record(None, ctx.path(), Event::CapacityMoved { from, to, balance_milli, by })
    }

    /// Binds keys to a pool, clears a group, or moves capacity.
    fn control(&mut self, control: Control, ctx: &Context<BalancerMsg>) -> Result<Seq, ControlError> {
        let event = match control {
            Control::Rebalance { by } => {
                let moved = self.lending.order(&self.lenders(), ctx.now());
                return Ok(self.tell(moved.ok_or(ControlError::NothingToMove)?, Some(by), ctx));
            }
            Control::BindKeys { group, pool, keys, by, why } => {
                if !self.floor.pools.iter().any(|cell| cell.name == pool) {
                    return Err(ControlError::UnknownPool { pool, known: self.floor.pool_names().into() });
                }
                let keys = self.affinity.bind(group.clone(), pool.clone(), keys, ctx.now())?;
                Event::AffinityBound { group, pool, keys, by, why }
            }
            Control::ClearKeys { group, by } => match self.affinity.clear(&group) {
                Some(pool) => Event::AffinityEnded { group, pool, why: format!("cleared by {by}").into() },
                None => {
                    return Err(ControlError::UnknownGroup { group, known: self.affinity.names().into() });
                }
            },
            Control::PullCord { .. }
            | Control::ResetCord { .. }
            | Control::ForceBreaker { .. }
            | Control::AcceptBaseline { .. }
            | Control::Acknowledge { .. }
            | Control::Silence { .. } => return Err(ControlError::Unavailable),
        };
        self.bound(ctx);
        Ok(ctx.system().record(None, ctx.path(), event))
    }

    /// Ends the groups that are too old.
    fn age(&mut self, ctx: &Context<BalancerMsg>) {
        let over = self.affinity.expire(ctx.now());
        if over.is_empty() {
            return;
        }
        self.bound(ctx);
        for (group, pool) in over {
            let why = format!("it was bound {} s ago", AFFINITY_LASTS.as_secs()).into();
            ctx.system().record(None, ctx.path(), Event::AffinityEnded { group, pool, why });
        }
    }

    /// Publishes what belongs where.
    fn bound(&mut self, ctx: &Context<BalancerMsg>) {
        self.homes = Arc::new(homes(&self.affinity));
        self.floor.affinity.publish(self.affinity.clone());
        self.publish(ctx);
    }
}

fn homes(affinity: &Affinity) -> BTreeMap<u64, u64> {
    let hash = |pool: &Name| key_hash(pool.as_str().as_bytes());
    affinity.homes().into_iter().map(|(key, pool)| (key, hash(pool))).collect()
}

impl Server for Balancer {
    type Msg = BalancerMsg;

    async fn init(&mut self, ctx: &mut Context<BalancerMsg>) -> Result<(), Stop> {
        self.publish(ctx);
        ctx.every(TICK, || BalancerMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: BalancerMsg, ctx: &mut Context<BalancerMsg>) -> Result<(), Stop> {
        match msg {
            BalancerMsg::Control { control, reply } => reply.send(self.control(control, ctx)),
            BalancerMsg::Tick => {
                self.age(ctx);
                self.publish(ctx);
                self.level(ctx);
            }
        }
        Ok(())
    }
}
