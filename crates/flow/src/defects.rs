//! A cell: what went wrong with the signals of a line, counted by class.

#![allow(clippy::disallowed_types, reason = "one of the cells of docs/architecture.md")]

use std::cmp::Reverse;
use std::sync::{Mutex, MutexGuard};

use gemba_core::view::DefectView;

/// Classes told apart for each line, those of the runtime included; what is beyond counts as `other`.
pub const CLASSES_MAX: usize = 16;

/// The class of what has no place any more.
pub(crate) const OTHER: &str = "other";

/// The class of a signal whose action ran out of time.
pub(crate) const TIMED_OUT: &str = "timed_out";

/// The class of a signal whose worker died.
pub(crate) const WORKER_DIED: &str = "worker_died";

/// Only what failed comes here: a line that works well never takes the lock.
#[derive(Debug, Default)]
pub(crate) struct Defects(Mutex<Vec<(&'static str, u64)>>);

impl Defects {
    fn classes(&self) -> MutexGuard<'_, Vec<(&'static str, u64)>> {
        self.0.lock().expect("nothing panics while it counts")
    }

    pub(crate) fn count(&self, class: &'static str) {
        let mut classes = self.classes();
        // The last place is kept for all the others.
        let full = CLASSES_MAX - 1 <= classes.len();
        let known = |classes: &[(&str, u64)], class| classes.iter().position(|(known, _)| *known == class);
        let class = if full && known(&classes, class).is_none() { OTHER } else { class };
        match known(&classes, class) {
            Some(index) => classes[index].1 += 1,
            None => classes.push((class, 1)),
        }
    }

    /// Each class with its count since the node started, the most frequent first; of two alike, by name.
    pub(crate) fn view(&self) -> Vec<DefectView> {
        let mut classes = self.classes().clone();
        classes.sort_by_key(|(class, count)| (Reverse(*count), *class));
        classes.into_iter().map(|(class, count)| DefectView { class: class.into(), count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_class_is_first_and_what_has_no_place_is_counted_together() {
        const NAMES: [&str; 20] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s",
            "t",
        ];
        let defects = Defects::default();
        for name in NAMES {
            defects.count(name);
        }
        defects.count("c");
        for _ in 0..9 {
            defects.count("t");
        }
        let view = defects.view();
        let shown: Vec<_> = view.iter().map(|defect| (&*defect.class, defect.count)).collect();
        // The first fifteen have a place of their own; five names came too late.
        assert_eq!(shown.len(), CLASSES_MAX);
        assert_eq!(shown[..3], [("other", 5 + 9), ("c", 2), ("a", 1)]);
        assert_eq!(view.iter().map(|defect| defect.count).sum::<u64>(), 30);
    }
}
