//! What others ask of a running supervisor: OTP's functions on children.

use gemba_core::exit::{ExitReason, Incarnation};
use gemba_core::name::Name;
use gemba_core::receipt::Event;
use gemba_core::supervision::{ChildKey, ChildStatus, Command};

use super::{Request, Shell};
use crate::child::ChildSpec;
use crate::handle::{ChildError, ChildInfo, ChildSettings};
use crate::place::{StartReply, StopReply, Waiting};

impl Shell {
    pub(super) fn serve(&mut self, request: Request) -> Vec<Command> {
        match request {
            Request::StartChild { child, reply } => self.start_child(*child, reply),
            Request::RestartChild { name, reply } => self.restart_child(name, reply),
            Request::TerminateChild { name, only, reply } => self.terminate_child(name, only, reply),
            Request::DeleteChild { name, reply } => self.delete_child(name, reply),
            Request::ChildSettings { name, reply } => {
                reply.send(self.child_settings(name));
                Vec::new()
            }
            Request::WhichChildren { reply } => {
                reply.send(self.which_children());
                Vec::new()
            }
            Request::CountChildren { reply } => {
                reply.send(self.core.counts());
                Vec::new()
            }
        }
    }

    fn find(&self, name: String) -> Result<ChildKey, ChildError> {
        let key = name.parse().ok().and_then(|name| self.core.find(&name));
        key.ok_or(ChildError::NotFound { name })
    }

    fn waiting(&mut self, key: ChildKey) -> &mut Waiting {
        let place = self.places.get_mut(&key).expect("core knows only children that were added");
        place.waiting.get_or_insert_default()
    }

    fn start_child(&mut self, child: ChildSpec, reply: StartReply) -> Vec<Command> {
        if self.core.is_ending() {
            reply.send(Err(ChildError::NotRunning));
            return Vec::new();
        }
        let unheard = reply.is_closed().then(|| child.name.clone());
        let errors = child.check(self.core.flags().auto_shutdown);
        let added = if errors.is_empty() { self.add(child) } else { Err(ChildError::Spec(errors)) };
        match added {
            Ok(key) => {
                self.waiting(key).start = Some(reply);
                self.core.start_child(key)
            }
            Err(error) => {
                if let Some(name) = unheard {
                    // Nobody waits to be told, so the journal is.
                    let path = name.map_or_else(|_| self.path.clone(), |name| self.path.child(&name));
                    let event = Event::ChildStartFailed { reason: ExitReason::error(&error) };
                    self.system.record(None, &path, event);
                }
                reply.send(Err(error));
                Vec::new()
            }
        }
    }

    fn restart_child(&mut self, name: String, reply: StartReply) -> Vec<Command> {
        let commands = match self.find(name) {
            Ok(_) if self.core.is_ending() => Err(ChildError::NotRunning),
            Ok(key) => match self.core.restart_child(key) {
                Ok(commands) => {
                    self.waiting(key).start = Some(reply);
                    return commands;
                }
                Err(refusal) => Err(ChildError::refused(refusal, None)),
            },
            Err(error) => Err(error),
        };
        reply.send(commands);
        Vec::new()
    }

    fn terminate_child(&mut self, name: String, only: Option<Incarnation>, reply: StopReply) -> Vec<Command> {
        match self.find(name) {
            Ok(key) if only.is_some_and(|only| only != self.places[&key].incarnation) => {
                let name = self.places[&key].name().to_string();
                reply.send(Err(ChildError::NotFound { name }));
                Vec::new()
            }
            Ok(key) => {
                let commands = self.core.terminate(key);
                self.note_rest(key);
                match self.core.status(key) {
                    None | Some(ChildStatus::Down) => reply.send(Ok(())),
                    Some(ChildStatus::Unkillable) => {
                        let name = self.places[&key].name();
                        reply.send(Err(ChildError::Unkillable { name }));
                    }
                    Some(_) => self.waiting(key).stops.push(reply),
                }
                commands
            }
            Err(error) => {
                reply.send(Err(error));
                Vec::new()
            }
        }
    }

    fn delete_child(&mut self, name: String, reply: StopReply) -> Vec<Command> {
        let deleted = self.find(name).and_then(|key| {
            self.core.delete_child(key).map_err(|refusal| ChildError::refused(refusal, None))
        });
        match deleted {
            Ok(commands) => {
                reply.send(Ok(()));
                commands
            }
            Err(error) => {
                reply.send(Err(error));
                Vec::new()
            }
        }
    }

    fn child_settings(&self, name: String) -> Result<ChildSettings, ChildError> {
        let key = self.find(name)?;
        let (place, rules) = (&self.places[&key], self.core.rules(key));
        let rules = rules.expect("the child has just been found");
        Ok(ChildSettings { name: place.name(), rules, shutdown: place.shutdown })
    }

    fn which_children(&self) -> Vec<ChildInfo> {
        let info = |(key, name, status): (ChildKey, &Name, ChildStatus)| {
            let place = &self.places[&key];
            let runs = place.handle.is_some();
            ChildInfo {
                name: name.clone(),
                kind: place.slot.kind(),
                status,
                incarnation: runs.then_some(place.incarnation),
            }
        };
        self.core.children().map(info).collect()
    }
}
