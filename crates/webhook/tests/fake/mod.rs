//! A receiver of callbacks on a free port of this machine, no more than a test needs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request as it arrived.
#[derive(Clone)]
pub(crate) struct Request {
    /// Everything up to the empty line.
    pub(crate) head: String,
    /// As many bytes as `content-length` says.
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value)
    }
}

/// Serves one connection after the other until it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    over: AtomicBool,
    sent: AtomicU64,
    requests: Mutex<Vec<Request>>,
}

impl Receiver {
    /// Gives every request the answer that `answer` makes.
    pub(crate) fn start(answer: impl Fn(&Request) -> Vec<u8> + Send + 'static) -> Self {
        Self::serve(move |stream, state| {
            let Some(request) = read_request(stream) else {
                return;
            };
            let bytes = answer(&request);
            state.requests.lock().unwrap().push(request);
            // A sender that has gone is what some tests are about.
            drop(stream.write_all(&bytes));
        })
    }

    /// Answers with `head` and then with `x` in pieces of `piece` bytes, for as long as anyone reads;
    /// nothing at all when `head` is empty.
    pub(crate) fn endless(head: &'static [u8], piece: usize) -> Self {
        Self::serve(move |stream, state| {
            if read_request(stream).is_none() || stream.write_all(head).is_err() {
                return;
            }
            let (mut timer, piece) = ([0], vec![b'x'; piece]);
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .unwrap();
            stream
                .set_write_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            while !state.over.load(Ordering::SeqCst) {
                // Trickles when pieces are small, and notices when the sender hangs up.
                if piece.len() == 1 && matches!(stream.read(&mut timer), Ok(0)) {
                    return;
                }
                if !head.is_empty() && stream.write_all(&piece).is_err() {
                    return;
                }
                state.sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
        })
    }

    fn serve(handle: impl Fn(&mut TcpStream, &State) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.over.load(Ordering::SeqCst) {
                    return;
                }
                handle(&mut stream.unwrap(), &shared);
            }
        });
        Self {
            address,
            state,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?a=b#fragment", self.address)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn only_request(&self) -> Request {
        let [request] = <[Request; 1]>::try_from(self.requests()).ok().unwrap();
        request
    }

    pub(crate) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        // Wakes the thread out of `accept`.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        read_some(stream, &mut bytes)?;
    };
    let mut request = Request {
        head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
        body: Vec::new(),
    };
    let length: usize = request.header("content-length").parse().unwrap();
    while bytes.len() < end + length {
        read_some(stream, &mut bytes)?;
    }
    request.body = bytes[end..].to_vec();
    Some(request)
}

fn read_some(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(0) | Err(_) => None,
        Ok(length) => {
            bytes.extend_from_slice(&chunk[..length]);
            Some(())
        }
    }
}
