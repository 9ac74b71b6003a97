//! What an administrator sets.

/// The control socket.
pub const DEFAULT_SOCKET: &str = "/run/sg/sgd.sock";
