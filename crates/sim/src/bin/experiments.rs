//! Runs the experiments in virtual time, prints one table, and fails if a target is missed that is not known to be.
//!
//! `experiments [--quick] [folder of the plots]`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{fs, io};

use gemba_sim::experiments::{ALL, Experiment, Scale, table};

/// Where the plots go, unless another folder is the first argument.
const PLOTS: &str = "target/experiments";

fn main() -> ExitCode {
    let (options, folders): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word == "--quick");
    let scale = if options.is_empty() { Scale::FULL } else { Scale::QUICK };
    let folder = PathBuf::from(folders.first().map_or(PLOTS, String::as_str));
    let experiments: Vec<Experiment> = ALL.iter().flat_map(|run| run(&scale)).collect();
    print!("{}", table::print(&experiments));
    if let Err(error) = write_plots(&folder, &experiments) {
        eprintln!("experiments: cannot write plots to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    println!("Plots: {}", folder.display());
    if experiments.iter().all(Experiment::is_as_known) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write_plots(folder: &Path, experiments: &[Experiment]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut plots = experiments.iter().flat_map(|experiment| &experiment.plots);
    plots.try_for_each(|(name, svg)| fs::write(folder.join(name), svg))
}
