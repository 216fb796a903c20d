//! The configuration of the manager: a file, the environment, flags; checked as a whole.

use std::path::PathBuf;

use gemba::config::{ConfigErrors, Loaded, Sources, schema};

use crate::fleet::Fleet;

/// What variables of the environment begin with: `DEPLOYMENT__QUEUE__RUNNING_MAX` is `queue.running_max`.
pub const PREFIX: &str = "DEPLOYMENT";

/// Where the configuration comes from. Flags override the environment, and that the file.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigOptions {
    /// The file of the fleet; read again on SIGHUP.
    #[arg(long, value_name = "FILE", default_value = "fleet.toml")]
    pub config: PathBuf,
    /// Where the manager takes requests; port 0 takes a free one and prints it.
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Where the inspector listens.
    #[arg(long, value_name = "ADDR")]
    pub inspect: Option<String>,
    /// The file of its record; made if there is none.
    #[arg(long, value_name = "FILE")]
    pub database: Option<String>,
    /// Any other key, as in `--set queue.running_max=2`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let parts = parts.map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.ok_or_else(|| "write it like queue.running_max=2".to_owned())
}

impl ConfigOptions {
    /// Reads and checks the configuration, as it is now.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every mistake.
    pub fn load(&self) -> Result<Loaded<Fleet>, ConfigErrors> {
        let mut sources = Sources::new(PREFIX).file(&self.config).environment();
        for (key, value) in &self.set {
            sources = sources.flag(key, "--set", value);
        }
        let flags = [
            ("listen", "--listen", &self.listen),
            ("inspect", "--inspect", &self.inspect),
            ("database", "--database", &self.database),
        ];
        for (key, flag, value) in flags {
            if let Some(value) = value {
                sources = sources.flag(key, flag, value);
            }
        }
        sources.load()
    }
}

/// What can be done with a configuration without starting anything.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ConfigVerb {
    /// Say whether it is right; exit code 2 and every mistake if it is not.
    Check(ConfigOptions),
    /// Write every value that would be in force.
    Print {
        /// Where the configuration comes from.
        #[command(flatten)]
        options: ConfigOptions,
        /// Say of each where it comes from.
        #[arg(long)]
        origin: bool,
    },
    /// Write the JSON Schema, for editors.
    Schema,
}

impl ConfigVerb {
    /// Does it, and says what is to be shown.
    ///
    /// # Errors
    ///
    /// [`ConfigErrors`] with every mistake.
    pub fn execute(&self) -> Result<String, ConfigErrors> {
        match self {
            Self::Check(options) => options.load().map(|_| "the configuration is right\n".to_owned()),
            Self::Print { options, origin } => Ok(options.load()?.print(*origin)),
            Self::Schema => Ok(schema::<Fleet>() + "\n"),
        }
    }
}
