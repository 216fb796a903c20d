//! Child specs: how a supervisor starts, restarts and stops one child.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::name::{Name, NameError};
use gemba_core::supervision::{AutoShutdown, ChildKind, ChildRules, Flags, Restart, RuleError};
use gemba_core::view::ActorKind;

use crate::start::Start;

/// The supervisor of a child that is checked alone.
pub(crate) const ABOVE: &str = "the supervisor";

/// How a child is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// It is killed at once.
    Brutal,
    /// It is asked to stop, and killed when the time is over.
    Within(Duration),
    /// It is asked to stop and waited for. For supervisors: their own children have limits.
    Infinity,
}

/// What is wrong with a tree of specs. All faults are reported together, and nothing is started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A child's name cannot stand in a path.
    #[error("below '{supervisor}': {error}")]
    Name {
        /// Where the child was to stand.
        supervisor: String,
        /// What is wrong.
        error: NameError,
    },
    /// Two children of one supervisor have the same name.
    #[error("below '{supervisor}': two children are called '{name}'; give each its own name")]
    Duplicate {
        /// Where they were to stand.
        supervisor: String,
        /// Their name.
        name: Name,
    },
    /// The rules of a child contradict each other, or its supervisor's.
    #[error("'{name}' below '{supervisor}': {error}")]
    Rule {
        /// Where the child was to stand.
        supervisor: String,
        /// The child.
        name: String,
        /// What is wrong.
        error: RuleError,
    },
    /// The rules of a supervisor cannot be followed.
    #[error("'{supervisor}': {error}")]
    Flag {
        /// The supervisor.
        supervisor: String,
        /// What is wrong.
        error: RuleError,
    },
    /// A supervisor has more children than it takes.
    #[error("'{supervisor}' has {children} children, and takes {limit}; raise children_max, or spread them")]
    TooMany {
        /// The supervisor.
        supervisor: String,
        /// How many it was given.
        children: usize,
        /// How many it takes.
        limit: usize,
    },
    /// A mailbox takes no message.
    #[error("'{name}' below '{supervisor}': its mailbox takes 0 messages; give it room for 1 at least")]
    Mailbox {
        /// Where the child was to stand.
        supervisor: String,
        /// The child.
        name: String,
    },
}

/// One child of a supervisor: a name, a function that starts it, and rules.
///
/// Made by [`server`](crate::server), [`task`](crate::task), [`actor`](crate::actor) and
/// [`Supervisor`](crate::Supervisor), and handed to [`Supervisor::child`](crate::Supervisor::child).
///
/// # Units and limits
///
/// Defaults as in OTP: permanent; a worker has 5 s to stop, a supervisor as long as its children need.
#[derive(Clone)]
#[must_use = "a spec does nothing until a supervisor has it"]
pub struct ChildSpec {
    pub(crate) name: Result<Name, NameError>,
    pub(crate) restart: Restart,
    pub(crate) significant: bool,
    pub(crate) shutdown: Shutdown,
    pub(crate) start: Arc<dyn Start>,
}

impl ChildSpec {
    pub(crate) fn new(name: &str, shutdown: Shutdown, start: Arc<dyn Start>) -> Self {
        Self { name: Name::new(name), restart: Restart::Permanent, significant: false, shutdown, start }
    }

    /// The child's name; checked before anything starts.
    pub(crate) fn checked_name(&self) -> Name {
        self.name.clone().expect("specs are checked before anything starts")
    }

    /// The rules its supervisor follows.
    pub(crate) fn rules(&self) -> ChildRules {
        let kind = match self.start.kind() {
            ActorKind::Supervisor => ChildKind::Supervisor,
            ActorKind::Server | ActorKind::Actor | ActorKind::Task => ChildKind::Worker,
        };
        ChildRules { restart: self.restart, significant: self.significant, kind }
    }

