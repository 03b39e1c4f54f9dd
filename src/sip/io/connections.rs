//! The table of open streams: found by identity and by far end, counted by address.

use super::event::TransportFailure;
use super::settings::StreamSettings;
use crate::types::{ConnectionId, NetworkId, Peer, Transport};
use bytes::Bytes;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

/// Entries of a queue, beside the octets they hold: answers to keep-alives are short.
const QUEUE: usize = 4_096;

/// What is put into a stream's queue.
pub(super) enum Outgoing {
    Message {
        bytes: Bytes,
        ticket: u64,
    },
    /// Octets nobody asks after: answers to keep-alives and refusals.
    Plain(Bytes),
    /// Nothing follows: write what came before and close.
    Finish,
}

impl Outgoing {
    pub(super) fn len(&self) -> usize {
        match self {
            Outgoing::Message { bytes, .. } | Outgoing::Plain(bytes) => bytes.len(),
            Outgoing::Finish => 0,
        }
    }
}

/// Where a stream that we open leads. A connection made for one name serves no other (RFC 5922 §7.3, CVE-2020-15260).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Destination {
    network: NetworkId,
    transport: Transport,
    remote: SocketAddr,
    tls_name: Option<Arc<str>>,
}

impl Destination {
    pub(super) fn of(peer: &Peer) -> Destination {
        Destination {
            network: peer.network,
            transport: peer.transport,
            remote: peer.remote,
            tls_name: peer.tls_name.clone(),
        }
    }
}

/// One stream as others see it.
pub(super) struct Connection {
    pub id: ConnectionId,
    queue: mpsc::Sender<Outgoing>,
    queued: AtomicUsize,
    limit: usize,
    abort: Notify,
}

impl Connection {
    /// Puts something into the queue. A queue that is full ends the stream.
    pub(super) fn enqueue(&self, outgoing: Outgoing) -> Result<(), TransportFailure> {
        let length = outgoing.len();
        if self.queued.fetch_add(length, Ordering::Relaxed) + length > self.limit {
            self.abort();
            return Err(TransportFailure::SlowReader);
        }
        self.queue.try_send(outgoing).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.abort();
                TransportFailure::SlowReader
            }
            TrySendError::Closed(_) => TransportFailure::Closed,
        })
    }

    pub(super) fn written(&self, length: usize) {
        self.queued.fetch_sub(length, Ordering::Relaxed);
    }

    pub(super) fn is_overfull(&self) -> bool {
        self.queued.load(Ordering::Relaxed) > self.limit || self.queue.capacity() == 0
    }

    pub(super) fn abort(&self) {
        self.abort.notify_one();
    }

    /// Returns when the stream has to end at once.
    pub(super) async fn aborted(&self) {
        self.abort.notified().await;
    }
}

/// True if the far end opened it. The identity tells, so that it is known after the stream is gone as well.
pub(super) fn is_accepted(id: ConnectionId) -> bool {
    id.0 & 1 == 1
}

/// Whoever has one IPv6 address has the whole /64 it is in, so that is what is counted.
fn source(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(_) => remote,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

#[derive(Default)]
struct Table {
    by_id: HashMap<ConnectionId, Arc<Connection>>,
    by_destination: HashMap<Destination, ConnectionId>,
    accepted_from: HashMap<IpAddr, usize>,
    accepted: usize,
}

pub(super) struct Connections {
    settings: StreamSettings,
    next: AtomicU64,
    table: Mutex<Table>,
    gone: Notify,
}

/// A stream's part of the table, taken out again when its task ends, however it ends.
pub(super) struct Entry {
    pub connection: Arc<Connection>,
    pub queue: mpsc::Receiver<Outgoing>,
}

impl Connections {
    pub(super) fn new(settings: StreamSettings) -> Connections {
        Connections { settings, next: AtomicU64::new(1), table: Mutex::default(), gone: Notify::new() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is only ever left whole.
        self.table.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn len(&self) -> usize {
        self.table().by_id.len()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.table().by_id.get(&id).cloned()
    }

    /// Takes in a stream somebody opened to us; `None` at a limit.
    pub(super) fn accept(&self, remote: IpAddr) -> Option<Entry> {
        let remote = source(remote);
        let mut table = self.table();
        let from = table.accepted_from.get(&remote).copied().unwrap_or(0);
        if from >= self.settings.max_per_address || table.accepted >= self.settings.max_accepted {
            return None;
        }
        table.accepted_from.insert(remote, from + 1);
        table.accepted += 1;
        let entry = self.entry(true);
        table.by_id.insert(entry.connection.id, Arc::clone(&entry.connection));
        Some(entry)
    }

    /// The stream to a destination; the entry is there if it is new and has to be opened.
    pub(super) fn open(&self, destination: &Destination) -> (Arc<Connection>, Option<Entry>) {
        let mut table = self.table();
        let known = table.by_destination.get(destination).and_then(|id| table.by_id.get(id));
        if let Some(known) = known {
            return (Arc::clone(known), None);
        }
        let entry = self.entry(false);
        table.by_id.insert(entry.connection.id, Arc::clone(&entry.connection));
        table.by_destination.insert(destination.clone(), entry.connection.id);
        (Arc::clone(&entry.connection), Some(entry))
    }

    fn entry(&self, accepted: bool) -> Entry {
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed) << 1 | u64::from(accepted));
        let (sender, queue) = mpsc::channel(QUEUE);
        let connection = Arc::new(Connection {
            id,
            queue: sender,
            queued: AtomicUsize::new(0),
            limit: self.settings.queue,
            abort: Notify::new(),
        });
        Entry { connection, queue }
    }

    pub(super) fn remove(&self, id: ConnectionId, remote: IpAddr, destination: Option<&Destination>) {
        let mut table = self.table();
        table.by_id.remove(&id);
        if let Some(destination) = destination.filter(|known| table.by_destination.get(known) == Some(&id)) {
            table.by_destination.remove(destination);
        }
        if is_accepted(id) {
            table.accepted -= 1;
            let remote = source(remote);
            if let Some(from) = table.accepted_from.get_mut(&remote) {
                *from -= 1;
                if *from == 0 {
                    table.accepted_from.remove(&remote);
                }
            }
        }
        drop(table);
        self.gone.notify_waiters();
    }

    pub(super) fn finish_all(&self) {
        for connection in self.table().by_id.values() {
            // One that takes nothing any more has been told to end by that.
            let _ = connection.enqueue(Outgoing::Finish);
        }
    }

    pub(super) fn abort_all(&self) {
        self.table().by_id.values().for_each(|connection| connection.abort());
    }

    pub(super) async fn all_gone(&self) {
        loop {
            let gone = self.gone.notified();
            tokio::pin!(gone);
            gone.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            gone.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_streams_are_counted_by_their_network() {
        let settings = StreamSettings { max_per_address: 2, max_accepted: 3, ..StreamSettings::default() };
        let connections = Connections::new(settings);
        let accept = |remote: &str| connections.accept(remote.parse().unwrap());
        let first = accept("2001:db8::1").unwrap();
        let _second = accept("2001:db8::ffff:0:0:2").unwrap();
        assert!(accept("2001:db8::3").is_none());
        assert!(is_accepted(first.connection.id));
        connections.remove(first.connection.id, "2001:db8::1".parse().unwrap(), None);
        let _third = accept("2001:db8::3").unwrap();
        let _fourth = accept("2001:db8:0:1::1").unwrap();
        // Three in all.
        assert!(accept("192.0.2.1").is_none());
    }
}
