//! h2spec, the conformance tests of HTTP/2, against the inbound listener under PERMISSIVE. `hack/tools h2spec` brings it.

use std::path::PathBuf;

use super::http2::{echo, run, serve};
use super::namespaces::{shown, within};
use super::world::{FIXTURES, OTHER, SERVER, World, skipped};

fn h2spec() -> Option<PathBuf> {
    let cache = std::env::var_os("PINNACE_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/pinnace");
    let binary = cache.unwrap_or_else(home).join("bin/h2spec");
    if !binary.exists() {
        let path = binary.display();
        skipped(&format!("{path} is not there; hack/tools h2spec brings it"));
        return None;
    }
    Some(binary)
}

#[test]
fn the_inbound_listener_speaks_http2_as_specified() {
    let Some(h2spec) = h2spec() else { return };
    let Some(mut world) = World::new() else { return };
    let server = world.pod("server", SERVER);
    let outside = world.pod("outside", OTHER);
    world.fixtures(FIXTURES);
    world.discovery();
    world.sidecar(&server, &[]);
    world.ready(&server);
    run(async {
        serve(&server, 8082, echo);
        let mut command = within(&outside.namespace, &h2spec);
        command.args(["--host", SERVER, "--port", "8082", "--timeout", "5"]);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await
            .unwrap()
            .unwrap();
        let text = shown(&output);
        assert!(output.status.success() && text.contains(" 0 failed"), "{text}");
    });
}
