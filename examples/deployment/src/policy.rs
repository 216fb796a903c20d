//! Which deliveries are not even begun: `DeploymentSafety`, every rule of which is asked.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use gemba::policy::{BoxPolicy, Policy, all, rule};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::fleet::Artefact;

/// What enters the line: a version for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentRequest {
    /// The id of the delivery; the same id is the same delivery.
    pub id: String,
    /// The service.
    pub service: String,
    /// The version.
    pub version: String,
    /// The regions, in order.
    pub regions: Vec<String>,
    /// How the traffic moves.
    pub strategy: Strategy,
}

/// Characters of an id at most: a UUID has 36, a name of a build or a release rarely more.
pub const ID_MAX: usize = 128;

/// What is wrong with the id of a delivery, if anything is. It is an argument of scripts, where no zero byte can be, and
/// an empty one stands for no delivery at all.
pub fn id_fault(id: &str) -> Option<String> {
    let is_printable = id.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    (!is_printable || !(1..=ID_MAX).contains(&id.len())).then(|| {
        format!("is {} bytes; give 1 to {ID_MAX} printable characters of ASCII, or leave it out", id.len())
    })
}

/// How the traffic moves to a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Stage by stage, compared with what runs today.
    #[default]
    Canary,
    /// Everything at once, because nothing runs today.
    First,
}

/// What was found out before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the fleet knows the version.
    pub is_known: bool,
    /// What is wrong with its program.
    pub artefact: Option<String>,
    /// What runs today.
    pub stable: Option<String>,
    /// Regions where that has fewer ready instances than it should.
    pub unhealthy: Vec<String>,
    /// Regions without room for another version's instances, with what they have and would need.
    pub full: BTreeMap<String, (u32, u32)>,
    /// Failures and requests of what runs today, within the last minute.
    pub recent: (u64, u64),
    /// The share of failures that is too many, in thousandths.
    pub limit_milli: u64,
    /// The delivery that goes on or waits and brings the same version.
    pub brings: Option<String>,
    /// Deliveries of other services that wait, and how many may; none may while nobody asks.
    pub waiting: (usize, usize),
    /// Why nothing is begun now.
    pub frozen: Option<String>,
}

/// Requests below which a share of failures says nothing.
const RECENT_MIN: u64 = 100;

/// The policy of the line.
pub fn policy() -> BoxPolicy<DeploymentRequest, Facts> {
    let said = |name: &str, of: fn(&DeploymentRequest, &Facts) -> Option<String>| rule(name, 1, of).boxed();
    all(
        "deployment_safety",
        1,
        [
            said("version_known", |request, facts| {
                (!facts.is_known).then(|| format!("the fleet has no version {}", request.version))
            }),
            said("artefact", |_, facts| facts.artefact.clone()),
            said("capacity", |_, facts| {
                let full = facts.full.iter().map(|(region, (room, needed))| {
                    format!("{region} has room for {room} instances, and {needed} would run")
                });
                let full: Vec<_> = full.collect();
                (!full.is_empty()).then(|| full.join(", "))
            }),
            said("way_back", |request, facts| way_back(request, facts.stable.as_deref())),
            said("healthy", |_, facts| {
                let stable = facts.stable.as_ref().filter(|_| !facts.unhealthy.is_empty())?;
                Some(format!("{stable} is not well in {}", facts.unhealthy.join(", ")))
            }),
            said("objectives_met", |_, facts| {
                let (failures, requests) = facts.recent;
                let is_bad = RECENT_MIN <= requests && facts.limit_milli * requests < failures * 1_000;
                is_bad.then(|| {
                    format!("{failures} of {requests} requests failed within the last minute; mend what runs first")
                })
            }),
            said("one_at_a_time", |_, facts| {
                facts.brings.as_ref().map(|id| format!("delivery {id} brings this version already"))
            }),
            said("queue", |_, facts| {
                let (waiting, most) = facts.waiting;
                (most <= waiting && 0 < waiting)
                    .then(|| format!("as many deliveries wait as may, {most}; ask again when there are fewer"))
            }),
            said("freeze", |_, facts| facts.frozen.as_ref().map(|why| format!("nothing is begun now: {why}"))),
        ],
    )
    .boxed()
}

/// There must be something to go back to; before the first version there is nothing.
pub fn way_back(request: &DeploymentRequest, stable: Option<&str>) -> Option<String> {
    match (stable, request.strategy) {
        (None, Strategy::Canary) => {
            Some("nothing runs that one could go back to; bring a first version up".to_owned())
        }
        (Some(stable), Strategy::First) => Some(format!("{stable} runs already; roll the new version out")),
        (Some(stable), Strategy::Canary) if stable == request.version => {
            Some(format!("{stable} runs already"))
        }
        (None, Strategy::First) | (Some(_), Strategy::Canary) => None,
    }
}

