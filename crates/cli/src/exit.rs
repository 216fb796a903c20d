//! How the command ends: one code for each kind of trouble, one sentence on stderr.

use std::error::Error;
use std::process::ExitCode;

use gemba::ClientError;

/// The exit codes. Wrong usage, 2, is clap's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It worked.
    Fine,
    /// It did not.
    Failed,
    /// It was asked for in a wrong way.
    Usage,
    /// No node answers.
    Unreachable,
    /// The node refuses.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Refused => 4,
        })
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Address { .. } => Self::Usage,
            ClientError::Unreachable { .. } => Self::Unreachable,
            ClientError::Unauthorized { .. } | ClientError::Refused { .. } => Self::Refused,
            ClientError::NotFound { .. } | ClientError::Failed { .. } | ClientError::Invalid { .. } | _ => {
                Self::Failed
            }
        }
    }
}

/// An error with what caused it, as one sentence.
pub(crate) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_has_its_code() {
        let detail: Box<str> = "x".into();
        for (error, exit) in [
            (ClientError::Address { url: detail.clone() }, Exit::Usage),
            (ClientError::Unauthorized { detail: detail.clone() }, Exit::Refused),
            (ClientError::Refused { detail: detail.clone() }, Exit::Refused),
            (ClientError::NotFound { detail }, Exit::Failed),
        ] {
            assert_eq!(Exit::from(&error), exit, "{error}");
        }
    }
}
