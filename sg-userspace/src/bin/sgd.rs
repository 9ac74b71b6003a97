//! The daemon.

fn main() -> std::process::ExitCode {
    sg_userspace::daemon::server::main()
}
