//! The command line.

fn main() -> std::process::ExitCode {
    sg_userspace::ctl::main()
}
