//! The bookshop: a sample application of several small services in one binary, and the test tools that go with it.
//!
//! The subcommand chooses the service (`productpage`, `details`, `reviews`, `ratings`, `stock`) or the tool
//! (`get`, `tcp`, `echo`, `ext-authz`, `files`). Requests pass from the product page to details and reviews, from reviews to ratings
//! (all HTTP/1.1), and from details to stock (raw TCP).

mod client;
mod headers;
mod lifecycle;
mod lines;
mod server;
mod services;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "bookshop",
    version,
    about = "A sample application for a service mesh, and tools to test it with"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The page a person looks at; asks details and reviews. Drains on SIGTERM
    Productpage(services::productpage::Arguments),
    /// Facts about the book; asks stock over raw TCP. Drains on SIGTERM
    Details(services::details::Arguments),
    /// What readers say, without stars (v1), with black (v2) or red ones (v3). Drains on SIGTERM
    Reviews(services::reviews::Arguments),
    /// Stars for each reviewer. Exits at once on SIGTERM, whatever is in flight
    Ratings(services::ratings::Arguments),
    /// How many copies are left, by a line protocol over raw TCP. Drains on SIGTERM
    Stock(services::stock::Arguments),
    /// Fetches a URL, once or again and again, and fails if an answer was not a success
    Get(tools::get::Arguments),
    /// Holds a raw TCP stream to a line echo, and fails if it was ever cut
    Tcp(tools::tcp::Arguments),
    /// Answers HTTP with the request as it was seen, and TCP with the lines that came
    Echo(tools::echo::Arguments),
    /// Allows or denies what sidecars ask it about, over HTTP and gRPC, as an external authorizer
    ExtAuthz(tools::ext_authz::Arguments),
    /// Serves the files of a folder over HTTPS, as an OpenID provider serves its keys
    Files(tools::files::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Productpage(arguments) => services::productpage::run(arguments).await,
        Command::Details(arguments) => services::details::run(arguments).await,
        Command::Reviews(arguments) => services::reviews::run(arguments).await,
        Command::Ratings(arguments) => services::ratings::run(arguments).await,
        Command::Stock(arguments) => services::stock::run(arguments).await,
        Command::Echo(arguments) => tools::echo::run(arguments).await,
        Command::ExtAuthz(arguments) => tools::ext_authz::run(arguments).await,
        Command::Files(arguments) => tools::files::run(arguments).await,
        Command::Get(arguments) => return tools::get::run(arguments).await,
        Command::Tcp(arguments) => return tools::tcp::run(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bookshop: {error}");
            ExitCode::FAILURE
        }
    }
}
