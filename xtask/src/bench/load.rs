//! Load: connections that each ask again as soon as they have an answer.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::event::{PollFd, PollFlags};

use super::http::{Connection, Request, TIMEOUT};
use super::series::Series;

/// How much load, bounded in time and in number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many connections.
    pub(crate) connections: usize,
    /// No request begins after this time.
    pub(crate) time: Duration,
    /// No more requests than this.
    pub(crate) most: u64,
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    /// Time of each request, in microseconds.
    pub(crate) micros: Series,
    /// Requests a second over all connections, one value a round.
    pub(crate) rate: Series,
    /// What the server's processors did for each request, in microseconds, one value a round.
    pub(crate) cpu: Series,
}

impl Outcome {
    /// Adds another round.
    pub(crate) fn append(&mut self, other: Self) {
        self.micros.append(other.micros);
        self.rate.append(other.rate);
        self.cpu.append(other.cpu);
    }
}

impl Load {
    /// Puts the load on a server; `request` makes the request of a number. Any answer but 2xx is
    /// an error.
    pub(crate) fn run(
        &self,
        address: SocketAddr,
        token: &str,
        request: &dyn Fn(u64) -> Request,
    ) -> Result<Outcome> {
        let connect = |_| Connection::open(address, token);
        let mut connections = (0..self.connections)
            .map(connect)
            .collect::<Result<Vec<_>>>()?;
        let began = Instant::now();
        let micros = self.ask_again(&mut connections, request)?;
        let elapsed = began.elapsed();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of requests is far below 2^52"
        )]
        let rate = micros.len() as f64 / elapsed.as_secs_f64();
        Ok(Outcome {
            micros,
            rate: [rate].into_iter().collect(),
            cpu: Series::default(),
        })
    }

    /// One thread for all connections: one for each would take from the server, on the same
    /// machine, a good part of what is to be measured.
    fn ask_again(
        &self,
        connections: &mut [Connection],
        request: &dyn Fn(u64) -> Request,
    ) -> Result<Series> {
        let mut micros = Series::default();
        let end = Instant::now() + self.time;
        let mut numbers = 0..self.most;
        let mut next = || numbers.next().filter(|_| Instant::now() < end).map(request);
        let mut asked = Vec::new();
        for connection in &mut *connections {
            asked.push(ask(connection, next())?);
        }
        while asked.iter().any(Option::is_some) {
            for number in ready(connections, &asked)? {
                let Some((request, at)) = asked[number].take() else {
                    continue;
                };
                connections[number].answer(&request)?;
                micros.push(at.elapsed().as_secs_f64() * 1e6);
                asked[number] = ask(&mut connections[number], next())?;
            }
        }
        Ok(micros)
    }
}

/// A request on its way, and since when.
type Asked = Option<(Request, Instant)>;

fn ask(connection: &mut Connection, request: Option<Request>) -> Result<Asked> {
    let Some(request) = request else {
        return Ok(None);
    };
    let at = Instant::now();
    connection.send(&request)?;
    Ok(Some((request, at)))
}

/// Waits until answers have begun to come in, and says on which connections.
fn ready(connections: &[Connection], asked: &[Asked]) -> Result<Vec<usize>> {
    let waiting: Vec<usize> = (0..asked.len()).filter(|n| asked[*n].is_some()).collect();
    let mut polled: Vec<_> = waiting
        .iter()
        .map(|number| PollFd::new(&connections[*number], PollFlags::IN))
        .collect();
    let timeout = rustix::event::Timespec::try_from(TIMEOUT)?;
    let count = rustix::event::poll(&mut polled, Some(&timeout))?;
    ensure!(count > 0, "no answer within {} s", TIMEOUT.as_secs());
    let is_ready =
        |(number, polled): (usize, &PollFd<'_>)| (!polled.revents().is_empty()).then_some(number);
    Ok(waiting
        .into_iter()
        .zip(&polled)
        .filter_map(is_ready)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    /// Answers every request that has no body, until the client goes away.
    fn answer_all(stream: TcpStream, answer: &str) {
        let mut writing = stream.try_clone().unwrap();
        let is_end = |line: &std::io::Result<String>| line.as_ref().is_ok_and(String::is_empty);
        for _ in BufReader::new(stream).lines().filter(is_end) {
            writing.write_all(answer.as_bytes()).unwrap();
        }
    }

    fn serve(connections: usize, answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().take(connections) {
                thread::spawn(move || answer_all(stream.unwrap(), answer));
            }
        });
        address
    }

    #[test]
    fn every_number_is_asked_for_once_and_the_load_ends_at_its_bound() {
        let address = serve(4, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let seen = AtomicU64::new(0);
        let request = |number| {
            seen.fetch_add(number, Ordering::Relaxed);
            Request::get("/x")
        };
        let load = Load {
            connections: 4,
            time: Duration::from_secs(30),
            most: 100,
        };
        let outcome = load.run(address, "secret", &request).unwrap();
        assert_eq!(outcome.micros.len(), 100);
        assert_eq!(seen.into_inner(), 99 * 100 / 2);
        assert!(outcome.rate.median() > 0.0);
    }

    #[test]
    fn a_refused_request_ends_the_load_with_an_error() {
        let address = serve(2, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        let load = Load {
            connections: 2,
            time: Duration::from_secs(30),
            most: 100,
        };
        let error = load
            .run(address, "secret", &|_| Request::get("/x"))
            .unwrap_err();
        assert!(error.to_string().contains("503"));
    }
}
