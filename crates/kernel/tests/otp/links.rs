//! Rows R01–R20: links, monitors, the registry and groups.
