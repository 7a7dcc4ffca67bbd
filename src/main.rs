//! The command `tidegate`; everything it does is in the library.

fn main() -> std::process::ExitCode {
    tidegate::cli::main(tidegate::demo::run)
}
