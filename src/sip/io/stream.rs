//! One connection, whatever it runs over: reads messages, writes a bounded queue, ends in good order.

use super::connections::{Connection, Destination, Entry, Outgoing, is_accepted};
use super::event::{TransportEvent, TransportFailure, Turn};
use super::gate::{self, Passage};
use super::{Shared, tcp};
use crate::sip::framing::{Frame, StreamFramer};
use crate::sip::message::{ParseError, parse_with};
use crate::sip::overload::Sender;
use crate::types::Peer;
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout, timeout_at},
};

/// Octets read at once.
const READ: usize = 8 * 1024;

/// How long a stream that we end may take to deliver its last octets, and how many more of the far end's we take
/// meanwhile: closing on unread octets would reset the connection and the far end would lose what we wrote.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 64 * 1024;

/// Whose stream it is.
pub(super) struct Origin {
    pub peer: Peer,
    /// Where it leads, if we opened it.
    pub destination: Option<Destination>,
}

/// Sends on the peer's own connection, on one to the same place, or on one opened now.
pub(super) fn send(
    shared: &Arc<Shared>,
    peer: &Peer,
    bytes: Bytes,
    ticket: u64,
) -> Result<(), TransportFailure> {
    if let Some(id) = peer.connection {
        if let Some(connection) = shared.connections.get(id) {
            return connection.enqueue(Outgoing::Message { bytes, ticket });
        }
        // Whoever connected to us can't be connected to: its port was its connection's own.
        if is_accepted(id) {
            return Err(TransportFailure::Closed);
        }
    }
    if *shared.closing.borrow() {
        return Err(TransportFailure::Closed);
    }
    let destination = Destination::of(peer);
    let (connection, new) = shared.connections.open(&destination);
    let result = connection.enqueue(Outgoing::Message { bytes, ticket });
    if let Some(entry) = new {
        shared.runtime.spawn(tcp::open(Arc::clone(shared), peer.clone(), destination, entry));
    }
    result
}

/// A connection that could not be made: what waits for it has failed.
pub(super) fn never_opened(shared: &Shared, mut entry: Entry, origin: Origin, failure: TransportFailure) {
    leave_table(shared, &entry.connection, &origin);
    fail_waiting(shared, &mut entry.queue, None, &origin.peer, &failure);
}

fn leave_table(shared: &Shared, connection: &Connection, origin: &Origin) {
    shared.connections.remove(connection.id, origin.peer.remote.ip(), origin.destination.as_ref());
}

fn fail_waiting(
    shared: &Shared,
    queue: &mut mpsc::Receiver<Outgoing>,
    current: Option<Outgoing>,
    peer: &Peer,
    failure: &TransportFailure,
) {
    queue.close();
    let waiting = current.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok()));
    for outgoing in waiting {
        match outgoing {
            Outgoing::Message { ticket, .. } => shared.fail(peer, ticket, failure.clone()),
            Outgoing::Plain(_) | Outgoing::Finish => {}
        }
    }
}

/// Why a stream ended.
enum End {
    /// The far end closed it, or it broke.
    Closed,
    /// The far end does not read.
    SlowReader,
    /// No whole message, or nothing at all, in time.
    Stalled,
    /// Its boundaries are lost; the refusal is in the queue.
    Broken,
    /// We ended it and everything is written.
    Finished,
}

/// Serves a connection to its end.
pub(super) async fn run<S>(
    shared: &Arc<Shared>,
    stream: S,
    entry: Entry,
    origin: Origin,
    tls_names: Arc<[String]>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Entry { connection, mut queue } = entry;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut current = None;
    let end = {
        let write = write(shared, &connection, &mut queue, &mut current, &mut writer);
        tokio::pin!(write);
        let read = read(shared, &connection, &origin, &tls_names, &mut reader);
        tokio::pin!(read);
        let end = tokio::select! {
            end = &mut read => end,
            end = &mut write => end,
            () = connection.aborted() => {
                if connection.is_overfull() { End::SlowReader } else { End::Closed }
            }
        };
        match end {
            // What is queued goes out before the stream is closed.
            End::Broken => {
                let _ = connection.enqueue(Outgoing::Finish);
                timeout(LINGER, write).await.unwrap_or(End::Closed)
            }
            end @ (End::Closed | End::SlowReader | End::Stalled | End::Finished) => end,
        }
    };
    if matches!(end, End::Finished) {
        let _ = timeout(LINGER, finish(&mut reader, &mut writer)).await;
    }
    leave_table(shared, &connection, &origin);
    let failure = match end {
        End::SlowReader => {
            shared.stats.add(&shared.stats.slow_readers);
            TransportFailure::SlowReader
        }
        End::Stalled => {
            shared.stats.add(&shared.stats.stalled);
            TransportFailure::Closed
        }
        End::Closed | End::Broken | End::Finished => TransportFailure::Closed,
    };
    fail_waiting(shared, &mut queue, current, &origin.peer, &failure);
    shared.report(TransportEvent::Closed { connection: connection.id, peer: origin.peer });
}

async fn finish<S>(reader: &mut tokio::io::ReadHalf<S>, writer: &mut tokio::io::WriteHalf<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if writer.shutdown().await.is_ok() {
        let _ = tokio::io::copy(&mut reader.take(LINGER_OCTETS as u64), &mut tokio::io::sink()).await;
    }
}

