//! Views as text, at any width from 80 columns: pure functions, so that tests see what people see.

mod board;
mod defects;
mod health;
mod receipts;
mod reload;
mod review;
mod text;
mod tree;
mod why;

pub(crate) use board::{bar, board};
pub(crate) use health::health;
pub(crate) use receipts::receipts;
pub(crate) use reload::reloaded;
pub(crate) use review::review;
pub(crate) use text::{Page, clean, clean_lines, clock, colours_are_wanted, cut, left, right, span};
pub(crate) use tree::{state_light, tree};
pub(crate) use why::{Chain, why};

#[cfg(test)]
pub(crate) use board::sample::troubled as board_sample;
#[cfg(test)]
pub(crate) use receipts::sample::crash as receipts_sample;
#[cfg(test)]
pub(crate) use tree::sample::{actor as actor_sample, plant as tree_sample};
