//! The network at `isolated`: nothing but the proxy, and nothing through it but what is listed.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use agent_domain::LogStream;
use agent_runner::Level;

use super::arena::Arena;
use super::{Attempt, NONE, attempt, got_through};
use crate::support::said;

fn connect4(address: &str, port: u16) -> String {
    format!(
        "perl -MSocket=:all -e 'socket(S, AF_INET, SOCK_STREAM, 0); alarm 5; connect(S, pack_sockaddr_in({port}, inet_aton(\"{address}\"))) or exit 1'"
    )
}

fn connect6(address: &str, port: u16) -> String {
    format!(
        "perl -MSocket=:all -e 'socket(S, AF_INET6, SOCK_STREAM, 0); alarm 5; connect(S, pack_sockaddr_in6({port}, inet_pton(AF_INET6, \"{address}\"))) or exit 1'"
    )
}

/// Succeeds when the proxy answers a request with what it would answer one that it lets through.
fn ask_proxy(request: &str) -> String {
    format!(
        "perl -MSocket=:all -e 'socket(S, AF_INET, SOCK_STREAM, 0); alarm 10; connect(S, pack_sockaddr_in(3128, inet_aton(\"127.0.0.1\"))) or exit 1; \
         syswrite(S, \"{request} HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n\"); sysread(S, $a, 4096); exit($a =~ m{{^HTTP/1.[01] (2|502)}} ? 0 : 1)'"
    )
}

fn direct(arena: &Arena) -> Vec<Attempt> {
    let tcp4 = arena.tcp4.local_addr().unwrap().port();
    let udp = arena.udp.local_addr().unwrap().port();
    let mut attempts = vec![
        attempt("reach a service of the machine", connect4("127.0.0.1", tcp4)),
        attempt("reach it by another loopback address", connect4("127.0.0.2", tcp4)).harmful(),
        attempt("reach it as any address", connect4("0.0.0.0", tcp4)),
        attempt(
            "send a datagram",
            format!("perl -MSocket=:all -e 'socket(S, AF_INET, SOCK_DGRAM, 0); send(S, \"x\", 0, pack_sockaddr_in({udp}, inet_aton(\"127.0.0.1\")))'"),
        )
        .shows(|arena| arena.udp.recv(&mut [0; 8]).is_ok()),
        attempt("ask a name server", "perl -MSocket=:all -e 'for (split /\\n/, `cat /etc/resolv.conf`) { /^nameserver\\s+([\\d.]+)/ or next; socket(S, AF_INET, SOCK_DGRAM, 0); connect(S, pack_sockaddr_in(53, inet_aton($1))) or next; exit 0 if send(S, \"x\", 0) } exit 1'")
            .harmful(),
        attempt("have a route", "test \"$(wc -l < /proc/net/route)\" -gt 1").harmful(),
        attempt("have another interface", "test \"$(grep -c : /proc/net/dev)\" -gt 1").harmful(),
        attempt("open a raw socket", "perl -MSocket=:all -e 'socket(S, AF_INET, SOCK_RAW, 1) or exit 1'").harmful(),
        attempt("reach the cloud's metadata", connect4("169.254.169.254", 80)).harmful(),
        attempt("reach the internet", connect4("1.1.1.1", 443)).harmful(),
        attempt("reach the internet over IPv6", connect6("2606:4700:4700::1111", 443)).harmful(),
    ];
    if let Some(tcp6) = &arena.tcp6 {
        let port = tcp6.local_addr().unwrap().port();
        attempts.push(attempt("reach a service over IPv6", connect6("::1", port)));
        attempts.push(attempt(
            "reach it as IPv4 in IPv6",
            connect6("::ffff:127.0.0.1", tcp4),
        ));
    }
    attempts
}

#[tokio::test]
async fn isolated_nothing_is_reached_directly() {
    assert_eq!(got_through(&[Level::Isolated], direct).await, NONE);
}

