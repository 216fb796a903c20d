//! Child specs: how a supervisor starts, restarts and stops one child.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gemba_core::name::{Name, NameError};
use gemba_core::supervision::Restart;

use crate::start::Start;

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
pub struct ChildSpec {
    pub(crate) name: Result<Name, NameError>,
    pub(crate) restart: Restart,
    pub(crate) shutdown: Shutdown,
    pub(crate) start: Arc<dyn Start>,
}

impl ChildSpec {
    pub(crate) fn new(name: &str, shutdown: Shutdown, start: Arc<dyn Start>) -> Self {
        Self { name: Name::new(name), restart: Restart::Permanent, shutdown, start }
    }

    /// The child's name; checked before anything starts.
    pub(crate) fn checked_name(&self) -> Name {
        self.name.clone().expect("specs are checked before anything starts")
    }

    /// Collects everything that is wrong with this child and those below it.
    pub(crate) fn check(&self, supervisor: &str, errors: &mut Vec<SpecError>) {
        match &self.name {
            Ok(name) => {
                if self.start.mailbox_capacity() == Some(0) {
                    let name = name.to_string();
                    errors.push(SpecError::Mailbox { supervisor: supervisor.to_owned(), name });
                }
                let path = format!("{}/{name}", supervisor.trim_end_matches('/'));
                check_children(self.start.children(), &path, errors);
            }
            Err(error) => {
                errors.push(SpecError::Name { supervisor: supervisor.to_owned(), error: error.clone() });
            }
        }
    }
}

pub(crate) fn check_children(children: &[ChildSpec], supervisor: &str, errors: &mut Vec<SpecError>) {
    let mut names = std::collections::HashSet::new();
    for child in children {
        child.check(supervisor, errors);
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

            /// Says how the child is stopped.
            pub fn shutdown(mut self, shutdown: $crate::child::Shutdown) -> Self {
                self.child.shutdown = shutdown;
                self
            }
        }

        impl $(<$($generic: $bound),*>)? From<$spec $(<$($generic),*>)?> for $crate::child::ChildSpec {
            fn from(spec: $spec $(<$($generic),*>)?) -> Self {
                spec.child
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