    /// Everything that is wrong with this child under a supervisor with this auto-shutdown, and with those
    /// below it. Nothing is started.
    #[doc(alias = "check_childspecs")]
    pub fn check(&self, auto_shutdown: AutoShutdown) -> Vec<SpecError> {
        let mut errors = Vec::new();
        self.collect_errors(ABOVE, auto_shutdown, &mut errors);
        errors
    }

    pub(crate) fn collect_errors(
        &self,
        supervisor: &str,
        auto_shutdown: AutoShutdown,
        errors: &mut Vec<SpecError>,
    ) {
        match &self.name {
            Ok(name) => {
                if let Some(error) = self.rules().check(auto_shutdown) {
                    let name = name.to_string();
                    errors.push(SpecError::Rule { supervisor: supervisor.to_owned(), name, error });
                }
                if self.start.mailbox_capacity() == Some(0) {
                    let name = name.to_string();
                    errors.push(SpecError::Mailbox { supervisor: supervisor.to_owned(), name });
                }
                let path = format!("{}/{name}", supervisor.trim_end_matches('/'));
                if let Some(flags) = self.start.flags() {
                    check_supervisor(&flags, self.start.children(), &path, errors);
                }
            }
            Err(error) => {
                errors.push(SpecError::Name { supervisor: supervisor.to_owned(), error: error.clone() });
            }
        }
    }
}

/// Collects everything that is wrong with a supervisor and those below it.
pub(crate) fn check_supervisor(
    flags: &Flags,
    children: &[ChildSpec],
    supervisor: &str,
    errors: &mut Vec<SpecError>,
) {
    for error in flags.check() {
        errors.push(SpecError::Flag { supervisor: supervisor.to_owned(), error });
    }
    if flags.children_max < children.len() {
        let (children, limit) = (children.len(), flags.children_max);
        errors.push(SpecError::TooMany { supervisor: supervisor.to_owned(), children, limit });
    }
    let mut names = std::collections::HashSet::new();
    for child in children {
        child.collect_errors(supervisor, flags.auto_shutdown, errors);
        if let Ok(name) = &child.name
            && !names.insert(name)
        {
            errors.push(SpecError::Duplicate { supervisor: supervisor.to_owned(), name: name.clone() });
        }
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .field("significant", &self.significant)
            .field("shutdown", &self.shutdown)
            .finish_non_exhaustive()
    }
}

/// The rules every kind of spec offers.
macro_rules! child_rules {
    ($spec:ident $(<$($generic:ident: $bound:path),*>)?) => {
        impl $(<$($generic: $bound),*>)? $spec $(<$($generic),*>)? {
            /// Restarts the child always. The default.
            pub fn permanent(mut self) -> Self {
                self.child.restart = gemba_core::supervision::Restart::Permanent;
                self
            }

            /// Restarts the child when it ends abnormally.
            pub fn transient(mut self) -> Self {
                self.child.restart = gemba_core::supervision::Restart::Transient;
                self
            }

            /// Never restarts the child.
            pub fn temporary(mut self) -> Self {
                self.child.restart = gemba_core::supervision::Restart::Temporary;
                self
            }

            /// Lets the child's end, when it is not restarted, end its supervisor, as that one's
            /// auto-shutdown says. For transient and temporary children.
            pub fn significant(mut self) -> Self {
                self.child.significant = true;
                self
            }

            /// Says how the child is stopped.
            pub fn shutdown(mut self, shutdown: $crate::child::Shutdown) -> Self {
                self.child.shutdown = shutdown;
                self
            }
        }

        impl $(<$($generic: $bound),*>)? std::fmt::Debug for $spec $(<$($generic),*>)? {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.child, f)
            }
        }
    };
}
pub(crate) use child_rules;

/// Lets a spec be handed over as a child.
macro_rules! child_from {
    ($spec:ident $(<$($generic:ident: $bound:path),*>)?) => {
        impl $(<$($generic: $bound),*>)? From<$spec $(<$($generic),*>)?> for $crate::child::ChildSpec {
            fn from(spec: $spec $(<$($generic),*>)?) -> Self {
                spec.child
            }
        }
    };
}
pub(crate) use child_from;
