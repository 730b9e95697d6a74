//! A tiny HTTP server that follows a script, for what real servers cannot be made to do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends these bytes; the connection stays open.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Takes the request in whole and closes without a word.
    Cut,
    /// Takes the request in and never answers.
    Hang,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method and target.
    pub line: String,
    /// Header lines.
    pub headers: Vec<String>,
    pub body: String,
    /// Which connection it came over, from 0.
    pub connection: usize,
}

impl Seen {
    /// A header's value, by its name without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// The server. Request number n gets act number n, the last act goes on for ever.
pub struct Scripted {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    /// Listens on a free port of the loopback.
    pub fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (acts, log) = (Arc::new(acts), seen.clone());
        std::thread::spawn(move || {
            for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (acts, log) = (acts.clone(), log.clone());
                std::thread::spawn(move || serve(&stream, connection, &acts, &log));
            }
        });
        Self { endpoint, seen }
    }

    /// What has arrived so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(stream: &TcpStream, connection: usize, acts: &[Act], log: &Mutex<Vec<Seen>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut headers = Vec::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            if header.trim().is_empty() {
                break;
            }
            headers.push(header.trim().to_owned());
        }
        let mut seen = Seen { line: line.trim().to_owned(), headers, body: String::new(), connection };
        let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        seen.body = String::from_utf8(body).ok()?;
        let act = {
            let mut log = log.lock().unwrap();
            log.push(seen);
            acts[(log.len() - 1).min(acts.len() - 1)].clone()
        };
        let mut stream = stream;
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).ok()?,
            Act::SendAndClose(bytes) => {
                stream.write_all(&bytes).ok()?;
                return stream.shutdown(std::net::Shutdown::Both).ok();
            }
            Act::Cut => return stream.shutdown(std::net::Shutdown::Both).ok(),
            Act::Hang => {
                // Until the client hangs up.
                let mut rest = Vec::new();
                reader.read_to_end(&mut rest).ok()?;
                return None;
            }
        }
    }
}

/// A reply with an exact length.
pub fn reply(status: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    (text + "\r\n" + body).into_bytes()
}
