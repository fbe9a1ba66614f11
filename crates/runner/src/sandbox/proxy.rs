//! The one way out of an isolated wall: an HTTP proxy with a list of hosts.
//!
//! It runs in the supervisor and listens on a socket that is bound into the wall. It resolves
//! names itself and connects to the very addresses it has looked at, so a name that changes its
//! answer gains nothing. What it refuses is said in the job's log.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::host::{Host, HostList, Target};

/// Longest head of a request.
const HEAD_MAX: usize = 16 * 1024;
/// Most headers in it.
const HEADERS_MAX: usize = 100;
/// How long a head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a name may take to resolve, and each of its addresses to answer.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// Most connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// Most refusals that are told one by one.
const TOLD_MAX: usize = 100;
/// Headers that are for the proxy, or about the connection to it (RFC 9110, section 7.6.1).
const NOT_PASSED_ON: [&str; 7] = [
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "upgrade",
];

/// What every connection shares.
struct Proxy {
    hosts: HostList,
    /// Sentences for the job's log.
    notices: mpsc::Sender<String>,
    told: Mutex<HashSet<String>>,
    connections: Semaphore,
}

/// A request, as far as it concerns the proxy.
struct Request {
    target: Target,
    /// What to send on ahead of the client's bytes; `None` for a tunnel.
    head: Option<Vec<u8>>,
}

/// Why a request is not passed on: a status, and a sentence.
struct Refusal {
    status: &'static str,
    sentence: String,
}

impl Refusal {
    fn malformed() -> Self {
        Self {
            status: "400 Bad Request",
            sentence: "a request that is no HTTP proxy request".into(),
        }
    }

    fn forbidden(target: &Target, why: &str) -> Self {
        Self {
            status: "403 Forbidden",
            sentence: format!("{target}: {why}"),
        }
    }
}

/// Serves connections until the process ends.
pub(super) fn serve(listener: UnixListener, hosts: HostList, notices: mpsc::Sender<String>) {
    let proxy = Arc::new(Proxy {
        hosts,
        notices,
        told: Mutex::default(),
        connections: Semaphore::new(CONNECTIONS_MAX),
    });
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let proxy = proxy.clone();
                    tokio::spawn(async move { proxy.connection(stream).await });
                }
                // Out of descriptors; some may come free.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
}

impl Proxy {
    async fn connection(&self, mut client: UnixStream) {
        let Ok(_permit) = self.connections.acquire().await else {
            return;
        };
        let Ok(Ok((head, rest))) = timeout(HEAD_WITHIN, read_head(&mut client)).await else {
            return;
        };
        match self.reach(&head).await {
            Ok((request, server)) => {
                // Either side's end is the end; there is nobody to tell of an error.
                pass_on(client, server, request, &rest).await.ok();
            }
            Err(refusal) => {
                self.tell(&refusal);
                let body = format!("The sandbox refused {}\n", refusal.sentence);
                let answer = format!(
                    "HTTP/1.1 {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    refusal.status,
                    body.len()
                );
                client.write_all(answer.as_bytes()).await.ok();
            }
        }
    }

    async fn reach(&self, head: &[u8]) -> Result<(Request, TcpStream), Refusal> {
        let request = parse(head).ok_or_else(Refusal::malformed)?;
        let target = &request.target;
        if !self.hosts.has(target) {
            return Err(Refusal::forbidden(
                target,
                "not on the list of hosts that may be reached",
            ));
        }
        let addresses = resolve(target).await.map_err(|error| Refusal {
            status: "502 Bad Gateway",
            sentence: format!("{target}: {error}"),
        })?;
        let open: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| self.hosts.may_reach(target, address.ip()))
            .collect();
        if open.is_empty() {
            return Err(Refusal::forbidden(
                target,
                "its name leads to an address that is not public and not on the list",
            ));
        }
        let server = connect(&open).await.map_err(|error| Refusal {
            status: "502 Bad Gateway",
            sentence: format!("{target}: {error}"),
        })?;
        Ok((request, server))
    }

    /// Tells each refusal once.
    fn tell(&self, refusal: &Refusal) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() < TOLD_MAX && told.insert(refusal.sentence.clone()) {
            let text = format!("the sandbox refused {}", refusal.sentence);
            // A full queue means that the log is behind by many such lines already.
            self.notices.try_send(text).ok();
        }
    }
}

/// Reads as far as the empty line; returns what came behind it too.
async fn read_head(client: &mut UnixStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut head = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = client.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&chunk[..count]);
        let end = head.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let rest = head.split_off(end + 4);
            return Ok((head, rest));
        }
        if head.len() > HEAD_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

