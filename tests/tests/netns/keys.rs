//! Keys that the operator fetches: one that a provider has just begun to sign with, and one that it never had.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::authorization::Issuer;
use super::http::{Connection, Message, application};
use super::over_tcp::serve;
use super::pod::Pod;
use super::world::{FIXTURES, OTHER, World, eventually};

/// A provider of keys, which counts how often it was asked for them.
#[derive(Clone, Default)]
struct Provider {
    keys: Arc<Mutex<Vec<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn begin(&self, issuer: &Issuer) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push(issuer.key());
    }

    fn answer(&self, stream: TcpStream) {
        let mut connection = Connection::new(stream);
        while connection.request().is_ok() {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let body = json!({"keys": keys}).to_string();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn call(client: &Pod, token: &str) -> Message {
    Connection::new(client.connect("10.96.0.2:80")).ask(format!(
        "GET / HTTP/1.1\r\nhost: server\r\nauthorization: Bearer {token}\r\n\r\n"
    ))
}

#[test]
fn a_key_that_a_provider_has_just_begun_to_sign_with_refuses_nobody() {
    let rules = format!(
        "{FIXTURES}\n---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: jwt, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: server}}}}\n  jwtRules:\n  - {{issuer: 'https://issuer.example', jwksUri: 'http://{OTHER}:8000/keys'}}\n"
    );
    let Some((mut world, client, server)) = World::pair(FIXTURES) else {
        return;
    };
    application(&server, 8080);
    let provider = Provider::default();
    let (first, second, stranger) = (Issuer::named("first"), Issuer::named("second"), Issuer::named("third"));
    provider.begin(&first);
    let pod = world.pod("provider", OTHER);
    let serving = provider.clone();
    serve(&pod, 8000, move |stream| serving.answer(stream));
    world.fixtures(&rules);
    let claims = json!({"iss": "https://issuer.example", "sub": "alice", "exp": 4_000_000_000_u64});
    let bad = stranger.token(&claims);
    eventually("tokens are looked at", || call(&client, &bad).status() == 401);
    eventually("the first key is known", || {
        call(&client, &first.token(&claims)).status() == 200
    });

    // A new key, asked for by many at the same time: all wait, and nobody is refused.
    let before = provider.asked();
    provider.begin(&second);
    let token = second.token(&claims);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let calls: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| call(&client, &token).status()))
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 16]);
    assert!(
        (1..=2).contains(&(provider.asked() - before)),
        "fetched {} times",
        provider.asked() - before
    );
    assert_eq!(call(&client, &first.token(&claims)).status(), 200);

    // A key that nobody has is refused, and does not have keys fetched each time.
    let before = provider.asked();
    for _ in 0..20 {
        let answer = call(&client, &bad);
        assert_eq!(answer.status(), 401);
        assert!(answer.header("www-authenticate").is_some());
    }
    assert!(
        provider.asked() - before <= 10,
        "fetched {} times",
        provider.asked() - before
    );
    assert_eq!(call(&client, &token).status(), 200);
}
