//! Runs the experiments in virtual time, prints one table, and fails if a target is missed.

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use gemba_sim::experiments::{ALL, Experiment, Scale, table};

/// Where the plots go, unless another folder is the first argument.
const PLOTS: &str = "target/experiments";

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| PLOTS.to_owned()));
    let experiments: Vec<Experiment> = ALL.iter().flat_map(|run| run(&Scale::FULL)).collect();
    print!("{}", table::print(&experiments));
    if let Err(error) = write_plots(&folder, &experiments) {
        eprintln!("experiments: cannot write plots to {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    println!("Plots: {}", folder.display());
    if experiments.iter().all(Experiment::is_met) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write_plots(folder: &PathBuf, experiments: &[Experiment]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut plots = experiments.iter().flat_map(|experiment| &experiment.plots);
    plots.try_for_each(|(name, svg)| fs::write(folder.join(name), svg))
}
