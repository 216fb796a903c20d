//! Compares what clients were told with the service's database and the gateway's own record.
//!
//! Three parties, three records: nothing here is counted by the one it is about.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde::Serialize;

use crate::demo::pay::Acknowledged;

/// Why the books could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {book}")]
pub(crate) struct AuditError {
    book: &'static str,
    source: rusqlite::Error,
}

/// What the gateway charged under one reference.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Charged {
    times: u64,
    amount_minor: i64,
    currency: String,
}

/// Sums of one currency, in minor units, from the three records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[allow(clippy::struct_field_names, reason = "JSON has no types: the unit stands in the name")]
pub(crate) struct Sums {
    /// What clients were told had been paid.
    pub(crate) acknowledged_minor: i64,
    /// What the service's database says was captured.
    pub(crate) captured_minor: i64,
    /// What the gateway charged for payments whose outcome the service does not know yet.
    pub(crate) unresolved_minor: i64,
    /// What the gateway charged.
    pub(crate) charged_minor: i64,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Payments a client was told were made, and that are not captured, or not charged, or not that much.
    pub(crate) lost: u64,
    /// References charged more than once.
    pub(crate) charged_twice: u64,
    /// Charges of the gateway without a payment that is captured with this amount, or unresolved.
    pub(crate) charged_only: u64,
    /// Payments captured in the database that the gateway did not charge.
    pub(crate) captured_only: u64,
    /// Payments whose outcome the service does not know yet.
    pub(crate) unresolved: u64,
    /// The sums of each currency.
    pub(crate) sums: BTreeMap<String, Sums>,
}

/// Both books, open for reading.
#[derive(Debug)]
pub(crate) struct Auditor {
    service: Connection,
    gateway: Connection,
    charged: HashMap<String, Charged>,
    last_charge: i64,
}

impl Auditor {
    /// Opens both databases; a running process may go on writing them.
    pub(crate) fn open(service: &Path, gateway: &Path) -> Result<Self, AuditError> {
        let open = |path: &Path, book| {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            Connection::open_with_flags(path, flags).map_err(|source| AuditError { book, source })
        };
        Ok(Self {
            service: open(service, SERVICE)?,
            gateway: open(gateway, GATEWAY)?,
            charged: HashMap::new(),
            last_charge: 0,
        })
    }

    /// How many of `acknowledged` are lost, and how many references were charged twice until now.
    ///
    /// It may run while payments are made: what was acknowledged before is on both disks.
    pub(crate) fn glance(&mut self, acknowledged: &[Acknowledged]) -> Result<(u64, u64), AuditError> {
        self.read_charges().map_err(|source| AuditError { book: GATEWAY, source })?;
        let mut lost = 0;
        for payment in acknowledged {
            lost += u64::from(self.is_lost(payment).map_err(|source| AuditError { book: SERVICE, source })?);
        }
        Ok((lost, self.charged_twice()))
    }

    /// Compares everything. To be called when nobody writes any more.
    pub(crate) fn compare(&mut self, acknowledged: &[Acknowledged]) -> Result<Findings, AuditError> {
        let (lost, charged_twice) = self.glance(acknowledged)?;
        let mut findings = Findings { lost, charged_twice, ..Findings::default() };
        for payment in acknowledged {
            findings.sum(payment.currency).acknowledged_minor += payment.amount_minor;
        }
        self.compare_payments(&mut findings).map_err(|source| AuditError { book: SERVICE, source })?;
        Ok(findings)
    }

    fn charged_twice(&self) -> u64 {
        self.charged.values().filter(|charged| 1 < charged.times).count() as u64
    }

    fn read_charges(&mut self) -> rusqlite::Result<()> {
        let mut newer = self.gateway.prepare_cached(
            "SELECT id, reference, amount_minor, currency FROM charge WHERE outcome = 'charged' AND id > ?1 ORDER BY id",
        )?;
        let mut rows = newer.query([self.last_charge])?;
        while let Some(row) = rows.next()? {
            self.last_charge = row.get(0)?;
            let (amount_minor, currency) = (row.get(2)?, row.get(3)?);
            let charged =
                self.charged.entry(row.get(1)?).or_insert(Charged { times: 0, amount_minor, currency });
            charged.times += 1;
        }
        Ok(())
    }

