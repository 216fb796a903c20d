//! A scenario: a tree of supervisors, what its children do, and what happens to them.

use std::fmt;
use std::time::Duration;

use gemba_core::supervision::{AutoShutdown, Restart, Strategy};
use gemba_kernel::Shutdown;

/// The name by which steps address the supervisor at the top.
pub(crate) const TOP: &str = "";

/// One supervisor, its flags and its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sup {
    pub strategy: Strategy,
    pub intensity: u32,
    pub period_s: u32,
    pub auto_shutdown: AutoShutdown,
    /// Of a dynamic supervisor: one, whose rules all children have.
    pub children: Vec<Child>,
}

/// One child: its spec and its script. Ids are unique within a scenario, except in specs to be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    pub id: String,
    pub restart: Restart,
    pub significant: bool,
    pub shutdown: Shutdown,
    pub on_stop: OnStop,
    /// What its first, second, … start does; later ones succeed.
    pub starts: Vec<Start>,
    pub below: Option<Sup>,
}

impl Child {
    /// Whether it is one of our tasks: only those choose the reason with which they obey.
    pub(crate) fn is_task(&self) -> bool {
        matches!(self.on_stop, OnStop::Normal | OnStop::ShutdownWith | OnStop::Error)
    }

    pub(crate) fn start(&self, n: usize) -> Start {
        self.starts.get(n.wrapping_sub(1)).copied().unwrap_or(Start { hangs: false, then: Outcome::Ok })
    }
}

/// What one start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// Whether it waits first until a step releases it.
    pub hangs: bool,
    pub then: Outcome,
}

/// How a start ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Ignore,
    Error,
    Panic,
}

/// What a child does when it is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnStop {
    Shutdown,
    Normal,
    ShutdownWith,
    Error,
    Panic,
    /// Nothing, until it is killed.
    Ignore,
    /// Nothing, until a step releases it.
    Hang,
}

/// How a step ends a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Normal,
    Shutdown,
    ShutdownWith,
    Error,
    Panic,
    Kill,
}

/// What happens next. `sup` is [`TOP`] or the id of a nested supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    End { id: String, how: How },
    EndBoth { first: (String, How), second: (String, How) },
    StartChild { sup: String, child: Child },
    Terminate { sup: String, id: String },
    Restart { sup: String, id: String },
    Delete { sup: String, id: String },
    Spec { sup: String, id: String },
    Which { sup: String },
    Count { sup: String },
    Noise { sup: String },
    KillSup { id: String },
    Release { nth: u32 },
    Wait(Duration),
    Shutdown,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub seed: u64,
    pub top: Sup,
    pub steps: Vec<Step>,
}

impl Scenario {
    /// All children, wherever they are named, those of nested supervisors included.
    pub(crate) fn children(&self) -> Vec<&Child> {
        let started = self.steps.iter().filter_map(|step| match step {
            Step::StartChild { child, .. } => Some(child),
            _ => None,
        });
        let mut found = Vec::new();
        let mut queue: Vec<&Child> = self.top.children.iter().chain(started).collect();
        while let Some(child) = queue.pop() {
            found.push(child);
            queue.extend(child.below.iter().flat_map(|below| &below.children));
        }
        found
    }

    pub(crate) fn is_dynamic(&self) -> bool {
        self.top.strategy == Strategy::Dynamic
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.top)?;
        for child in &self.top.children {
            write_child(f, child, "  ")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            writeln!(f, "{index:>3}. {step}")?;
        }
        Ok(())
    }
}

fn write_child(f: &mut fmt::Formatter<'_>, child: &Child, indent: &str) -> fmt::Result {
    writeln!(f, "{indent}{child}")?;
    for below in child.below.iter().flat_map(|sup| &sup.children) {
        write_child(f, below, &format!("{indent}  "))?;
    }
    Ok(())
}

impl fmt::Display for Sup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { strategy, intensity, period_s, auto_shutdown, .. } = self;
        write!(f, "{strategy}, {intensity} restarts in {period_s} s, auto-shutdown {auto_shutdown:?}")
    }
}

impl fmt::Display for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.id, self.restart)?;
        if self.significant {
            f.write_str(", significant")?;
        }
        write!(f, ", shutdown {:?}, when asked {:?}", self.shutdown, self.on_stop)?;
        if !self.starts.is_empty() {
            f.write_str(", starts")?;
            for start in &self.starts {
                write!(f, " {}{:?}", if start.hangs { "hang-then-" } else { "" }, start.then)?;
            }
        }
        if let Some(below) = &self.below {
            write!(f, ", supervises {below}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |sup: &str| if sup == TOP { "top".to_owned() } else { sup.to_owned() };
        match self {
            Self::End { id, how } => write!(f, "{id} ends: {how:?}"),
            Self::EndBoth { first, second } => {
                write!(f, "at once: {} ends: {:?}, then {} ends: {:?}", first.0, first.1, second.0, second.1)
            }
            Self::StartChild { sup, child } => write!(f, "{}.start_child({child})", of(sup)),
            Self::Terminate { sup, id } => write!(f, "{}.terminate_child({id})", of(sup)),
            Self::Restart { sup, id } => write!(f, "{}.restart_child({id})", of(sup)),
            Self::Delete { sup, id } => write!(f, "{}.delete_child({id})", of(sup)),
            Self::Spec { sup, id } => write!(f, "{}.get_childspec({id})", of(sup)),
            Self::Which { sup } => write!(f, "{}.which_children()", of(sup)),
            Self::Count { sup } => write!(f, "{}.count_children()", of(sup)),
            Self::Noise { sup } => write!(f, "an unknown message to {}", of(sup)),
            Self::KillSup { id } => write!(f, "supervisor {id} is killed"),
            Self::Release { nth } => write!(f, "a hanging child is released ({nth})"),
            Self::Wait(time) => write!(f, "{time:?} pass"),
            Self::Shutdown => f.write_str("the parent shuts top down"),
        }
    }
}
