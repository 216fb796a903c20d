//! The inspector as a child of the node: a listener that outlives its restarts.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::sync::Arc;

use gemba_core::metric;
use gemba_core::view::{ActorKind, ActorState};
use gemba_inspect::{HostName, InspectConfig, Inspector, Token};
use gemba_kernel::{ChildSpec, Instruments, Stop, System, task};
use gemba_observe::Prometheus;

/// Where the inspector listens unless told otherwise.
pub const INSPECT: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4040));

/// Why the inspector cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The address is taken, or not this machine's.
    #[error("the inspector cannot listen on {address}; name another address, or port 0 for any")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
}

/// A bound inspector: its address is known before the node starts.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: TcpListener,
    token: Token,
    hosts: Vec<HostName>,
}

impl Bound {
    pub(crate) fn new(address: SocketAddr, token: Token, hosts: Vec<HostName>) -> Result<Self, InspectError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        match bind() {
            Ok(listener) => Ok(Self { listener, token, hosts }),
            Err(source) => Err(InspectError::Bind { address, source }),
        }
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A transient child: it stays down when it ends on purpose.
    pub(crate) fn child(self, prometheus: Prometheus) -> ChildSpec {
        let this = Arc::new(self);
        let body = move |ctx: gemba_kernel::TaskContext| {
            let (this, prometheus) = (this.clone(), prometheus.clone());
            async move {
                let system = ctx.system().clone();
                let listener = this.listener.try_clone()?;
                let mut config = InspectConfig::new(this.token.clone(), page(system.clone(), prometheus));
                config.hosts.clone_from(&this.hosts);
                let listener = tokio::net::TcpListener::from_std(listener)?;
                Inspector::new(system, config).serve(listener, ctx.stopped()).await;
                Ok::<(), Stop>(())
            }
        };
        task("inspector", body).transient().into()
    }
}

fn page(system: System, prometheus: Prometheus) -> Arc<dyn Fn() -> String + Send + Sync> {
    Arc::new(move || metrics(&system, &prometheus))
}

/// The metrics page: what the actors count, and what the tree shows at this moment.
pub(crate) fn metrics(system: &System, prometheus: &Prometheus) -> String {
    measure(system, system.instruments());
    prometheus.render()
}

fn measure(system: &System, instruments: &Instruments) {
    // Before the tree: an actor that goes in between is missed this once, and not counted twice.
    let kinds = [ActorKind::Supervisor, ActorKind::Server, ActorKind::Actor, ActorKind::Task];
    let kinds = kinds.map(|kind| (kind, system.handled_by_forgotten(kind)));
    let tree = system.tree();
    for (kind, forgotten) in kinds {
        let of_kind = || tree.root.iter().filter(move |actor| actor.kind == kind);
        let word = kind.to_string();
        for state in [
            ActorState::Starting,
            ActorState::Running,
            ActorState::Halted,
            ActorState::Stopping,
            ActorState::Unkillable,
            ActorState::Down,
        ] {
            let actors = of_kind().filter(|actor| actor.state == state).count();
            instruments.gauge(&metric::ACTORS, &[&word, &state.to_string()]).set(actors as f64);
        }
        let waiting: u64 = of_kind().filter_map(|actor| actor.mailbox).map(|mailbox| mailbox.depth).sum();
        instruments.gauge(&metric::MAILBOX_MESSAGES, &[&word]).set(waiting as f64);
        let handled: u64 = of_kind().map(|actor| actor.handled).sum();
        instruments.counter(&metric::HANDLED, &[&word]).absolute(forgotten + handled);
    }
}

#[cfg(test)]
mod tests {
    use gemba_inspect::HostName;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use crate::{Context, Node, Reply, Server, Stop, Supervisor, server, task};

    struct Echo;

    impl Server for Echo {
        type Msg = Reply<()>;

        async fn handle(&mut self, reply: Reply<()>, _: &mut Context<Reply<()>>) -> Result<(), Stop> {
            reply.send(());
            Ok(())
        }
    }

    /// What servers have handled, by the page.
    fn handled(node: &Node) -> u64 {
        let page = node.metrics();
        let count =
            page.lines().find_map(|line| line.strip_prefix("gemba_actor_messages_total{kind=\"server\"} "));
        count.unwrap_or_else(|| panic!("no count in\n{page}")).parse().unwrap()
    }

    #[tokio::test]
    async fn what_dynamic_children_handled_is_counted_when_they_are_gone() {
        let workers = Supervisor::dynamic("workers");
        let pool = workers.handle();
        let node = Node::builder("test").child(workers).start().await.unwrap();
        let before = handled(&node);
        for generation in 1..=3 {
            let worker = server("worker", || Echo);
            let address = worker.address();
            pool.start_child(worker).await.unwrap();
            for _ in 0..100 {
                address.call(|reply| reply).await.unwrap();
            }
            pool.terminate_child("worker").await.unwrap();
            assert_eq!(handled(&node) - before, 100 * generation);
        }
        node.stop("test").await.unwrap();
    }

    #[tokio::test]
    async fn a_node_answers_for_the_names_it_was_told() {
        let idle = task("idle", |ctx| async move {
            ctx.stopped().await;
            Ok(())
        });
        let node = Node::builder("test")
            .inspect(([127, 0, 0, 1], 0).into())
            .inspect_hosts([HostName::new("node1.example").unwrap()])
            .child(idle)
            .start()
            .await
            .unwrap();
        let (address, _) = node.inspector().unwrap();
        for (host, status) in [("node1.example:4040", "200"), ("node2.example:4040", "403")] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let ask = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            stream.write_all(ask.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(
                answer.contains("inspect_hosts"),
                status == "403",
                "a refusal names the setting: {answer}"
            );
        }
        node.stop("test").await.unwrap();
    }
}
