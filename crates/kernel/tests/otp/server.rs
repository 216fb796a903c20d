//! Rows G01–G28: the server.