    fn is_lost(&self, payment: &Acknowledged) -> rusqlite::Result<bool> {
        let mut found = self
            .service
            .prepare_cached("SELECT state, amount_minor, currency, reference FROM payment WHERE id = ?1")?;
        let row = found
            .query_row([&payment.payment], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get(1)?,
                    row.get::<_, String>(2)?,
                    row.get::<_, String>(3)?,
                ))
            })
            .optional()?;
        let Some((state, amount_minor, currency, reference)) = row else {
            return Ok(true);
        };
        let is_captured =
            state == "captured" && amount_minor == payment.amount_minor && currency == payment.currency;
        Ok(!(is_captured && self.is_charged(&reference, amount_minor, &currency)))
    }

    fn is_charged(&self, reference: &str, amount_minor: i64, currency: &str) -> bool {
        self.charged
            .get(reference)
            .is_some_and(|charged| charged.amount_minor == amount_minor && charged.currency == currency)
    }

    fn compare_payments(&self, findings: &mut Findings) -> rusqlite::Result<()> {
        let mut unclaimed = self.charged.clone();
        let mut payments =
            self.service.prepare("SELECT state, amount_minor, currency, reference FROM payment")?;
        let mut rows = payments.query([])?;
        while let Some(row) = rows.next()? {
            let (state, amount_minor, currency): (String, i64, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let reference: String = row.get(3)?;
            match state.as_str() {
                "captured" => {
                    findings.sum(&currency).captured_minor += amount_minor;
                    if self.is_charged(&reference, amount_minor, &currency) {
                        unclaimed.remove(&reference);
                    } else {
                        findings.captured_only += 1;
                    }
                }
                "authorising" | "unknown" => {
                    findings.unresolved += 1;
                    if let Some(charged) = unclaimed.remove(&reference) {
                        findings.sum(&charged.currency).unresolved_minor += charged.amount_minor;
                    }
                }
                _ => {}
            }
        }
        findings.charged_only = unclaimed.len() as u64;
        for charged in self.charged.values() {
            let times = i64::try_from(charged.times).unwrap_or(i64::MAX);
            findings.sum(&charged.currency).charged_minor += charged.amount_minor * times;
        }
        Ok(())
    }
}

impl Findings {
    fn sum(&mut self, currency: &str) -> &mut Sums {
        if !self.sums.contains_key(currency) {
            self.sums.insert(currency.to_owned(), Sums::default());
        }
        self.sums.get_mut(currency).expect("it was put there")
    }

    /// Whether database and gateway tell of the same money.
    pub(crate) fn books_agree(&self) -> bool {
        self.charged_only == 0
            && self.captured_only == 0
            && self.sums.values().all(|sums| {
                sums.captured_minor + sums.unresolved_minor == sums.charged_minor
                    && sums.acknowledged_minor <= sums.captured_minor
            })
    }
}

const SERVICE: &str = "the service's database";
const GATEWAY: &str = "the gateway's record";

#[cfg(test)]
mod tests {
    use super::*;

    const PAYMENTS: &str = "CREATE TABLE payment (id TEXT PRIMARY KEY, amount_minor INTEGER, currency TEXT, state TEXT, reference TEXT);
        INSERT INTO payment VALUES ('p1', 100, 'EUR', 'captured', 'r1'), ('p2', 200, 'EUR', 'captured', 'r2'),
        ('p3', 300, 'JPY', 'declined', 'r3'), ('p4', 400, 'EUR', 'unknown', 'r4');";
    const CHARGES: &str = "CREATE TABLE charge (id INTEGER PRIMARY KEY AUTOINCREMENT, reference TEXT, amount_minor INTEGER, currency TEXT, outcome TEXT);
        INSERT INTO charge (reference, amount_minor, currency, outcome) VALUES
        ('r1', 100, 'EUR', 'charged'), ('r2', 200, 'EUR', 'charged'), ('r3', 300, 'JPY', 'declined');";

