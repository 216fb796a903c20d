//! The chaos: kills, stops, poisons and operates whatever runs, at moments drawn from the seed.

use std::fmt::Debug;
use std::time::Duration;

use gemba::admission::{Limits, Tier};
use gemba::control::Control;
use gemba::name::{ActorPath, Name};
use gemba::receipt::BreakerState;
use gemba::scaling::ScaleRules;
use gemba::view::ActorState;
use gemba::{ChildError, PoolHandle, RegulatorHandle, Settings, System};
use tokio::task::JoinSet;

use crate::draw::{Draw, Who};
use crate::lab::{Lab, Msg};
use crate::log::Log;
use crate::works::{HARD_MAX, LINES};

/// What the chaos reaches.
pub(crate) struct Reach {
    pub system: System,
    pub lab: Lab,
    pub regulator: RegulatorHandle,
    pub pools: Vec<PoolHandle>,
}

pub(crate) struct Chaos {
    reach: Reach,
    log: Log,
    draw: Draw,
    /// Between two deeds, on average.
    pause: Duration,
    under_way: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
enum Deed {
    Kill,
    KillWorker,
    KillSupervisor,
    Tell,
    Stop,
    Children,
    Crowd,
    Cord,
    Breaker,
    Resize,
    Settings,
    Limits,
    Permit,
    Suspend,
}

/// How often each of them is done.
const DEEDS: [(u64, Deed); 14] = [
    (12, Deed::Kill),
    (16, Deed::KillWorker),
    (6, Deed::KillSupervisor),
    (24, Deed::Tell),
    (6, Deed::Stop),
    (10, Deed::Children),
    (8, Deed::Crowd),
    (4, Deed::Cord),
    (3, Deed::Breaker),
    (4, Deed::Resize),
    (2, Deed::Settings),
    (2, Deed::Limits),
    (4, Deed::Permit),
    (3, Deed::Suspend),
];

impl Chaos {
    pub(crate) fn new(seed: u64, reach: Reach, log: Log) -> Self {
        let mut draw = Draw::new(seed, Who::Chaos);
        let pause = draw.millis(30, 300);
        Self { reach, log, draw, pause, under_way: JoinSet::new() }
    }

    /// Does one deed after the other until the run is over, and then puts right what would stay wrong.
    pub(crate) async fn rage(mut self, until: Duration) {
        let mut n = 0;
        while self.log.now() < until {
            tokio::time::sleep(self.draw.pause(self.pause)).await;
            n += 1;
            let deed = self.draw.weighted(&DEEDS);
            self.act(n, deed).await;
        }
        while let Some(ended) = self.under_way.join_next().await {
            ended.expect("no deed panics");
        }
        for line in LINES {
            let (line, by) = (name(line), "chaos".into());
            let reset = self.reach.system.control(Control::ResetCord { line: line.clone(), by }).await;
            let (by, why) = ("chaos".into(), "it is over".into());
            let closed = Control::ForceBreaker { breaker: line, to: BreakerState::Closed, by, why };
            let closed = self.reach.system.control(closed).await;
            self.log.write(format_args!("put right: {reset:?}, {closed:?}"));
        }
    }

    async fn act(&mut self, n: u64, deed: Deed) {
        match deed {
            Deed::Kill => self.kill(|path, _| !path.is_root()),
            Deed::KillWorker => self.kill(|path, _| path.as_str().contains("/workers/")),
            Deed::KillSupervisor => self.kill(|path, is_supervisor| is_supervisor && !path.is_root()),
            Deed::Tell => self.tell(),
            Deed::Stop => self.stop(),
            Deed::Children => self.children(n),
            Deed::Crowd => self.crowd(n),
            Deed::Cord => self.cord(),
            Deed::Breaker => self.breaker(),
            Deed::Resize => self.resize(),
            Deed::Settings => self.settings().await,
            Deed::Limits => self.limits(),
            Deed::Permit => self.permit(),
            Deed::Suspend => self.suspend(),
        }
    }

    /// Does something beside the rest, and writes down what came of it.
    fn beside<T: Debug>(&mut self, what: String, deed: impl Future<Output = T> + Send + 'static) {
        let log = self.log.clone();
        log.write(format_args!("chaos: {what}"));
        self.under_way.spawn(async move {
            let result = deed.await;
            log.write(format_args!("chaos: {what}: {result:?}"));
        });
    }

    fn kill(&mut self, wanted: impl Fn(&ActorPath, bool) -> bool) {
        let tree = self.reach.system.tree();
        let all: Vec<_> = tree
            .root
            .iter()
            .filter(|actor| {
                actor.state == ActorState::Running && wanted(&actor.path, actor.strategy.is_some())
            })
            .map(|actor| &actor.path)
            .collect();
        if let Some(path) = (!all.is_empty()).then(|| all[self.draw.below(all.len())]) {
            let killed = self.reach.system.kill(path, "chaos");
            self.log.write(format_args!("chaos: kill {path}: {killed:?}"));
        }
    }

    fn tell(&mut self) {
        let at = self.draw.below(self.reach.lab.addresses.len());
        let (address, takes) = (self.reach.lab.addresses[at].clone(), self.draw.millis(0, 60));
        let what = match self.draw.between(1, 8) {
            1 => Msg::Poison,
            2 => Msg::Fail,
            3 => Msg::End,
            4 => Msg::Work(self.draw.millis(300, 1_500)),
            5 | 6 => Msg::Work(takes),
            _ => {
                let within = self.draw.millis(1, 100);
                let call = async move { address.call_within(within, |reply| Msg::Ask(takes, reply)).await };
                return self.beside(format!("ask {at}"), call);
            }
        };
        let told = address.cast(what).map_err(|error| error.to_string());
        self.log.write(format_args!("chaos: tell {at}: {told:?}"));
    }