fn parse(head: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).ok()?;
    let (method, path) = (request.method?, request.path?);
    if method == "CONNECT" {
        return Some(Request {
            target: Target::parse(path, None)?,
            head: None,
        });
    }
    let rest = path
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("http://"));
    let rest = rest.and_then(|scheme| path.get(scheme.len()..))?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let target = Target::parse(authority, Some(80))?;
    let slash = if path.starts_with('/') { "" } else { "/" };
    let mut text = format!("{method} {slash}{path} HTTP/1.1\r\nHost: {authority}\r\n");
    let mut lines = Vec::new();
    for header in request.headers {
        let name = header.name.to_ascii_lowercase();
        if !NOT_PASSED_ON.contains(&name.as_str()) {
            lines.extend_from_slice(header.name.as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(header.value);
            lines.extend_from_slice(b"\r\n");
        }
    }
    // One request a connection: a second one could be for another host.
    write!(text, "Connection: close\r\n").ok()?;
    let mut head = text.into_bytes();
    head.extend_from_slice(&lines);
    head.extend_from_slice(b"\r\n");
    Some(Request {
        target,
        head: Some(head),
    })
}

async fn resolve(target: &Target) -> io::Result<Vec<SocketAddr>> {
    match &target.host {
        Host::Address(address) => Ok(vec![SocketAddr::new(*address, target.port)]),
        Host::Name(name) => {
            let found = tokio::net::lookup_host((name.as_str(), target.port));
            let found = timeout(CONNECT_WITHIN, found).await??;
            Ok(found.collect())
        }
    }
}

async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(CONNECT_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(elapsed) => last = elapsed.into(),
        }
    }
    Err(last)
}

async fn pass_on(
    mut client: UnixStream,
    mut server: TcpStream,
    request: Request,
    rest: &[u8],
) -> io::Result<()> {
    match request.head {
        None => {
            client
                .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                .await?;
        }
        Some(head) => server.write_all(&head).await?,
    }
    server.write_all(rest).await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::host::HostRule;
    use super::*;

    /// A proxy on a socket of its own, for those rules and the model's API at `gateway`.
    fn proxy(rules: &[&str], gateway: Option<&str>) -> (tempfile::TempDir, mpsc::Receiver<String>) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("p")).unwrap();
        let (notices, told) = mpsc::channel(16);
        let rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let gateway = gateway.map(|url| HostRule::of_url(url).unwrap());
        serve(listener, HostList::new(rules, gateway), notices);
        (folder, told)
    }

    /// Sends a request and returns all that comes back.
    async fn ask(folder: &tempfile::TempDir, request: &str) -> String {
        let mut stream = UnixStream::connect(folder.path().join("p")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// A server that answers one connection with what it was sent.
    async fn echo() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = vec![0; 4096];
            let count = stream.read(&mut heard).await.unwrap();
            stream.write_all(&heard[..count]).await.unwrap();
        });
        port
    }

    #[tokio::test]
    async fn a_listed_address_is_reached_through_a_tunnel() {
        let port = echo().await;
        let (folder, _told) = proxy(&[&format!("127.0.0.1:{port}")], None);
        let request = format!("CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: x\r\n\r\nhello");
        let answer = ask(&folder, &request).await;
        assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nhello");
    }

    #[tokio::test]
    async fn a_plain_request_is_sent_on_to_the_host_it_names_and_no_other() {
        let port = echo().await;
        let (folder, _told) = proxy(&[], Some(&format!("http://localhost:{port}")));
        let request = format!(
            "POST http://localhost:{port}/a?b HTTP/1.1\r\nHost: elsewhere\r\nProxy-Connection: keep-alive\r\nX: y\r\nContent-Length: 2\r\n\r\nhi"
        );
        let answer = ask(&folder, &request).await;
        assert_eq!(
            answer,
            format!(
                "POST /a?b HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nX: y\r\nContent-Length: 2\r\n\r\nhi"
            )
        );
    }

    #[tokio::test]
    async fn what_is_not_listed_is_refused_and_told_once() {
        let (folder, mut told) = proxy(&["example.com"], None);
        for target in ["example.org:443", "169.254.169.254:80", "[::1]:443"] {
            for _ in 0..2 {
                let request = format!("CONNECT {target} HTTP/1.1\r\n\r\n");
                let answer = ask(&folder, &request).await;
                assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
            }
            let notice = told.recv().await.unwrap();
            assert!(notice.contains(target), "{notice}");
        }
        assert!(told.try_recv().is_err());
        let answer = ask(&folder, "GET http://example.org/ HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }

    #[tokio::test]
    async fn a_listed_name_that_leads_to_this_machine_is_refused() {
        let port = echo().await;
        let (folder, mut told) = proxy(&[&format!("localhost:{port}")], None);
        let answer = ask(
            &folder,
            &format!("CONNECT localhost:{port} HTTP/1.1\r\n\r\n"),
        )
        .await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(told.recv().await.unwrap().contains("not public"));
    }

    #[tokio::test]
    async fn what_is_no_proxy_request_is_refused() {
        let (folder, _told) = proxy(&["example.com"], None);
        for request in [
            "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
            "GET https://example.com/ HTTP/1.1\r\n\r\n",
            "CONNECT example.com HTTP/1.1\r\n\r\n",
            "CONNECT user@example.com:443 HTTP/1.1\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            let answer = ask(&folder, request).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "{request}: {answer}");
        }
        let endless = format!("GET http://example.com/{} HTTP/1.1\r\n", "x".repeat(20_000));
        assert_eq!(ask(&folder, &endless).await, "");
    }
}
