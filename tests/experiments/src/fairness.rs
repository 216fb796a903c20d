//! E9: whether a tenant that sends ten times as much, or work that takes longer, harms the others.

use gemba::sim::client::Client;

use crate::contenders::Kind;
use crate::drive::Run;
use crate::finding::{Finding, Report};
use crate::rounds::rounds;
use crate::scale::Scale;
use crate::trace::{Model, Sender, Trace};

const KINDS: [Kind; 4] = [Kind::Ours, Kind::Gradient2, Kind::Bounded, Kind::Tower];

/// Tenants, the first of which is the greedy one.
const TENANTS: usize = 10;

/// What each of the others sends, in times of the capacity: less than its share.
const EACH: f64 = 0.08;

/// What the greedy one sends: ten times as much, in two ways.
const GREEDY: [(&str, Sender); 2] = [
    ("ten times as many signals", Sender { load: 0.8, cost: 1.0 }),
    ("2.5 times as many, 4 times as long", Sender { load: 0.2, cost: 4.0 }),
];

#[derive(Debug, Clone, Copy)]
struct Figures {
    /// Of what the others sent, the share that was served.
    others: f64,
    /// The least of one of them.
    least: f64,
    jain: f64,
    goodput: f64,
}

impl Figures {
    fn of(run: &Run, scale: &Scale, greedy: Sender) -> Self {
        let (from, to) = (scale.warm_up, run.trace.lasts);
        let (mut offered, mut served) = ([0.0; TENANTS], [0.0; TENANTS]);
        for sample in run.within(from, to) {
            let tenant = usize::from(sample.tenant) - 1;
            offered[tenant] += 1.0;
            served[tenant] += f64::from(u8::from(sample.good));
        }
        let share = |tenant: usize| served[tenant] / f64::max(offered[tenant], 1.0);
        // What each is due: the others all they ask for, the greedy one what they leave.
        let left = 1.0 - (TENANTS - 1) as f64 * EACH;
        let capacity = run.capacity_per_s * (to.saturating_sub(from)).as_secs_f64();
        let greedy_of_due = served[0] * greedy.cost / (left * capacity);
        let of_due: Vec<f64> = (1..TENANTS).map(share).chain([greedy_of_due.min(1.0)]).collect();
        let (sum, squares) = (of_due.iter().sum::<f64>(), of_due.iter().map(|part| part * part).sum::<f64>());
        Self {
            others: (1..TENANTS).map(share).sum::<f64>() / (TENANTS - 1) as f64,
            least: (1..TENANTS).map(share).fold(1.0, f64::min),
            jain: sum * sum / (TENANTS as f64 * squares.max(f64::MIN_POSITIVE)),
            goodput: (served[1..].iter().sum::<f64>() + served[0] * greedy.cost) / capacity,
        }
    }
}

pub(crate) fn run(scale: &Scale) -> Vec<Report> {
    let note = "nine tenants with 0.08 C each, and one with ten times that";
    let mut report = Report { number: "E9", title: "tenant fairness", note, ..Report::default() };
    let lasts = scale.warm_up + scale.measured;
    for (case, greedy) in GREEDY {
        let mut senders = [Sender { load: EACH, cost: 1.0 }; TENANTS];
        senders[0] = greedy;
        let kinds = scale.of(&KINDS);
        let trace = |seed| Trace::tenants(Model::SLEEPS, &senders, lasts, seed);
        let look = |run: &Run| Figures::of(run, scale, greedy);
        let of = rounds(&mut report, kinds, (scale.rounds, scale.warm_up), Client::ONCE, trace, look);
        let row = |name: &'static str, figure: fn(&Figures) -> f64| {
            let pick = |of: &[Figures]| of.iter().map(figure).collect();
            let ours = Finding::new(case, name, pick(&of[0]));
            let others = kinds.iter().zip(&of).skip(1);
            others.fold(ours, |row, (kind, of)| row.beside(kind.word(), pick(of)))
        };
        report.findings.push(row("served of what the others sent", |of| of.others).at_least(0.98));
        report.findings.push(row("the least of one of them", |of| of.least));
        report.findings.push(row("Jain's index of what each is due", |of| of.jain).at_least(0.98));
        report.findings.push(row("goodput / capacity", |of| of.goodput).at_least(0.95));
    }
    vec![report]
}