    fn stop(&mut self) {
        let at = self.draw.below(self.reach.lab.addresses.len());
        let (address, within, kills) =
            (self.reach.lab.addresses[at].clone(), self.draw.millis(1, 200), self.draw.percent(50));
        self.beside(format!("stop {at}"), async move {
            if kills { address.stop_or_kill(within).await } else { address.stop(within).await }
        });
    }

    fn children(&mut self, n: u64) {
        let tree = self.reach.lab.trees[self.draw.below(self.reach.lab.trees.len())].clone();
        let name = self.draw.one_of(&["a", "b", "c", "d"]);
        match self.draw.between(1, 5) {
            1 => {
                let newcomer = self.reach.lab.newcomer(&format!("new-{n}")).temporary();
                self.beside(format!("start new-{n}"), async move { tree.start_child(newcomer).await });
            }
            2 => self.beside("list".to_owned(), async move { tree.which_children().await }),
            3 => self.beside("count".to_owned(), async move { tree.count_children().await }),
            _ => self.beside(format!("terminate and restart {name}"), async move {
                let ended = tree.terminate_child(name).await;
                let mut restarted = tree.restart_child(name).await;
                // As a start may fail, and the tree shall be whole in the end.
                while restarted.as_ref().is_err_and(|error| matches!(error, ChildError::Failed { .. })) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    restarted = tree.restart_child(name).await;
                }
                (ended, restarted)
            }),
        }
    }

    fn crowd(&mut self, n: u64) {
        let crowd = self.reach.lab.crowd.clone();
        let newcomer = self.reach.lab.newcomer(&format!("guest-{n}"));
        match self.draw.between(1, 4) {
            1 => crowd.start_child_soon(newcomer.transient()),
            2 => {
                let takes = self.draw.millis(0, 300);
                let dies = self.draw.percent(30);
                self.beside(format!("run {n}"), async move {
                    let work = async move {
                        tokio::time::sleep(takes).await;
                        assert!(!dies, "the work went wrong");
                        n
                    };
                    let handle = crowd.run(work).await.map_err(|error| error.to_string())?;
                    handle.await.map_err(|error| error.to_string())
                });
            }
            _ => {
                let lasts = self.draw.millis(1, 3_000);
                self.beside(format!("guest-{n}"), async move {
                    let started = crowd.start_child(newcomer.temporary()).await;
                    tokio::time::sleep(lasts).await;
                    (started, crowd.terminate_child(&format!("guest-{n}")).await)
                });
            }
        }
    }

    fn cord(&mut self) {
        let (line, lasts) = (name(self.draw.one_of(&LINES)), self.draw.millis(10, 400));
        let system = self.reach.system.clone();
        let (by, why) = (|| "chaos".into(), "to see".into());
        let pull = Control::PullCord { line: line.clone(), by: by(), why };
        self.beside(format!("cord of {line}"), async move {
            let pulled = system.control(pull).await;
            tokio::time::sleep(lasts).await;
            (pulled, system.control(Control::ResetCord { line, by: by() }).await)
        });
    }

    fn breaker(&mut self) {
        let to = self.draw.one_of(&[BreakerState::Open, BreakerState::HalfOpen, BreakerState::Closed]);
        let (breaker, system) = (name(self.draw.one_of(&LINES)), self.reach.system.clone());
        let (what, why) = (format!("breaker of {breaker}"), "to see".into());
        let force = Control::ForceBreaker { breaker, to, by: "chaos".into(), why };
        self.beside(what, async move { system.control(force).await });
    }

    fn resize(&mut self) {
        let pool = self.reach.pools[self.draw.below(self.reach.pools.len())].clone();
        let workers = self.draw.between(0, 15) as u32;
        self.beside(format!("resize to {workers}"), async move { pool.resize(workers).await });
    }

    async fn settings(&mut self) {
        let least = self.draw.between(0, 5) as u32;
        let rules = ScaleRules::builder().workers(least, least + self.draw.between(0, 6) as u32);
        let settings = Settings::new().pool(self.draw.one_of(&LINES), rules);
        let applied = self.reach.regulator.apply(settings, "chaos").await.map_err(|error| error.to_string());
        self.log.write(format_args!("chaos: settings: {applied:?}"));
    }

    fn limits(&mut self) {
        let (regulator, hard) =
            (self.reach.regulator.clone(), self.draw.between(10, u64::from(HARD_MAX)) as u32);
        self.beside(format!("limit {hard}"), async move {
            let limits = Limits::new(hard, 0.2, 0.83).expect("it is in range");
            regulator.set_limits(limits, "chaos").await
        });
    }

    fn permit(&mut self) {
        let (regulator, lasts) = (self.reach.regulator.clone(), self.draw.millis(1, 2_000));
        let tier = self.draw.one_of(&Tier::ALL);
        self.beside("hold a permit".to_owned(), async move {
            let permit = regulator.admit(tier).map_err(|refusal| refusal.to_string());
            tokio::time::sleep(lasts).await;
            permit.map(drop)
        });
    }

    fn suspend(&mut self) {
        let path = self.reach.lab.paths[self.draw.below(self.reach.lab.paths.len())].clone();
        let (system, lasts) = (self.reach.system.clone(), self.draw.millis(1, 300));
        self.beside(format!("suspend {path}"), async move {
            let sys = system.sys(&path).map_err(|error| error.to_string())?;
            let suspended = sys.suspend().await.map_err(|error| error.to_string());
            tokio::time::sleep(lasts).await;
            sys.resume().map_err(|error| error.to_string())?;
            suspended
        });
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a valid literal")
}
