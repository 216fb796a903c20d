//! The balancer: publishes which pools a line may go to and how evenly they are loaded, and moves capacity.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gemba_core::control::ControlError;
use gemba_core::lending::{Lender, Lending, Moved};
use gemba_core::metric;
use gemba_core::receipt::{Event, Seq};
use gemba_core::routing::{PoolLoad, RouteError, balance, route};
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
        route(key, loads).map(|index| then(&pools[index]))
    }

    pub(crate) fn balance(&self) -> f64 {
        self.0.load().balance
    }
}

/// What the balancer understands.
#[derive(Debug)]
pub(crate) enum BalancerMsg {
    Tick,
    /// Moves capacity because somebody asks.
    Rebalance {
        by: Arc<str>,
        reply: Reply<Result<Seq, ControlError>>,
    },
}

/// The actor.
pub(crate) struct Balancer {
    floor: Arc<Floor>,
    lending: Lending,
}

impl Balancer {
    pub(crate) fn new(floor: Arc<Floor>) -> Self {
        let lending = (*floor.lending.latest()).clone();
        Self { floor, lending }
    }

    /// Leaves out pools whose dispatcher is down while there is another one to go to.
    fn publish(&self, ctx: &Context<BalancerMsg>) {
        let lines = self.floor.serves.iter().map(|serves| {
            let pools: Vec<_> = serves.iter().map(|index| self.floor.pools[*index].clone()).collect();
            let alive: Vec<_> = pools.iter().filter(|pool| pool.address.pin().is_some()).cloned().collect();
            if alive.is_empty() { pools } else { alive }
        });
        let utilizations: Vec<_> = self.floor.pools.iter().map(|pool| pool.load.read().utilization).collect();
        let table = Table { lines: lines.collect(), balance: balance(&utilizations) };
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
        if let Some(moved) = self.lending.observe(&self.lenders(), ctx.now()) {
            self.tell(moved, None, ctx);
        }
    }

    fn rebalance(&mut self, by: Arc<str>, ctx: &Context<BalancerMsg>) -> Result<Seq, ControlError> {
        let moved = self.lending.order(&self.lenders(), ctx.now()).ok_or(ControlError::NothingToMove)?;
        Ok(self.tell(moved, Some(by), ctx))
    }

    fn tell(&self, Moved { from, to }: Moved, by: Option<Arc<str>>, ctx: &Context<BalancerMsg>) -> Seq {
        self.floor.lending.publish(self.lending.clone());
        let balance_milli = (self.floor.routes.balance() * 1e3).round() as u32;
        let [from, to] = [from, to].map(|index| self.floor.pools[index].name.clone());
        ctx.system().record(None, ctx.path(), Event::CapacityMoved { from, to, balance_milli, by })
    }
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
            BalancerMsg::Tick => {
                self.publish(ctx);
                self.level(ctx);
            }
            BalancerMsg::Rebalance { by, reply } => reply.send(self.rebalance(by, ctx)),
        }
        Ok(())
    }
}