fn through_the_proxy(arena: &Arena) -> Vec<Attempt> {
    let port = arena.tcp4.local_addr().unwrap().port();
    let attempts = [
        (
            "a host that is not listed",
            "CONNECT example.com:443".to_owned(),
        ),
        ("it in plain", "GET http://example.com/".into()),
        (
            "a service of the machine",
            format!("CONNECT 127.0.0.1:{port}"),
        ),
        (
            "it by its name, which is listed",
            format!("CONNECT localhost:{port}"),
        ),
        (
            "it by its name on a listed port",
            "CONNECT localhost:80".into(),
        ),
        ("it in plain by its name", "GET http://localhost/".into()),
        ("it as a number", format!("CONNECT 2130706433:{port}")),
        ("it in octal", format!("CONNECT 0177.0.0.1:{port}")),
        ("it shortened", format!("CONNECT 127.1:{port}")),
        ("it as any address", format!("CONNECT 0.0.0.0:{port}")),
        ("it as IPv6", format!("CONNECT [::1]:{port}")),
        (
            "it as IPv4 in IPv6",
            format!("CONNECT [::ffff:127.0.0.1]:{port}"),
        ),
        ("the cloud's metadata", "CONNECT 169.254.169.254:80".into()),
        (
            "metadata in plain",
            "GET http://169.254.169.254/latest/meta-data/".into(),
        ),
        (
            "metadata by its name",
            "GET http://metadata.google.internal/".into(),
        ),
        (
            "a name with a user in front",
            format!("CONNECT api.anthropic.com@localhost:{port}"),
        ),
        (
            "a listed host on another port",
            "CONNECT api.anthropic.com:22".into(),
        ),
        (
            "a name below a listed one",
            "CONNECT evil.api.anthropic.com:443".into(),
        ),
        (
            "a name that ends like a listed one",
            "CONNECT api.anthropic.com.evil.example:443".into(),
        ),
    ];
    let make = |(name, request): (&str, String)| {
        // Outside nothing listens there, so there is nothing to compare with.
        attempt(format!("reach {name}"), ask_proxy(&request)).harmful()
    };
    attempts.into_iter().map(make).collect()
}

#[tokio::test]
async fn isolated_nothing_is_reached_through_the_proxy_that_is_not_listed() {
    assert_eq!(
        got_through(&[Level::Isolated], through_the_proxy).await,
        NONE
    );
}

/// A service that says who it is, once for each connection.
fn service() -> (u16, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            let mut heard = [0; 4096];
            // Through a tunnel nothing is asked.
            stream.read(&mut heard).unwrap_or_default();
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
                .ok();
        }
    });
    (port, thread)
}

#[tokio::test]
async fn what_is_listed_is_reached_through_the_proxy_and_refusals_are_in_the_log() {
    let (port, thread) = service();
    let mut arena = Arena::new(Level::Isolated);
    arena.place.reconfigure(|config| {
        let rule = format!("127.0.0.1:{port}").parse().unwrap();
        config.sandbox.as_mut().unwrap().hosts.push(rule);
    });
    let (plain, tunnel) = (
        ask_proxy(&format!("GET http://127.0.0.1:{port}/")),
        ask_proxy(&format!("CONNECT 127.0.0.1:{port}")),
    );
    let refused = ask_proxy("CONNECT evil.example:443");
    let script = format!(
        "{plain} && echo plain; {tunnel} && echo tunnel; {refused} || echo refused; echo $HTTPS_PROXY $NO_PROXY"
    );
    assert_eq!(
        arena.run(&script).await,
        "plain\ntunnel\nrefused\nhttp://127.0.0.1:3128 ::1\n"
    );
    thread.join().unwrap();
    let log = String::from_utf8(said(&arena.log(), LogStream::System)).unwrap();
    assert!(
        log.contains("the sandbox refused evil.example:443"),
        "{log}"
    );
}
