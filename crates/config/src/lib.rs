//! Configuration from a file, the environment and flags, with every mistake told at once.
//!
//! A program describes its configuration as types with serde's `Deserialize` and schemars' `JsonSchema`, says
//! with [`Check`] what no type can say, and reads it with [`Sources`]. What is wrong is told as a compiler does,
//! and nothing is started:
//!
//! ```
//! use gemba_config::{Check, Faults, Sources, schemars};
//!
//! #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
//! struct Fleet { strategy: Strategy, instances: Instances }
//!
//! #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
//! #[serde(rename_all = "snake_case")]
//! enum Strategy { OneForOne, OneForAll }
//!
//! #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
//! struct Instances { #[schemars(range(min = 1, max = 100))] min: u32, max: u32 }
//!
//! impl Check for Fleet {
//!     fn check(&self, faults: &mut Faults<'_>) {
//!         if self.instances.max < self.instances.min {
//!             faults.at("instances").at("min").add("is above max").beside("max");
//!         }
//!     }
//! }
//!
//! let text = "strategy = \"one_for_onee\"\ncolour = 1\n[instances]\nmin = 0\n";
//! let variables = [("FLEET__INSTANCES__MAX", "lots")];
//! let errors = Sources::new("FLEET").text("fleet.toml", text).variables(variables).load::<Fleet>().unwrap_err();
//! assert_eq!(errors.to_string(), r#"error: strategy is "one_for_onee"; give one of one_for_one, one_for_all
//!   --> fleet.toml:1:12
//!    1 | strategy = "one_for_onee"
//!      |            ^^^^^^^^^^^^^^
//!   help: did you mean "one_for_one"?
//! error: unknown key 'colour'
//!   --> fleet.toml:2:1
//!    2 | colour = 1
//!      | ^^^^^^
//!   help: the keys here: strategy, instances
//! error: instances.min is 0; give a whole number from 1 to 100
//!   --> fleet.toml:4:7
//!    4 | min = 0
//!      |       ^
//! error: instances.max is "lots"; give a whole number of at least 0
//!   --> FLEET__INSTANCES__MAX in the environment
//! 4 problems in the configuration"#);
//! ```
//!
//! | for | there is |
//! | --- | --- |
//! | reading and checking | [`Sources::load`] |
//! | where a value comes from | [`Loaded::origin`], [`Loaded::print`] |
//! | editors | [`schema()`] |
//! | a program that writes a file | [`to_toml`] |
//! | documentation | [`keys()`], [`keys_table()`] |
//!
//! # What to know
//!
//! Keys that no field has are refused, whether or not the type says so; a struct with `#[serde(flatten)]` cannot
//! tell, and takes all. Ranges belong into the schema: `#[schemars(range(min = 1))]` is checked and documented.
//! A field with `#[schemars(extend("writeOnly" = true))]` is a secret and is never shown, nor is a line of the
//! file that may have it, because the key is misspelt or the line cannot be read: its number has to do. What
//! [`Check`] says is shown as it is. Something has to stand in for a wrong value while the rest is looked at:
//! nothing, zero, an address, a date. A type that takes none of these should have a default or an example in its
//! schema, or what [`Check`] would find is told only in the next round.

mod check;
mod decode;
mod fault;
mod file;
mod keys;
mod node;
mod path;
mod print;
mod schema;
mod secret;
mod settle;
mod sources;

pub use check::{Check, Faults, Found, did_you_mean};
pub use fault::{ConfigErrors, Fault};
pub use keys::{KeyInfo, keys, keys_table, schema};
pub use node::Origin;
pub use print::to_toml;
pub use schemars;
pub use sources::{Loaded, Sources};
