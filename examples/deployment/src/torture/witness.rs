//! What is true, whoever says otherwise: the record on the disk, the tables in the splitters, the processes of the
//! system.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::host;
use crate::instances::Seat;
use crate::splitter::Counted;
use crate::splitter::table::{Table, WHOLE};
use crate::store::{self, Past, ServiceRecord};
use crate::torture::stage::{GOOD, Ground, INSTANCES, REGIONS, SERVICE, Stage};
use crate::torture::verdict;

/// How long a splitter may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Looks, and changes nothing.
#[derive(Debug)]
pub(crate) struct Witness {
    record: Connection,
    client: reqwest::Client,
    grounds: Vec<Ground>,
    state: PathBuf,
}

/// A process that was started from the fleet's directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    /// Whose home it writes to, below the fleet's state.
    pub(crate) home: String,
    pub(crate) pid: u32,
}

/// Why something cannot be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blind {
    #[error("the record cannot be read")]
    Record(#[from] rusqlite::Error),
    #[error("a splitter does not answer")]
    Splitter(#[from] reqwest::Error),
}

/// The shares of a region: version and weight.
pub(crate) type Shares = Vec<(String, u32)>;

impl Witness {
    /// A witness of this stage.
    pub(crate) fn new(stage: &Stage) -> Result<Self, Blind> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let record = Connection::open_with_flags(stage.database(), flags)?;
        record.busy_timeout(ANSWER_MAX)?;
        let client = host::client(Some(ANSWER_MAX));
        Ok(Self { record, client, grounds: stage.grounds.clone(), state: stage.state() })
    }

    /// How the service stands on the disk.
    pub(crate) fn record(&self) -> Result<ServiceRecord, Blind> {
        Ok(store::record(&self.record, SERVICE)?)
    }

    /// How many deliveries wait for their turn.
    pub(crate) fn waiting(&self) -> Result<u64, Blind> {
        Ok(self.record.query_row("SELECT count(*) FROM waiting", [], |row| row.get(0))?)
    }

    /// Every delivery there ever was, the first first.
    pub(crate) fn history(&self) -> Result<Vec<Past>, Blind> {
        let mut history = store::history(&self.record, SERVICE, u32::MAX)?;
        history.reverse();
        Ok(history)
    }

    /// How many steps are written, and the last one.
    pub(crate) fn last_step(&self) -> Result<(u64, String), Blind> {
        let query = "SELECT seq, what FROM step ORDER BY seq DESC LIMIT 1";
        let found = self.record.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?)));
        match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok((0, String::new())),
            found => Ok(found?),
        }
    }

    /// A number that changes with every write.
    pub(crate) fn writes(&self) -> Result<i64, Blind> {
        Ok(self.record.pragma_query_value(None, "data_version", |row| row.get(0))?)
    }

    /// The table in force in each region.
    pub(crate) async fn tables(&self) -> Result<Vec<Table>, Blind> {
        let mut tables = Vec::new();
        for ground in &self.grounds {
            let answer = self.client.get(format!("http://{}/table", ground.admin)).send().await?;
            tables.push(answer.error_for_status()?.json().await?);
        }
        Ok(tables)
    }

    /// The processes that were started from the fleet's directory and still run: each writes into a log there,
    /// whether or not its manager wrote down its number.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let mut found: Vec<_> = pids.filter_map(|pid| Some(Process { home: self.home(pid)?, pid })).collect();
        found.sort_unstable();
        found
    }

    /// The number that is written down in the home of a process.
    pub(crate) fn written_pid(&self, home: &str) -> Option<u32> {
        let text = fs::read(self.state.join(home).join("pid")).ok()?;
        let identity: serde_json::Value = serde_json::from_slice(&text).ok()?;
        identity["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())
    }

    fn home(&self, pid: u32) -> Option<String> {
        // One that has ended and was not waited for has no descriptors any more.
        let log = fs::read_link(format!("/proc/{pid}/fd/1")).ok()?;
        let home = log.strip_prefix(&self.state).ok()?.parent()?;
        home.to_str().map(str::to_owned)
    }
}

