//! A receiver of callbacks that does what the test says, also to the connections it holds.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What becomes of a callback that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It is held, until the mode is another.
    Hold,
    /// Its connection is closed without a word.
    Close,
    /// 204.
    Take,
}

pub(crate) struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone)]
pub(crate) struct State {
    mode: Mode,
    over: bool,
    /// Callbacks under way now, and the most there ever were.
    pub(crate) open: usize,
    pub(crate) most: usize,
    /// How often each id came, in any mode.
    pub(crate) came: BTreeMap<String, usize>,
    /// How often each id was taken.
    pub(crate) taken: BTreeMap<String, usize>,
}

impl Receiver {
    pub(crate) fn start(mode: Mode) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), mode)
    }

    pub(crate) fn on(listener: TcpListener, mode: Mode) -> Self {
        let address = listener.local_addr().unwrap();
        let state = State {
            mode,
            over: false,
            open: 0,
            most: 0,
            came: BTreeMap::new(),
            taken: BTreeMap::new(),
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if all.state.lock().unwrap().over {
                    return;
                }
                let one = Arc::clone(&all);
                std::thread::spawn(move || one.serve(stream.unwrap()));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/callback", self.address)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.state.lock().unwrap().mode = mode;
        self.shared.changed.notify_all();
    }

    pub(crate) fn now(&self) -> State {
        self.shared.state.lock().unwrap().clone()
    }

    /// Waits until it is as wanted; fails after a minute and a half.
    pub(crate) async fn until(&self, wanted: impl Fn(&State) -> bool) -> State {
        let begun = Instant::now();
        loop {
            let now = self.now();
            if wanted(&now) {
                return now;
            }
            let (open, came, taken) = (now.open, now.came.len(), now.taken.len());
            assert!(
                begun.elapsed() < Duration::from_secs(90),
                "never as wanted: {open} open, {came} came, {taken} taken"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl State {
    pub(crate) fn arrivals(&self) -> usize {
        self.came.values().sum()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.mode, state.over) = (Mode::Close, true);
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the thread out of `accept`.
        drop(TcpStream::connect(self.address));
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let Some(id) = read_request(&mut stream) else {
            return;
        };
        let mut state = self.state.lock().unwrap();
        state.open += 1;
        state.most = state.most.max(state.open);
        *state.came.entry(id.clone()).or_default() += 1;
        while state.mode == Mode::Hold {
            state = self.changed.wait(state).unwrap();
        }
        // Over before the sender hears of it, and begins another.
        state.open -= 1;
        if state.mode == Mode::Take {
            *state.taken.entry(id).or_default() += 1;
            drop(state);
            drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"));
        }
    }
}

/// Reads a request and returns its `webhook-id`.
fn read_request(stream: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let header = |wanted: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.to_owned())
            };
            if body.len() >= header("content-length")?.parse().ok()? {
                return header("webhook-id");
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}
