//! What a type cannot say by itself: how its values have to fit each other.

use crate::path::{KeyPath, Segment};

/// A configuration that may have mistakes no single value shows.
///
/// [`check`](Self::check) is called when every value has its type, or something to stand in for it, and
/// reports all it finds. What depends on a value that is wrong by itself is held back: name that value with
/// [`Found::beside`].
///
/// # Examples
///
/// ```
/// use gemba_config::{Check, Faults, Sources};
///
/// #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
/// struct Pool { workers_min: u32, workers_max: u32 }
///
/// impl Check for Pool {
///     fn check(&self, faults: &mut Faults<'_>) {
///         if self.workers_max < self.workers_min {
///             faults.at("workers_min").add("is above workers_max").beside("workers_max");
///         }
///     }
/// }
///
/// let text = "workers_min = 8\nworkers_max = 4\n";
/// let errors = Sources::new("APP").text("app.toml", text).load::<Pool>().unwrap_err();
/// assert_eq!(errors.faults()[0].message(), "workers_min: is above workers_max");
/// ```
pub trait Check {
    /// Reports what is wrong; by default nothing is.
    fn check(&self, faults: &mut Faults<'_>) {
        let _ = faults;
    }
}

/// Where mistakes are reported, at one place of the configuration.
#[derive(Debug)]
pub struct Faults<'a> {
    at: KeyPath,
    found: &'a mut Vec<Found>,
}

/// A mistake that was reported.
#[derive(Debug)]
pub struct Found {
    pub(crate) at: KeyPath,
    pub(crate) message: String,
    pub(crate) beside: Vec<KeyPath>,
    pub(crate) help: Option<String>,
}

impl<'a> Faults<'a> {
    pub(crate) fn new(found: &'a mut Vec<Found>) -> Self {
        Self { at: KeyPath::default(), found }
    }

    /// The same one key further down.
    pub fn at(&mut self, key: &str) -> Faults<'_> {
        Faults { at: self.at.key(key), found: self.found }
    }

    /// The same at a place of a list, counted from 0.
    pub fn item(&mut self, index: usize) -> Faults<'_> {
        Faults { at: self.at.with(Segment::Index(index)), found: self.found }
    }

    /// Reports a mistake of the value here. The message follows the path, as in `workers_min: is above …`.
    pub fn add(&mut self, message: impl Into<String>) -> &mut Found {
        let (at, message) = (self.at.clone(), message.into());
        self.found.push(Found { at, message, beside: Vec::new(), help: None });
        self.found.last_mut().expect("it was just added")
    }

    /// Reports that the value here names something that is not there, with what is, and what was probably meant.
    pub fn unknown<'n>(&mut self, what: &str, given: &str, known: impl IntoIterator<Item = &'n str>) {
        let known: Vec<_> = known.into_iter().collect();
        let meant = did_you_mean(given, known.iter().copied());
        let all = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let help = meant.map(|meant| format!("did you mean '{meant}'?"));
        self.add(format!("no {what} is called '{given}'; there are: {all}")).help = help;
    }
}

impl Found {
    /// Names another key of the same table that the mistake depends on: its place is shown too, and if its
    /// value is wrong by itself, this is held back.
    pub fn beside(&mut self, key: &str) -> &mut Self {
        let parent = self.at.parent().unwrap_or_default();
        self.beside.push(parent.key(key));
        self
    }

    /// Says what may help.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }
}

/// The name that was probably meant by one that is not there: it differs in a third of its letters at most.
pub fn did_you_mean<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(&given.to_lowercase(), &name.to_lowercase());
    let (meant, distance) =
        known.into_iter().map(|name| (name, distance(name))).min_by_key(|(_, distance)| *distance)?;
    (distance <= (given.chars().count() / 3).max(1)).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_near_to_what_was_written() {
        let known = ["workers_min", "workers_max", "target"];
        for (given, meant) in [
            ("wokers_min", Some("workers_min")),
            ("Workers_Max", Some("workers_max")),
            ("taregt", Some("target")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(did_you_mean(given, known), meant, "{given}");
        }
        assert_eq!(did_you_mean("a", []), None);
    }
}
