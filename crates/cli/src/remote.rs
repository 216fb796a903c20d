//! The commands that ask a running node.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use gemba::health::HealthState;
use gemba::receipt::{BreakerState, Receipt, Seq};
use gemba::view::ReceiptsView;
use gemba::{Client, ClientError, Token, TokenError};
use serde::Serialize;

use crate::args::{
    AffinityArgs, AlertsAction, AlertsArgs, BaselineArgs, BoardArgs, BreakerArgs, CordAction, CordArgs,
    HaltArgs, HealthArgs, KillArgs, NodeArgs, RebalanceArgs, ReceiptsArgs, ReloadArgs, ResumeArgs,
    ReviewArgs, TreeArgs, WhyArgs,
};
use crate::exit::{Exit, sentence};
use crate::review::Review;
use crate::show::{self, Chain, Page};

/// How often `--follow` asks for more.
const FOLLOW_PERIOD: Duration = Duration::from_millis(500);

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
enum RemoteError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("--token or GEMBA_TOKEN holds no token")]
    Token(#[from] TokenError),
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

/// `gemba tree`.
pub(crate) async fn tree(args: TreeArgs) -> Exit {
    end(async {
        let view = connect(&args.node)?.tree().await?;
        print(&args.node, &view, |page| show::tree(&view, args.depth, page))
    })
    .await
}

/// `gemba board`.
pub(crate) async fn board(args: BoardArgs) -> Exit {
    end(async {
        let view = connect(&args.node)?.board().await?;
        print(&args.node, &view, |page| show::board(&view, page))
    })
    .await
}

/// `gemba health`: fails unless the node is healthy, so that a script can ask.
pub(crate) async fn health(args: HealthArgs) -> Exit {
    let mut state = HealthState::Unknown;
    let ended = end(async {
        let view = connect(&args.node)?.health().await?;
        state = view.state;
        print(&args.node, &view, |page| show::health(&view, page))
    })
    .await;
    if ended == Exit::Fine && state != HealthState::Healthy { Exit::Failed } else { ended }
}

/// `gemba receipts`.
pub(crate) async fn receipts(args: ReceiptsArgs) -> Exit {
    end(async {
        let client = connect(&args.node)?;
        if args.follow {
            return follow(&client, &args).await;
        }
        let view = client.receipts(args.after.map(Seq), args.path.as_ref(), args.limit).await?;
        print(&args.node, &view, |page| show::receipts(&view, page))
    })
    .await
}

/// `gemba kill PATH`.
pub(crate) async fn kill(args: KillArgs) -> Exit {
    end(async {
        let receipt = connect(&args.node)?.kill(&args.path, &operator()).await?;
        done(&args.node, receipt, &format!("killed {}", args.path))
    })
    .await
}

/// `gemba halt PATH`.
pub(crate) async fn halt(args: HaltArgs) -> Exit {
    end(async {
        let receipt = connect(&args.node)?.halt(&args.path, &operator(), args.why.as_deref()).await?;
        done(&args.node, receipt, &format!("halted {}", args.path))
    })
    .await
}

/// `gemba resume PATH`.
pub(crate) async fn resume(args: ResumeArgs) -> Exit {
    end(async {
        let receipt = connect(&args.node)?.resume(&args.path, &operator()).await?;
        done(&args.node, receipt, &format!("{} runs again", args.path))
    })
    .await
}

/// `gemba cord pull LINE` and `gemba cord reset LINE`.
pub(crate) async fn cord(args: CordArgs) -> Exit {
    end(async {
        match args.action {
            CordAction::Pull { node, line, why } => {
                let receipt = connect(&node)?.pull_cord(&line, &operator(), why.as_deref()).await?;
                done(&node, receipt, &format!("pulled the cord of line {line}"))
            }
            CordAction::Reset { node, line } => {
                let receipt = connect(&node)?.reset_cord(&line, &operator()).await?;
                done(&node, receipt, &format!("reset the cord of line {line}"))
            }
        }
    })
    .await
}

/// `gemba breaker BREAKER STATE`.
pub(crate) async fn breaker(args: BreakerArgs) -> Exit {
    end(async {
        let BreakerArgs { node, breaker, to, why } = args;
        let to = BreakerState::from(to);
        let receipt = connect(&node)?.force_breaker(&breaker, to, &operator(), why.as_deref()).await?;
        done(&node, receipt, &format!("breaker {breaker} is {to}"))
    })
    .await
}

/// `gemba alerts acknowledge STATION` and `gemba alerts silence STATIONS`.
pub(crate) async fn alerts(args: AlertsArgs) -> Exit {
    end(async {
        match args.action {
            AlertsAction::Acknowledge { node, station } => {
                let receipt = connect(&node)?.acknowledge(&station, &operator()).await?;
                done(&node, receipt, &format!("acknowledged {station}"))
            }
            AlertsAction::Silence { node, stations, minutes, why } => {
                let lasts = Duration::from_secs(60 * minutes);
                let client = connect(&node)?;
                let receipt = client.silence(&stations, lasts, &operator(), why.as_deref()).await?;
                done(&node, receipt, &format!("silenced {stations} for {minutes} min"))
            }
        }
    })
    .await
}

/// `gemba rebalance`.
pub(crate) async fn rebalance(args: RebalanceArgs) -> Exit {
    end(async {
        let receipt = connect(&args.node)?.rebalance(&operator()).await?;
        done(&args.node, receipt, "a worker's worth of capacity was moved")
    })
    .await
}

/// `gemba reload`.
pub(crate) async fn reload(args: ReloadArgs) -> Exit {
    end(async {
        let reloaded = connect(&args.node)?.reload(&operator()).await?;
        print(&args.node, &reloaded, |page| show::reloaded(&reloaded, page))
    })
    .await
}

/// `gemba affinity GROUP --pool POOL --key KEY` and `gemba affinity GROUP --clear`.
pub(crate) async fn affinity(args: AffinityArgs) -> Exit {
    end(async {
        let AffinityArgs { node, group, pool, key, why, .. } = args;
        let client = connect(&node)?;
        if let Some(pool) = pool {
            let receipt = client.bind_keys(&group, &pool, &key, &operator(), why.as_deref()).await?;
            done(&node, receipt, &format!("group {group} belongs to pool {pool}"))
        } else {
            let receipt = client.clear_keys(&group, &operator()).await?;
            done(&node, receipt, &format!("group {group} belongs to no pool any more"))
        }
    })
    .await
}

/// `gemba baseline LINE`.
pub(crate) async fn baseline(args: BaselineArgs) -> Exit {
    end(async {
        let receipt = connect(&args.node)?.accept_baseline(&args.line, &operator()).await?;
        done(&args.node, receipt, &format!("line {} has a new baseline", args.line))
    })
    .await
}

/// `gemba why N`.
pub(crate) async fn why(args: WhyArgs) -> Exit {
    end(async {
        let client = connect(&args.node)?;
        let mut chain = Chain::default();
        let mut next = Some(Seq(args.receipt));
        while let Some(seq) = next {
            let page = client.receipts(Some(Seq(seq.0 - 1)), None, 1).await?;
            next = chain.add(seq, page.receipts.into_iter().next());
        }
        print(&args.node, &chain, |page| show::why(&chain, page))
    })
    .await
}

/// `gemba review`.
pub(crate) async fn review(args: ReviewArgs) -> Exit {
    end(async {
        let client = connect(&args.node)?;
        let board = client.board().await?;
        let mut receipts: Vec<Arc<Receipt>> = Vec::new();
        let (mut after, mut forgotten) = (Seq(0), None);
        while after < board.receipt {
            let page = client.receipts(Some(after), None, Client::RECEIPTS_MAX).await?;
            forgotten.get_or_insert(page.forgotten);
            receipts.extend(page.receipts);
            if page.next <= after {
                // The node began anew since it showed its board: what the board counts up to does not come any more.
                break;
            }
            after = page.next;
        }
        let review = Review::new(&board, &receipts, forgotten.unwrap_or_default());
        print(&args.node, &review, |_| show::review(&review))
    })
    .await
}

/// A variable that is set to nothing is as one that is not set.
fn connect(node: &NodeArgs) -> Result<Client, RemoteError> {
    let token = node.token.as_deref().filter(|token| !token.is_empty());
    Ok(Client::new(&node.url, token.map(Token::new).transpose()?)?)
}

/// Who asks: it stands in the receipt.
fn operator() -> String {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    user.filter(|user| !user.is_empty()).unwrap_or_else(|| "operator".to_owned())
}

async fn follow(client: &Client, args: &ReceiptsArgs) -> Result<(), RemoteError> {
    let page = |after| client.receipts(after, args.path.as_ref(), args.limit);
    let mut view = page(args.after.map(Seq)).await?;
    loop {
        write(&more(&view, args.node.json))?;
        if view.receipts.len() < args.limit {
            tokio::time::sleep(FOLLOW_PERIOD).await;
        }
        let after = view.next;
        view = page(Some(after)).await?;
        if view.next < after {
            // Its numbers begin at 1 again. One that has come as far as we were meanwhile cannot be told apart.
            eprintln!("gemba: the node began anew; its receipts follow from the first");
            view = page(Some(Seq(0))).await?;
        }
    }
}

/// One page of many: a line each in JSON, so that it can be read as it comes.
fn more(view: &ReceiptsView, json: bool) -> String {
    if !json {
        return show::receipts(view, Page::of_stdout());
    }
    let lines = view.receipts.iter().map(|receipt| to_json(receipt, false) + "\n");
    lines.collect()
}

fn done(node: &NodeArgs, receipt: Seq, deed: &str) -> Result<(), RemoteError> {
    let answer = serde_json::json!({ "receipt": receipt });
    print(node, &answer, |_| format!("{deed} (receipt {receipt})\n"))
}

fn print<T: Serialize>(node: &NodeArgs, view: &T, text: impl Fn(Page) -> String) -> Result<(), RemoteError> {
    let output = if node.json { to_json(view, true) + "\n" } else { text(Page::of_stdout()) };
    Ok(write(&output)?)
}

fn to_json<T: Serialize>(view: &T, pretty: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(view) } else { serde_json::to_string(view) };
    text.expect("a view is plain data with text keys")
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

async fn end(command: impl Future<Output = Result<(), RemoteError>>) -> Exit {
    match command.await {
        Ok(()) => Exit::Fine,
        // The reader has seen enough: `gemba receipts | head`.
        Err(RemoteError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(error) => {
            // What the node says is in it, and that comes from anywhere.
            eprintln!("gemba: {}", show::clean_lines(&sentence(&error)));
            match &error {
                RemoteError::Client(error) => error.into(),
                RemoteError::Token(_) => Exit::Usage,
                RemoteError::Output(_) => Exit::Failed,
            }
        }
    }
}