    /// The books after `gateway` and `service` were changed by these statements.
    fn auditor(service: &str, gateway: &str) -> Auditor {
        let book = |schema: &str, change: &str| {
            let book = Connection::open_in_memory().unwrap();
            book.execute_batch(schema).unwrap();
            book.execute_batch(change).unwrap();
            book
        };
        Auditor {
            service: book(PAYMENTS, service),
            gateway: book(CHARGES, gateway),
            charged: HashMap::new(),
            last_charge: 0,
        }
    }

    fn told(payment: &str, amount_minor: i64) -> Acknowledged {
        Acknowledged { payment: payment.into(), amount_minor, currency: "EUR" }
    }

    #[test]
    fn books_that_agree_have_no_findings() {
        let findings = auditor("", "").compare(&[told("p1", 100), told("p2", 200)]).unwrap();
        assert_eq!((findings.lost, findings.charged_twice, findings.unresolved), (0, 0, 1));
        assert!(findings.books_agree(), "{findings:?}");
        let euros =
            Sums { acknowledged_minor: 300, captured_minor: 300, charged_minor: 300, ..Sums::default() };
        assert_eq!(findings.sums["EUR"], euros);
    }

    #[test]
    fn a_payment_missing_anywhere_is_lost() {
        let acknowledged = [told("p1", 100), told("p2", 200)];
        for (service, gateway) in [
            ("DELETE FROM payment WHERE id = 'p1'", ""),
            ("UPDATE payment SET state = 'unknown' WHERE id = 'p1'", ""),
            ("UPDATE payment SET amount_minor = 99 WHERE id = 'p1'", ""),
            ("UPDATE payment SET currency = 'USD' WHERE id = 'p1'", ""),
            ("", "DELETE FROM charge WHERE reference = 'r1'"),
            ("", "UPDATE charge SET outcome = 'declined' WHERE reference = 'r1'"),
            ("", "UPDATE charge SET amount_minor = 99 WHERE reference = 'r1'"),
        ] {
            let findings = auditor(service, gateway).compare(&acknowledged).unwrap();
            assert_eq!(findings.lost, 1, "{service}{gateway}");
            assert!(!findings.books_agree(), "{service}{gateway}");
        }
        assert_eq!(auditor("", "").compare(&[told("p9", 1)]).unwrap().lost, 1);
    }

    #[test]
    fn a_second_charge_and_a_charge_without_payment_are_found() {
        let again = "INSERT INTO charge (reference, amount_minor, currency, outcome) VALUES ('r1', 100, 'EUR', 'charged')";
        let findings = auditor("", again).compare(&[told("p1", 100)]).unwrap();
        assert_eq!((findings.lost, findings.charged_twice), (0, 1));
        assert!(!findings.books_agree());

        let stray = "INSERT INTO charge (reference, amount_minor, currency, outcome) VALUES ('r9', 5, 'EUR', 'charged')";
        let findings = auditor("", stray).compare(&[]).unwrap();
        assert_eq!((findings.charged_twice, findings.charged_only), (0, 1));
    }

    #[test]
    fn a_charge_whose_answer_was_lost_waits_for_the_reconciler() {
        let unknown = "INSERT INTO charge (reference, amount_minor, currency, outcome) VALUES ('r4', 400, 'EUR', 'charged')";
        let findings = auditor("", unknown).compare(&[told("p1", 100)]).unwrap();
        assert_eq!((findings.unresolved, findings.charged_only), (1, 0));
        assert_eq!(findings.sums["EUR"].unresolved_minor, 400);
        assert!(findings.books_agree(), "{findings:?}");
    }

    #[test]
    fn a_glance_reads_only_what_is_new() {
        let mut auditor = auditor("", "");
        assert_eq!(auditor.glance(&[told("p1", 100)]).unwrap(), (0, 0));
        let again = "INSERT INTO charge (reference, amount_minor, currency, outcome) VALUES ('r2', 200, 'EUR', 'charged')";
        auditor.gateway.execute_batch(again).unwrap();
        assert_eq!(auditor.glance(&[told("p2", 200), told("p9", 1)]).unwrap(), (1, 1));
    }
}
