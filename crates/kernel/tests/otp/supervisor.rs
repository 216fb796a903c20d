//! Rows S01–S91: the supervisor.
