//! The andon board: folds the receipts into lights, publishes them, and takes hold of the cord.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::alert::SILENCE_MAX;
use gemba_core::board::{Board, LightChange, Station};
use gemba_core::control::{Control, ControlError};
use gemba_core::light::Light;
use gemba_core::name::Name;
use gemba_core::receipt::{Event, Seq};
use gemba_core::verdict::judge;
use gemba_core::view::{BoardView, LineView};
use gemba_kernel::{Address, Context, Reply, Server, Stop};

use crate::balancer::BalancerMsg;
use crate::floor::{Andon, Floor};
use crate::kaizen::KaizenMsg;
use crate::line::LineCell;
use crate::regulator::RegulatorMsg;

/// How often the board reads the journal: well within the 100 ms in which an alert is to be out.
const TICK: Duration = Duration::from_millis(50);

/// How many receipts it folds at one go.
const PAGE: usize = 1024;

/// How many stations an error names.
const KNOWN_MAX: usize = 20;

/// What the board understands.
#[derive(Debug)]
pub(crate) enum BoardMsg {
    Control { control: Control, reply: Reply<Result<Seq, ControlError>> },
    Tick,
}

/// The actor. A new life stands where the old one stood, and folds what has happened since: a light may be older than
/// what the journal remembers.
pub(crate) struct AndonBoard {
    floor: Arc<Floor>,
    regulator: Address<RegulatorMsg>,
    kaizen: Address<KaizenMsg>,
    balancer: Address<BalancerMsg>,
    board: Board,
    read: Seq,
}

impl AndonBoard {
    pub(crate) fn new(
        floor: Arc<Floor>,
        regulator: Address<RegulatorMsg>,
        kaizen: Address<KaizenMsg>,
        balancer: Address<BalancerMsg>,
    ) -> Self {
        let Andon { board, read } = (*floor.andon.latest()).clone();
        Self { floor, regulator, kaizen, balancer, board, read }
    }

    fn fold(&mut self, ctx: &Context<BoardMsg>) {
        loop {
            let page = ctx.system().journal().after(self.read, None, PAGE);
            if page.receipts.is_empty() {
                return;
            }
            for receipt in &page.receipts {
                // What time has cleared by then, then what the receipt says.
                let mut changes = self.board.tick(receipt.at, receipt.unix_ms);
                changes.extend(self.board.apply(receipt));
                tell(changes, ctx);
            }
            self.read = page.next;
            self.keep();
        }
    }

    /// What was told is told once, also by the next life.
    fn keep(&self) {
        self.floor.andon.publish(Andon { board: self.board.clone(), read: self.read });
    }

    /// Lets lights go out whose time is over.
    fn clear(&mut self, ctx: &Context<BoardMsg>) {
        let changes = self.board.tick(ctx.now(), ctx.system().unix_ms());
        if !changes.is_empty() {
            tell(changes, ctx);
            self.keep();
        }
    }

    /// Hands a request to whom it concerns, who answers it; one that is down takes this board with it, and the
    /// operator is told to try again.
    fn control(&self, control: Control, reply: Reply<Result<Seq, ControlError>>, ctx: &Context<BoardMsg>) {
        match control {
            // The regulator owns the gates and reaches the breakers: it checks and carries out.
            Control::PullCord { .. } | Control::ResetCord { .. } | Control::ForceBreaker { .. } => {
                let _ = self.regulator.cast(RegulatorMsg::Control { control, reply });
            }
            Control::AcceptBaseline { line, by } => {
                let _ = self.kaizen.cast(KaizenMsg::Accept { line, by, reply });
            }
            Control::BindKeys { .. } | Control::ClearKeys { .. } | Control::Rebalance { .. } => {
                let _ = self.balancer.cast(BalancerMsg::Control { control, reply });
            }
            Control::Acknowledge { station, by } => reply.send(self.acknowledge(station, by, ctx)),
            Control::Silence { stations, for_ms, by, why } => {
                let is_short = Duration::from_millis(for_ms) <= SILENCE_MAX;
                let event = Event::AlertsSilenced { stations, for_ms, by, why };
                let recorded = || ctx.system().record(None, ctx.path(), event);
                reply.send(is_short.then(recorded).ok_or(ControlError::TooLong { for_ms }));
            }
        }
    }

