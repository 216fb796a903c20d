//! The four lights of the andon board.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a station shows. Ordered: a worse light is greater, and the whole is as bad as its worst part.
///
/// A light is never told by colour alone: each has a word and a glyph.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[doc(alias = "andon")]
pub enum Light {
    /// As it should be.
    #[default]
    Green,
    /// Capacity or redundancy is reduced; someone should look.
    Yellow,
    /// A person must act now.
    Red,
    /// It takes itself out of service: finish what is in flight, admit nothing.
    Purple,
}

impl Light {
    /// All lights, best first.
    pub const ALL: [Self; 4] = [Self::Green, Self::Yellow, Self::Red, Self::Purple];

    /// The word beside the light.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Green => "normal",
            Self::Yellow => "warning",
            Self::Red => "critical",
            Self::Purple => "draining",
        }
    }

    /// The name of the colour, as it stands in labels.
    pub const fn colour(self) -> &'static str {
        match self {
            Self::Green => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
            Self::Purple => "purple",
        }
    }

    /// The shape of the light, one column wide.
    pub const fn glyph(self) -> &'static str {
        match self {
            Self::Green => "●",
            Self::Yellow => "▲",
            Self::Red => "■",
            Self::Purple => "◆",
        }
    }
}

impl fmt::Display for Light {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.colour())
    }
}