/// Writes the queue in order until it is told to finish, or can't.
async fn write<W: AsyncWrite + Unpin>(
    shared: &Shared,
    connection: &Connection,
    queue: &mut mpsc::Receiver<Outgoing>,
    current: &mut Option<Outgoing>,
    writer: &mut W,
) -> End {
    while let Some(outgoing) = queue.recv().await {
        let length = outgoing.len();
        let bytes = match &outgoing {
            Outgoing::Message { bytes, .. } | Outgoing::Plain(bytes) => bytes.clone(),
            Outgoing::Finish => return End::Finished,
        };
        // Known to the outside, so that it counts as failed if this is as far as we get.
        *current = Some(outgoing);
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match timeout(shared.settings.streams.write, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Closed,
            Err(_) => return End::SlowReader,
        }
        *current = None;
        connection.written(length);
    }
    End::Closed
}

/// Reads messages and hands them up, no faster than they are taken there.
async fn read<R: AsyncRead + Unpin>(
    shared: &Shared,
    connection: &Connection,
    origin: &Origin,
    tls_names: &Arc<[String]>,
    reader: &mut R,
) -> End {
    let settings = shared.settings.streams;
    let sender = Sender {
        address: origin.peer.remote.ip(),
        stream: true,
        // One with a certificate that was asked for is no stranger, nor is one that we wanted.
        proven: !tls_names.is_empty() || origin.destination.is_some(),
    };
    let in_flight = Arc::new(Semaphore::new(settings.in_flight.max(1)));
    let mut framer = StreamFramer::new(shared.settings.message);
    // One that we opened has proven itself: we wanted it.
    let mut proven = origin.destination.is_some();
    let mut since = Instant::now();
    let mut last_read = since;
    loop {
        loop {
            let message = match framer.next_frame() {
                Ok(Some(Frame::Message(message))) => message,
                Ok(Some(Frame::KeepAlivePing)) => {
                    if connection.enqueue(Outgoing::Plain(Bytes::from_static(b"\r\n"))).is_err() {
                        return End::SlowReader;
                    }
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    // What came whole before it is answered first, as far as that needs nobody else.
                    let all = in_flight.acquire_many(settings.in_flight.max(1) as u32);
                    let _ = timeout(LINGER, all).await;
                    return refuse_stream(shared, connection, origin, &error);
                }
            };
            // What follows it in the buffer came with the last read, at the earliest.
            since = last_read;
            let remote = origin.peer.remote;
            let newcomer = match shared.gate.stream_passage(&shared.stats, sender, &message).await {
                Passage::In { newcomer } => newcomer,
                Passage::Refused { retry_after } => {
                    let refusal = gate::refusal(&message, &shared.settings.message, remote, retry_after);
                    if refusal.is_some_and(|bytes| connection.enqueue(Outgoing::Plain(bytes)).is_err()) {
                        return End::SlowReader;
                    }
                    continue;
                }
                Passage::Out | Passage::Full { .. } => continue,
            };
            let Ok(permit) = Arc::clone(&in_flight).acquire_owned().await else { return End::Closed };
            let Ok(room) = Arc::clone(&shared.stream_room).acquire_owned().await else { return End::Closed };
            // As long as it had to wait here nobody was asked for what follows it.
            last_read = Instant::now();
            since = last_read;
            let turn = Turn::of_stream(newcomer, [permit, room]);
            let event = match parse_with(&message, &shared.settings.message) {
                Ok(message) => {
                    proven = true;
                    TransportEvent::Message {
                        peer: origin.peer.clone(),
                        message,
                        tls_names: Arc::clone(tls_names),
                        turn,
                    }
                }
                Err(error) => {
                    shared.stats.add(&shared.stats.malformed);
                    // A stream proves its far end's address, so that the answer may be longer than what came.
                    let refusal = error.refusal(origin.peer.remote).map(|refusal| refusal.to_bytes());
                    TransportEvent::Malformed { peer: origin.peer.clone(), fault: error.kind, refusal, turn }
                }
            };
            if shared.events.send(event).await.is_err() {
                return End::Closed;
            }
        }
        let was_inside = framer.is_inside_message();
        let allowed = if proven && !was_inside { settings.idle } else { settings.message };
        framer.buffer().reserve(READ);
        match timeout_at(since + allowed, reader.read_buf(framer.buffer())).await {
            Ok(Ok(0) | Err(_)) => return End::Closed,
            Ok(Ok(_)) => {}
            Err(_) => return End::Stalled,
        }
        // A message's time runs from its first octet, a pause's from the last one.
        last_read = Instant::now();
        if proven && !was_inside {
            since = last_read;
        }
    }
}

/// The stream can't be followed: the request that broke it is refused, and the stream ends.
fn refuse_stream(shared: &Shared, connection: &Connection, origin: &Origin, error: &ParseError) -> End {
    shared.stats.add(&shared.stats.malformed);
    if let Some(refusal) = error.refusal(origin.peer.remote) {
        let _ = connection.enqueue(Outgoing::Plain(refusal.to_bytes()));
    }
    let fault = error.kind.clone();
    shared.report(TransportEvent::Malformed {
        peer: origin.peer.clone(),
        fault,
        refusal: None,
        turn: Turn::default(),
    });
    End::Broken
}
