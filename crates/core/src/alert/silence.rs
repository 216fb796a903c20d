//! Silences: stations of which nobody wants to hear until a moment that is fixed in advance.

use std::sync::Arc;
use std::time::Duration;

use crate::name::Name;
use crate::time::Timestamp;

/// The longest silence: what is to be quiet for longer should not be an alert.
pub const SILENCE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Silences at a time; a new one beyond takes the place of the one that ends first.
pub const SILENCES_MAX: usize = 100;

/// Stations that are quiet until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Silence {
    /// A station's name, or the beginning of names with a `*` behind it.
    pub(super) stations: Arc<str>,
    pub(super) until: Timestamp,
}

impl Silence {
    pub(super) fn covers(&self, station: &Name) -> bool {
        match self.stations.strip_suffix('*') {
            Some(beginning) => station.as_str().starts_with(beginning),
            None => station.as_str() == &*self.stations,
        }
    }
}

/// Adds a silence; a later one for the same stations replaces the earlier, so that zero time ends it.
pub(super) fn add(silences: &mut Vec<Silence>, new: Silence) {
    silences.retain(|silence| silence.stations != new.stations);
    if SILENCES_MAX <= silences.len()
        && let Some(first) = (0..silences.len()).min_by_key(|index| silences[*index].until)
    {
        silences.remove(first);
    }
    silences.push(new);
}
