//! The file of baselines: read once, written whole, replaced in one step.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gemba_core::baseline::Baselines;

/// Why baselines could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it is no file of baselines ({0}); move it away to begin anew")]
    Text(#[from] serde_json::Error),
    #[error("{0}")]
    Format(#[from] gemba_core::baseline::FormatError),
}

/// Reads the file; one that does not exist holds no baselines.
pub(crate) fn read(path: &Path) -> Result<Baselines, ReadError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Baselines::new()),
        Err(error) => return Err(error.into()),
    };
    Ok(serde_json::from_slice::<Baselines>(&bytes)?.check()?)
}

/// Writes the file beside its place and moves it there: whoever reads sees the old one or the new one.
pub(crate) fn write(path: &Path, baselines: &Baselines) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let mut file = fs::File::create(&beside)?;
    file.write_all(&serde_json::to_vec(baselines)?)?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use gemba_core::baseline::{Baseline, Measured};

    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_no_baseline_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("baselines.json");
        assert_eq!(read(&path).unwrap(), Baselines::new());
        let mut baselines = Baselines::new();
        let measured = Measured { latencies: [(1_000, 500)].into_iter().collect(), lasted_ms: 1_000 };
        baselines.set("payment".parse().unwrap(), Baseline::new(measured, "0.1.0".into(), 7));
        write(&path, &baselines).unwrap();
        write(&path, &baselines).unwrap();
        assert_eq!(read(&path).unwrap(), baselines);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        fs::write(&path, "{").unwrap();
        assert!(matches!(read(&path), Err(ReadError::Text(_))));
    }
}
