//! What probes of load balancers cost the line: its rate with and without thousands of them a second, in one run.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tablerelay::admin::{Probes, Seen, serve_probes};
use tablerelay::replicator::{Settings, StatusBoard};
use tablerelay::runtime::Runtime;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::cpu_seconds;
use crate::world::{LATENCY, World, table};

/// Rows of one round, and rounds of each kind, which take turns: a machine is not as fast at every moment.
const ROWS: usize = 100_000;
const ROUNDS: usize = 5;
/// Probes a second, over so many connections, so many at a time on each: some hundred edges, each every few seconds, come to
/// less.
const RATE: u64 = 5_000;
const CONNECTIONS: u64 = 4;
const AT_A_TIME: u64 = 25;

const REQUEST: &[u8] = b"HEAD /health/read HTTP/1.1\r\nHost: edge\r\n\r\n";

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(compare());
    runtime.block_on(alone());
}

/// Threads that probe until they are told to stop.
struct Probers {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Probers {
    /// At so many a second in all; as fast as they are answered with `None`.
    fn start(address: SocketAddr, rate: Option<u64>) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let thread = |_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || probe(address, rate, &stop, &answered))
        };
        let threads = (0..CONNECTIONS).map(thread).collect();
        Self { stop, answered, threads }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("it probes until the end"));
        self.answered.load(Relaxed)
    }
}

fn probe(address: SocketAddr, rate: Option<u64>, stop: &AtomicBool, answered: &AtomicU64) {
    let mut connection = TcpStream::connect(address).expect("it listens");
    connection.set_nodelay(true).expect("a socket");
    let requests = REQUEST.repeat(AT_A_TIME as usize);
    let mut buffer = vec![0; 64 * 1_024];
    while !stop.load(Relaxed) {
        connection.write_all(&requests).expect("it listens");
        let (mut text, mut ends) = (String::new(), 0);
        while ends < AT_A_TIME {
            let read = connection.read(&mut buffer).expect("it answers");
            text.push_str(std::str::from_utf8(&buffer[..read]).expect("text"));
            ends = text.matches("\r\n\r\n").count() as u64;
        }
        // 503 while the feed has not been read whole: an answer as good as the other.
        let told = text.matches("HTTP/1.1 200").count() + text.matches("HTTP/1.1 503").count();
        assert_eq!(told as u64, AT_A_TIME, "{text}");
        answered.fetch_add(AT_A_TIME, Relaxed);
        if let Some(rate) = rate {
            std::thread::sleep(Duration::from_secs(1) * (AT_A_TIME * CONNECTIONS) as u32 / rate as u32);
        }
    }
}

/// The endpoint of a line, with its answers kept ready.
async fn listen(board: Arc<StatusBoard>, stop: &CancellationToken) -> SocketAddr {
    let probes = Arc::<Probes>::default();
    let roles = board.roles().clone();
    let seen = Seen { snapshot: Arc::new(move || board.snapshot()), roles };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    let handle = tokio::runtime::Handle::current();
    handle.spawn(probes.clone().keep(seen, stop.clone()));
    handle.spawn(serve_probes(listener, probes, stop.clone()));
    address
}

/// Rows a second of one round, and probes a second that were answered meanwhile.
async fn round(probed: bool) -> (f64, f64) {
    let mut world = World::new(Runtime::system()).await;
    for n in 0..ROWS / 100 {
        let rows: Vec<String> = (0..100).map(|row| format!("r{row:03}")).collect();
        world.write(&format!("tx{n}"), &rows).await;
    }
    world.set_latency(LATENCY);
    let (stop, board) = world.start_seen(Settings::default());
    let address = listen(board, &stop).await;
    let began = Instant::now();
    let probers = probed.then(|| Probers::start(address, Some(RATE)));
    while world.destination.snapshot(&table()).len() < ROWS {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed().as_secs_f64();
    let answered = tokio::task::block_in_place(|| probers.map_or(0, Probers::stop));
    stop.cancel();
    (ROWS as f64 / took, answered as f64 / took)
}

async fn compare() {
    let (mut without, mut with, mut probes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(round(false).await.0);
        let (rows, answered) = round(true).await;
        with.push(rows);
        probes.push(answered);
    }
    let median = |rates: &mut Vec<f64>| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    };
    let (without, with, probes) = (median(&mut without), median(&mut with), median(&mut probes));
    println!("probes of /health/read beside the line, medians of {ROUNDS} rounds in turns");
    println!("  the line alone             {without:>9.0} rows/s");
    println!("  the line while it is probed{with:>9.0} rows/s   ratio {:.2} (bound 0.9)", with / without);
    println!("  probes meanwhile           {probes:>9.0} probes/s; who asks runs on the same cores");
}

/// How many are answered where nothing else is done, and what one costs.
async fn alone() {
    const TIME: Duration = Duration::from_secs(3);
    let world = World::new(Runtime::system()).await;
    let (stop, board) = world.start_seen(Settings::default());
    let address = listen(board.clone(), &stop).await;
    while !board.snapshot().ready {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (requests, cpu) = (world.requests(), cpu_seconds());
    let probers = Probers::start(address, None);
    tokio::time::sleep(TIME).await;
    let answered = tokio::task::block_in_place(|| probers.stop());
    let (cpu, requests) = (cpu_seconds() - cpu, world.requests() - requests);
    stop.cancel();
    println!("  as fast as they are answered {:>7.0} probes/s", answered as f64 / TIME.as_secs_f64());
    println!("  CPU of a probe             {:>9.1} µs, who asks included", cpu / answered as f64 * 1e6);
    println!("  storage requests meanwhile {requests:>9}, of {answered} probes: those of the idle line\n");
}