/// The life and the number of the table of a region's splitter.
pub(crate) async fn generation(client: &reqwest::Client, admin: SocketAddr) -> Result<(String, u64), Blind> {
    // Without the latencies, which nobody here asks for.
    let known = GOOD.map(|version| (version, u64::MAX));
    let answer =
        client.get(format!("http://{admin}/counts")).query(&known).timeout(ANSWER_MAX).send().await?;
    let counted: Counted = answer.error_for_status()?.json().await?;
    Ok((counted.life, counted.generation))
}

/// The shares that a table gives.
pub(crate) fn shares_of(table: &Table) -> Shares {
    table.versions.iter().map(|share| (share.version.clone(), share.weight)).collect()
}

/// The shares that a region should have by the record.
pub(crate) fn shares_by(record: &ServiceRecord, region: &str) -> Shares {
    let mut shares = match (&record.delivery, &record.stable) {
        (Some(delivery), _) => {
            let new = delivery.share(region);
            let old = delivery.from.clone().map(|from| (from, WHOLE - new));
            std::iter::once((delivery.to.clone(), new)).chain(old).collect()
        }
        (None, Some(stable)) => vec![(stable.clone(), WHOLE)],
        (None, None) => Vec::new(),
    };
    shares.retain(|(_, weight)| 0 < *weight);
    shares
}

/// What differs between the tables in force and the record, in words.
pub(crate) fn difference(record: &ServiceRecord, tables: &[Table]) -> Option<String> {
    REGIONS.iter().zip(tables).find_map(|(region, table)| {
        let (should, is) = (shares_by(record, region), shares_of(table));
        if should != is {
            return Some(format!("{region} splits {is:?} and the record says {should:?}"));
        }
        let strangers = table.versions.iter().flat_map(|share| {
            share.instances.iter().filter(|instance| {
                let named =
                    |number| Seat { region: (*region).to_owned(), version: share.version.clone(), number };
                let ports = (1..=INSTANCES).map(|number| record.instances.get(&named(number).name()));
                !ports.flatten().any(|port| *port == instance.port())
            })
        });
        let strangers: Vec<_> = strangers.collect();
        (!strangers.is_empty())
            .then(|| format!("{region} sends requests to {strangers:?}, which the record has not"))
    })
}

/// What the tables do that is not written: a share that the last delivery never had by its steps.
pub(crate) fn unwritten(history: &[Past], tables: &[Table]) -> Option<String> {
    let past = history.iter().rev().find(|past| past.is_begun)?;
    REGIONS.iter().zip(tables).find_map(|(region, table)| {
        let written = verdict::shares_written(past, region);
        table.versions.iter().find_map(|share| {
            let percent = 100 * share.weight / WHOLE;
            let is_written = if share.version == past.to {
                written.contains(&percent)
            } else {
                past.from.as_deref() == Some(&share.version) && written.contains(&(100 - percent))
            };
            let (id, version) = (&past.id, &share.version);
            (!is_written).then(|| {
                format!(
                    "{region} gives {percent} % to {version}, of which nothing is written (delivery {id})"
                )
            })
        })
    })
}

/// The homes of the processes that should run when this version has everything.
pub(crate) fn homes_of(stable: Option<&str>) -> BTreeSet<String> {
    let mut homes = BTreeSet::new();
    for region in REGIONS {
        homes.insert(format!("splitters/{SERVICE}.{region}"));
        let numbers =
            stable.into_iter().flat_map(|stable| (1..=INSTANCES).map(move |number| (stable, number)));
        homes.extend(
            numbers.map(|(stable, number)| format!("instances/{SERVICE}/{region}.{stable}.{number}")),
        );
    }
    homes
}