    fn acknowledge(&self, station: Name, by: Arc<str>, ctx: &Context<BoardMsg>) -> Result<Seq, ControlError> {
        let stations = self.board.stations();
        match stations.iter().find(|shown| shown.name == station) {
            None => {
                let known = stations.iter().take(KNOWN_MAX).map(|shown| shown.name.as_str());
                let known = known.collect::<Vec<_>>().join(", ").into();
                Err(ControlError::UnknownStation { station, known })
            }
            Some(shown) if shown.light == Light::Green => Err(ControlError::Green { station }),
            // The receipt of the light is the cause: the chain from the alert goes on there.
            Some(shown) => {
                let event = Event::AlertAcknowledged { station, by };
                Ok(ctx.system().record(shown.receipt, ctx.path(), event))
            }
        }
    }

    fn tick(&mut self, ctx: &Context<BoardMsg>) {
        self.fold(ctx);
        self.clear(ctx);
        ctx.system().board_publisher().publish(self.view(ctx));
    }

    fn view(&self, ctx: &Context<BoardMsg>) -> BoardView {
        let measured = self.floor.line_views.latest();
        let line_view = |line: &Arc<LineCell>| {
            let rates = measured.iter().find(|view| view.name == line.name);
            // Counts of this moment, rates of the last second.
            let counted = line.view();
            let Some(rates) = rates else { return counted };
            LineView {
                throughput_per_s: rates.throughput_per_s,
                p50_ms: rates.p50_ms,
                p99_ms: rates.p99_ms,
                intake: rates.intake.clone(),
                success_ratio: rates.success_ratio,
                ..counted
            }
        };
        let lines: Vec<_> = self.floor.lines.iter().map(line_view).collect();
        let pools: Vec<_> = self.floor.pools.iter().map(|pool| pool.view()).collect();
        let balance_ratio = self.floor.routes.balance();
        BoardView {
            overall: self.board.overall(),
            taken_unix_ms: ctx.system().unix_ms(),
            stations: self.board.stations(),
            verdict: Some(judge(&lines, &pools, balance_ratio)),
            lines,
            pools,
            breakers: self.floor.lines.iter().map(|line| line.guard.view()).collect(),
            arrivals: *self.floor.arrivals.latest(),
            cost: *self.floor.cost.latest(),
            admission: self.floor.ceiling.limits().view(self.floor.ceiling.in_flight()),
            balance_ratio,
            affinity: self.floor.affinity.latest().view(ctx.now()),
            health: (*self.floor.health_view.latest()).clone(),
            studies: (*self.floor.studies.latest()).clone(),
            bottlenecks: (*self.floor.bottlenecks.latest()).clone(),
            receipt: self.read,
        }
    }
}

fn tell(changes: Vec<LightChange>, ctx: &Context<BoardMsg>) {
    for LightChange { station, from, to, why, cause } in changes {
        ctx.system().record(Some(cause), ctx.path(), Event::LightChanged { station, from, to, why });
    }
}

impl Server for AndonBoard {
    type Msg = BoardMsg;

    async fn init(&mut self, ctx: &mut Context<BoardMsg>) -> Result<(), Stop> {
        let unix_ms = ctx.system().unix_ms();
        self.board.add(Station::Node, unix_ms);
        for line in &self.floor.lines {
            self.board.add(Station::Line(&line.name), unix_ms);
            self.board.add(Station::Breaker(&line.guard.view().name), unix_ms);
        }
        for pool in &self.floor.pools {
            self.board.add(Station::Pool(&pool.name), unix_ms);
        }
        self.fold(ctx);
        self.clear(ctx);
        ctx.system().board_publisher().publish(self.view(ctx));
        ctx.every(TICK, || BoardMsg::Tick);
        Ok(())
    }

    async fn handle(&mut self, msg: BoardMsg, ctx: &mut Context<BoardMsg>) -> Result<(), Stop> {
        match msg {
            BoardMsg::Control { control, reply } => self.control(control, reply, ctx),
            BoardMsg::Tick => self.tick(ctx),
        }
        Ok(())
    }
}
