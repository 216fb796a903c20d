//! The children of a scenario as ours: servers, and tasks where a child chooses how it obeys.

use std::sync::Arc;
use std::time::Duration;

use gemba_core::exit::ExitReason;
use gemba_core::supervision::{ChildKind, GiveUp, Restart, Strategy};
use gemba_kernel::{
    ChildSettings, ChildSpec, Context, Server, Shutdown, Stop, Supervisor, SupervisorRef, TaskContext,
    server, task,
};
use tokio::sync::mpsc;

use crate::lab::{Alive, Control, Entry, Lab, obey};
use crate::model::{Child, How, OnStop, Outcome, Sup};
use crate::trace::Event;

/// The word a child gives that ends with plain `shutdown`, which ours do only when they are asked to stop.
pub(crate) const PLAINLY: &str = "plainly";

/// One life of a scripted child.
struct Scripted {
    lab: Arc<Lab>,
    child: Arc<Child>,
    n: u32,
    alive: Option<Alive>,
    /// Whether it ends because a step said so.
    told: bool,
}

impl Server for Scripted {
    type Msg = How;

    async fn init(&mut self, ctx: &mut Context<How>) -> Result<(), Stop> {
        let start = self.child.start(self.n as usize);
        if start.hangs {
            self.lab.hang(&self.child.id).await;
        }
        match start.then {
            Outcome::Ok => {}
            Outcome::Ignore => return Err(Stop::ignore()),
            Outcome::Error => return Err(Stop::error("as scripted")),
            Outcome::Panic => panic!("as scripted"),
        }
        let id = &self.child.id;
        self.lab.write(Entry::Event(Event::Started(id.clone(), self.n)));
        self.alive = Some(self.lab.runs(id, self.n, ctx.incarnation(), Control::Server(ctx.pinned())));
        Ok(())
    }

    async fn handle(&mut self, how: How, _: &mut Context<How>) -> Result<(), Stop> {
        self.told = true;
        ends(how)
    }

    async fn terminate(&mut self, _: &ExitReason) {
        if !self.told {
            obey(&self.lab, &self.child).await;
        }
    }
}

fn ends(how: How) -> Result<(), Stop> {
    Err(match how {
        How::Normal => Stop::normal(),
        How::Shutdown => Stop::shutdown(PLAINLY),
        How::ShutdownWith => Stop::shutdown("x"),
        How::Error => Stop::error("told to"),
        How::Panic => panic!("told to"),
        How::Kill => unreachable!("a kill is no message"),
    })
}

async fn scripted_task(lab: Arc<Lab>, child: Arc<Child>, ctx: TaskContext) -> Result<(), Stop> {
    let (control, mut told) = mpsc::channel(1);
    let n = lab.counts(&child.id);
    let _alive = lab.runs(&child.id, n, ctx.incarnation(), Control::Task(control));
    tokio::select! {
        how = told.recv() => ends(how.unwrap_or(How::Normal)),
        () = ctx.stopped() => match child.on_stop {
            OnStop::ShutdownWith => Err(Stop::shutdown("x")),
            OnStop::Error => Err(Stop::error("asked to stop")),
            OnStop::Normal | OnStop::Shutdown | OnStop::Panic | OnStop::Ignore | OnStop::Hang => {
                lab.obeys_normally(ctx.incarnation());
                Ok(())
            }
        },
    }
}

/// The handles of the nested supervisors, by their ids.
pub(crate) type Handles = Vec<(String, SupervisorRef)>;

/// The spec of one child, under the rules of `template`: its own, or those of a dynamic supervisor.
pub(crate) fn spec(lab: &Arc<Lab>, child: &Child, template: &Child, handles: &mut Handles) -> ChildSpec {
    /// The rules are methods of each kind of spec.
    macro_rules! ruled {
        ($spec:expr) => {{
            let spec = $spec.shutdown(template.shutdown);
            let spec = match template.restart {
                Restart::Permanent => spec.permanent(),
                Restart::Transient => spec.transient(),
                Restart::Temporary => spec.temporary(),
            };
            if template.significant { spec.significant().into() } else { spec.into() }
        }};
    }
    if let Some(below) = &child.below {
        let supervisor = supervisor(lab, &child.id, below, handles);
        handles.push((child.id.clone(), supervisor.handle()));
        return ruled!(supervisor);
    }
    let (lab, script) = (lab.clone(), Arc::new(child.clone()));
    if child.is_task() {
        return ruled!(task(&child.id, move |ctx| scripted_task(lab.clone(), script.clone(), ctx)));
    }
    ruled!(server(&child.id, move || {
        let n = lab.begins(&script.id);
        Scripted { lab: lab.clone(), child: script.clone(), n, alive: None, told: false }
    }))
}

/// A static supervisor with its children, which gives up as OTP's does.
pub(crate) fn supervisor(lab: &Arc<Lab>, name: &str, sup: &Sup, handles: &mut Handles) -> Supervisor {
    let supervisor = match sup.strategy {
        Strategy::OneForAll => Supervisor::one_for_all(name),
        Strategy::RestForOne => Supervisor::rest_for_one(name),
        Strategy::OneForOne | Strategy::Dynamic => Supervisor::one_for_one(name),
    };
    let supervisor = supervisor
        .intensity(sup.intensity, Duration::from_secs(u64::from(sup.period_s)))
        .auto_shutdown(sup.auto_shutdown)
        .give_up(GiveUp::Cleanly);
    sup.children
        .iter()
        .fold(supervisor, |supervisor, child| supervisor.child(spec(lab, child, child, handles)))
}

/// What `get_childspec` tells, in the words of the driver in Erlang.
pub(crate) fn settings(settings: &ChildSettings) -> String {
    let restart = match settings.rules.restart {
        Restart::Permanent => "permanent",
        Restart::Transient => "transient",
        Restart::Temporary => "temporary",
    };
    let shutdown = match settings.shutdown {
        Shutdown::Brutal => "brutal_kill".to_owned(),
        Shutdown::Within(limit) => limit.as_millis().to_string(),
        Shutdown::Infinity => "infinity".to_owned(),
    };
    let kind = match settings.rules.kind {
        ChildKind::Worker => "worker",
        ChildKind::Supervisor => "supervisor",
    };
    format!("{restart},{},{shutdown},{kind}", settings.rules.significant)
}