/// What is wrong with the program of a version, if anything is.
pub fn inspect(artefact: &Artefact) -> Option<String> {
    let command = artefact.command.first()?;
    let Some(program) = find(command) else { return Some(format!("there is no program {command}")) };
    let wanted = artefact.sha256.as_ref()?;
    match digest(&program) {
        Ok(found) if found.eq_ignore_ascii_case(wanted) => None,
        Ok(found) => Some(format!("{} has the digest {found}, not {wanted}", program.display())),
        Err(error) => Some(format!("{} cannot be read: {error}", program.display())),
    }
}

fn find(command: &str) -> Option<PathBuf> {
    let is_file = |path: &PathBuf| path.is_file();
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(is_file);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(command)).find(is_file)
}

fn digest(program: &Path) -> std::io::Result<String> {
    let (mut file, mut hasher, mut buffer) = (File::open(program)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            bytes => hasher.update(&buffer[..bytes]),
        }
    }
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
    Ok(hasher.finalize().iter().flat_map(digits).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: &str, strategy: Strategy) -> DeploymentRequest {
        let regions = vec!["us-west".to_owned()];
        DeploymentRequest {
            id: "7".to_owned(),
            service: "api".to_owned(),
            version: version.to_owned(),
            regions,
            strategy,
        }
    }

    fn well() -> Facts {
        Facts {
            is_known: true,
            stable: Some("v1".to_owned()),
            recent: (0, 1_000),
            limit_milli: 50,
            waiting: (0, 1),
            ..Facts::default()
        }
    }

    fn violated(request: &DeploymentRequest, facts: &Facts) -> Vec<String> {
        let verdict = policy().evaluate(request, facts);
        verdict.violations().iter().map(|violation| violation.rule.to_string()).collect()
    }

    #[test]
    fn each_rule_rejects_by_itself() {
        let canary = request("v2", Strategy::Canary);
        assert_eq!(violated(&canary, &well()), Vec::<String>::new());
        for (facts, rule) in [
            (Facts { is_known: false, ..well() }, "version_known"),
            (Facts { artefact: Some("no".to_owned()), ..well() }, "artefact"),
            (Facts { full: [("us-west".to_owned(), (2, 4))].into(), ..well() }, "capacity"),
            (Facts { stable: None, ..well() }, "way_back"),
            (Facts { unhealthy: vec!["us-west".to_owned()], ..well() }, "healthy"),
            (Facts { recent: (51, 1_000), ..well() }, "objectives_met"),
            (Facts { brings: Some("6".to_owned()), ..well() }, "one_at_a_time"),
            (Facts { waiting: (1, 1), ..well() }, "queue"),
            (Facts { frozen: Some("a holiday".to_owned()), ..well() }, "freeze"),
        ] {
            assert_eq!(violated(&canary, &facts), [rule]);
        }
        assert!(violated(&canary, &Facts { recent: (50, 1_000), ..well() }).is_empty(), "at the limit");
        assert!(violated(&canary, &Facts { recent: (99, 99), ..well() }).is_empty(), "too few to say");
        assert_eq!(violated(&request("v1", Strategy::Canary), &well()), ["way_back"]);
        assert_eq!(violated(&request("v2", Strategy::First), &well()), ["way_back"]);
        assert!(violated(&request("v1", Strategy::First), &Facts { stable: None, ..well() }).is_empty());
    }

    #[test]
    fn an_id_is_what_a_script_can_be_told() {
        let longest = "x".repeat(ID_MAX);
        for id in ["7", "01a1fe7a-9ade-705b-b4bb-43f600edce9c", "release 7~", &longest] {
            assert_eq!(id_fault(id), None, "{id}");
        }
        let longer = "x".repeat(ID_MAX + 1);
        for id in ["", "a\0b", "a\nb", "\u{7f}", "süß", &longer] {
            assert!(id_fault(id).unwrap().ends_with("or leave it out"), "{id:?}");
        }
    }

    #[test]
    fn every_violation_is_reported() {
        let frozen = Some("a holiday, until Mon 00:00 UTC".to_owned());
        let facts =
            Facts { limit_milli: 50, recent: (100, 100), waiting: (1, 1), frozen, ..Facts::default() };
        let rules = ["version_known", "way_back", "objectives_met", "queue", "freeze"];
        assert_eq!(violated(&request("v2", Strategy::Canary), &facts), rules);
    }

    #[test]
    fn a_program_is_known_by_its_digest() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("program");
        std::fs::write(&program, "abc").unwrap();
        let command = vec![program.display().to_string()];
        // FIPS 180-2, appendix B.1.
        let right = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        for (sha256, sound) in [(None, true), (Some(right.to_owned()), true), (Some("0".repeat(64)), false)] {
            assert_eq!(inspect(&Artefact { command: command.clone(), sha256 }).is_none(), sound);
        }
        let missing = inspect(&Artefact { command: vec!["/no/such/program".to_owned()], sha256: None });
        assert_eq!(missing.unwrap(), "there is no program /no/such/program");
    }
}