/// What is wrong with these processes, in words: more than should run, two at one home, fewer.
pub(crate) fn misfits(processes: &[Process], homes: &BTreeSet<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for process in processes {
        let Process { home, pid } = process;
        if !homes.contains(home) {
            wrong.push(format!("{home} runs as process {pid} and should not"));
        } else if !seen.insert(home) {
            wrong.push(format!("{home} runs twice, also as process {pid}"));
        }
    }
    wrong.extend(homes.iter().filter(|home| !seen.contains(home)).map(|home| format!("{home} does not run")));
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Delivery;
    use crate::fleet::Care;
    use crate::splitter::table::Share;

    fn record() -> ServiceRecord {
        let instances = [("us-west.v1.1", 1), ("us-east.v1.2", 2)];
        let instances = instances.map(|(seat, port)| (seat.to_owned(), port)).into();
        ServiceRecord { stable: Some("v1".to_owned()), instances, ..ServiceRecord::default() }
    }

    fn table(version: &str, port: u16) -> Table {
        let instances = vec![([127, 0, 0, 1], port).into()];
        let share = Share { version: version.to_owned(), weight: WHOLE, instances };
        Table { generation: 1, versions: vec![share], ..Table::default() }
    }

    #[test]
    fn tables_are_compared_with_the_record() {
        assert_eq!(difference(&record(), &[table("v1", 1), table("v1", 2)]), None);
        let other = difference(&record(), &[table("v1", 1), table("v2", 2)]).unwrap();
        assert!(other.starts_with("us-east splits [(\"v2\", 10000)]"), "{other}");
        let stranger = difference(&record(), &[table("v1", 2), table("v1", 2)]).unwrap();
        assert!(stranger.starts_with("us-west sends requests to [127.0.0.1:2]"), "{stranger}");
        let mut begun = record();
        let rules = Care::default().rules().unwrap();
        let regions = REGIONS.map(str::to_owned);
        begun.delivery = Some(Delivery::begin("1", SERVICE, (Some("v1"), "v2"), regions, rules, 0));
        assert_eq!(shares_by(&begun, "us-west"), [("v1".to_owned(), WHOLE)], "nothing has started yet");
    }

    #[test]
    fn what_is_done_was_written_before() {
        let steps = vec![(1, "v2 is to follow v1".to_owned()), (2, "us-west: 40 % to v2".to_owned())];
        let past = Past {
            id: "7".to_owned(),
            from: Some("v1".to_owned()),
            to: "v2".to_owned(),
            begun_unix_ms: 1,
            is_begun: true,
            ended_unix_ms: None,
            succeeded: None,
            why: None,
            steps,
        };
        let share =
            |version: &str, weight| Share { version: version.to_owned(), weight, instances: Vec::new() };
        let split =
            |new| Table { versions: vec![share("v2", new), share("v1", WHOLE - new)], ..Table::default() };
        let of = |west, east| unwritten(std::slice::from_ref(&past), &[west, east]);
        assert_eq!(of(split(4_000), table("v1", 1)), None);
        assert_eq!(of(table("v1", 1), Table::default()), None, "written, and not done");
        let ahead = of(split(6_000), table("v1", 1)).unwrap();
        assert!(ahead.starts_with("us-west gives 60 % to v2, of which nothing is written"), "{ahead}");
        assert!(of(split(4_000), split(4_000)).is_some(), "it is not this region's turn");
        assert!(of(table("v3", 1), table("v1", 1)).is_some(), "nobody asked for it");
    }

    #[test]
    fn processes_are_compared_with_what_should_run() {
        let homes = homes_of(Some("v1"));
        assert_eq!(homes.len(), 6);
        let mut processes: Vec<_> = homes
            .iter()
            .enumerate()
            .map(|(pid, home)| Process { home: home.clone(), pid: pid as u32 })
            .collect();
        assert_eq!(misfits(&processes, &homes), Vec::<String>::new());
        processes.push(Process { pid: 99, ..processes[0].clone() });
        processes[1].home = "instances/api/us-west.v2.1".to_owned();
        let wrong = misfits(&processes, &homes);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert_eq!(misfits(&processes, &BTreeSet::new()).len(), 7, "nothing is to run");
        assert_eq!(homes_of(None).len(), 2, "splitters run before the first version");
    }
}
