//! The binary `baken`: sets the allocator and hands over to the library.

/// Keeps memory steady under many connections that come and go.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    server::command::main()
}
