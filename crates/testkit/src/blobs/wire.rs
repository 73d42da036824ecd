//! HTTP/1.1 of the fake: one request after the other on a connection.

use super::Shared;
use super::answer::{Answer, Asked, answer};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Piece in which a body is sent, so that a bounded rate is even.
const PIECE: usize = 256 << 10;

pub(super) fn serve(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(asked) = read_head(&mut reader)? {
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let (under_way, latency) =
            (shared.under_way.fetch_add(1, Ordering::Relaxed) + 1, shared.lock().latency);
        shared.most_at_once.fetch_max(under_way, Ordering::Relaxed);
        std::thread::sleep(latency);
        let answer = answer(&mut shared.lock(), &asked);
        let sent = send(shared, stream, &asked, &answer);
        shared.under_way.fetch_sub(1, Ordering::Relaxed);
        if sent? {
            return Ok(());
        }
    }
    Ok(())
}

fn read_head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut asked = Asked::parse(line.trim());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { return Ok(Some(asked)) };
        asked.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

/// Sends an answer; whether the connection ends with it.
fn send(shared: &Shared, mut stream: &TcpStream, asked: &Asked, answer: &Answer) -> io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", answer.status, answer.length_bytes);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all((head + "\r\n").as_bytes())?;
    if asked.method == "HEAD" {
        return Ok(false);
    }
    let body = if answer.is_cut { &answer.body[..answer.body.len() / 2] } else { &answer.body[..] };
    for piece in body.chunks(PIECE) {
        if answer.is_data {
            shared.data_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
            await_turn(shared, &asked.blob, piece.len());
        }
        stream.write_all(piece)?;
    }
    Ok(answer.is_cut)
}

/// Waits until a blob's rate allows for another piece.
fn await_turn(shared: &Shared, blob: &str, bytes: usize) {
    let until = {
        let mut state = shared.lock();
        let Some(rate) = state.bytes_per_second else { return };
        let now = Instant::now();
        let blob = state.blob(blob);
        // What was not used is saved up for 50 ms: a client that is a moment late loses nothing.
        let earliest = now.checked_sub(Duration::from_millis(50)).unwrap_or(now);
        let from = blob.busy_until.unwrap_or(now).max(earliest);
        let until = from + Duration::from_secs_f64(bytes as f64 / rate as f64);
        blob.busy_until = Some(until);
        until
    };
    std::thread::sleep(until.saturating_duration_since(Instant::now()));
}
