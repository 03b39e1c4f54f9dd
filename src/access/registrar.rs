//! Where the app users' devices are: the bindings of RFC 3261 §10, as a machine on virtual time.

use crate::types::{ConnectionId, NetworkId, Now, Peer, Transport, UnixMillis};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistrarSettings {
    /// A shorter time is refused with 423.
    pub min_expires: Duration,
    /// A longer time is shortened.
    pub max_expires: Duration,
    /// Where the device asks for none.
    pub default_expires: Duration,
    /// Devices of one user.
    pub max_bindings: usize,
}

impl Default for RegistrarSettings {
    fn default() -> RegistrarSettings {
        RegistrarSettings {
            min_expires: Duration::from_secs(60),
            max_expires: Duration::from_secs(3_600),
            default_expires: Duration::from_secs(3_600),
            max_bindings: 8,
        }
    }
}

/// An authenticated REGISTER of one user.
#[derive(Debug, Clone)]
pub struct Register {
    /// The user of the To header, who is the authenticated one.
    pub user: Arc<str>,
    pub call_id: String,
    pub cseq: u32,
    pub contacts: Contacts,
    /// The Expires header in seconds.
    pub expires: Option<u32>,
    pub user_agent: Option<String>,
    /// Where the request came from: calls to the device go back that way.
    pub peer: Peer,
}

#[derive(Debug, Clone)]
pub enum Contacts {
    /// No Contact: the device asks what is registered.
    Query,
    /// `Contact: *`
    Wildcard,
    List(Vec<Contact>),
}

#[derive(Debug, Clone)]
pub struct Contact {
    /// The URI in one canonical form: equal texts are equal URIs (RFC 3261 §19.1.4).
    pub uri: String,
    /// The expires parameter in seconds.
    pub expires: Option<u32>,
    /// The q parameter in thousandths.
    pub q: Option<u16>,
    /// The +sip.instance parameter (RFC 5626 §4.1).
    pub instance: Option<String>,
}

/// One device of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    pub contact: String,
    pub peer: Peer,
    pub expires_at: Instant,
    pub expires_unix_ms: UnixMillis,
    pub registered_unix_ms: UnixMillis,
    pub call_id: String,
    pub cseq: u32,
    /// In thousandths; 1000 where the device said nothing.
    pub q: u16,
    pub instance: Option<String>,
    pub user_agent: Option<String>,
    /// Its stream is gone: it can't be called until it registers again.
    pub lost: bool,
}

impl Binding {
    /// Whole seconds left, rounded up, for the answer's expires parameter.
    pub fn seconds_left(&self, now: Instant) -> u64 {
        self.expires_at.saturating_duration_since(now).as_millis().div_ceil(1_000) as u64
    }
}

/// Why a REGISTER is refused; no binding has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// 423 with Min-Expires (RFC 3261 §10.3 step 7).
    #[error("the registration is shorter than {min_expires} seconds")]
    TooBrief { min_expires: u64 },
    /// 500: an older request of the same registration (RFC 3261 §10.3 steps 6 and 7).
    #[error("a newer registration with this Call-ID is known")]
    OutOfOrder,
    /// 400: `*` stands alone and with Expires 0 only (RFC 3261 §10.3 step 6).
    #[error("the wildcard contact needs Expires: 0")]
    WildcardMisused,
    /// 403.
    #[error("the user has {max} devices already")]
    TooMany { max: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum RegistrarOutput {
    /// A binding is new or renewed.
    Stored { user: Arc<str>, contact: String, new: bool },
    /// A binding is gone.
    Removed { user: Arc<str>, contact: String, reason: RemovedBecause },
    /// A binding's stream is gone.
    Lost { user: Arc<str>, contact: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovedBecause {
    /// The device unregistered.
    Unregistered,
    Expired,
    /// The same device came back with another contact.
    Replaced,
    /// The user is gone, or an operator removed it.
    Removed,
}

/// A binding as it survives a restart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredBinding {
    pub user: String,
    pub contact: String,
    pub network: u8,
    pub transport: Transport,
    pub remote: SocketAddr,
    pub local: SocketAddr,
    pub expires_unix_ms: UnixMillis,
    pub registered_unix_ms: UnixMillis,
    pub call_id: String,
    pub cseq: u32,
    pub q: u16,
    pub instance: Option<String>,
    pub user_agent: Option<String>,
}

/// The registrar. Users without a binding take no memory.
#[derive(Debug)]
pub struct Registrar {
    settings: RegistrarSettings,
    users: HashMap<Arc<str>, Vec<Binding>>,
    deadlines: BTreeSet<(Instant, Arc<str>, String)>,
    connections: HashMap<ConnectionId, Vec<(Arc<str>, String)>>,
    /// How many bindings an address has, to tell users from trunks.
    addresses: HashMap<IpAddr, usize>,
    count: usize,
    outputs: VecDeque<RegistrarOutput>,
}

/// One change that a REGISTER asks for.
struct Change<'a> {
    contact: &'a Contact,
    /// `None` removes.
    lifetime: Option<Duration>,
}

impl Registrar {
    pub fn new(settings: RegistrarSettings) -> Registrar {
        Registrar {
            settings,
            users: HashMap::new(),
            deadlines: BTreeSet::new(),
            connections: HashMap::new(),
            addresses: HashMap::new(),
            count: 0,
            outputs: VecDeque::new(),
        }
    }

    /// Takes new settings; running registrations keep their times.
    pub fn set(&mut self, settings: RegistrarSettings) {
        self.settings = settings;
    }

    /// Handles a REGISTER: all of it, or nothing (RFC 3261 §10.3 step 7). Gives the user's bindings for the 200.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub fn handle_register(&mut self, now: Now, register: &Register) -> Result<&[Binding], RegisterError> {
        self.handle_timeout(now);
        match &register.contacts {
            Contacts::Query => {}
            Contacts::Wildcard => self.unregister_all(register)?,
            Contacts::List(contacts) => self.update(now, register, contacts)?,
        }
        Ok(self.bindings(&register.user))
    }

    fn unregister_all(&mut self, register: &Register) -> Result<(), RegisterError> {
        if register.expires != Some(0) {
            return Err(RegisterError::WildcardMisused);
        }
        let bindings = self.bindings(&register.user);
        if bindings.iter().any(|binding| is_stale(binding, register)) {
            return Err(RegisterError::OutOfOrder);
        }
        let contacts: Vec<String> = bindings.iter().map(|binding| binding.contact.clone()).collect();
        for contact in contacts {
            self.remove(&register.user, &contact, RemovedBecause::Unregistered);
        }
        Ok(())
    }

    fn update(&mut self, now: Now, register: &Register, contacts: &[Contact]) -> Result<(), RegisterError> {
        let changes = self.changes(register, contacts)?;
        for change in changes {
            match change.lifetime {
                Some(lifetime) => self.store(now, register, change.contact, lifetime),
                None => self.remove(&register.user, &change.contact.uri, RemovedBecause::Unregistered),
            }
        }
        Ok(())
    }

    /// What is to be done, if all of it may be done.
    fn changes<'c>(
        &self,
        register: &Register,
        contacts: &'c [Contact],
    ) -> Result<Vec<Change<'c>>, RegisterError> {
        let bindings = self.bindings(&register.user);
        let mut changes: Vec<Change<'c>> = Vec::with_capacity(contacts.len());
        for contact in contacts {
            let asked =
                contact.expires.or(register.expires).map(|seconds| Duration::from_secs(seconds.into()));
            let lifetime = match asked {
                Some(Duration::ZERO) => None,
                // RFC 3261 §10.3: a time shorter than the minimum may be refused; one of an hour or more may not.
                Some(asked) if asked < self.settings.min_expires && asked < Duration::from_secs(3_600) => {
                    return Err(RegisterError::TooBrief { min_expires: self.settings.min_expires.as_secs() });
                }
                Some(asked) => Some(asked.min(self.settings.max_expires)),
                None => Some(self.settings.default_expires.min(self.settings.max_expires)),
            };
            let known = bindings.iter().find(|binding| binding.contact == contact.uri);
            if known.is_some_and(|binding| is_stale(binding, register)) {
                return Err(RegisterError::OutOfOrder);
            }
            // The same contact twice in one request: the last one counts.
            changes.retain(|change| change.contact.uri != contact.uri);
            changes.push(Change { contact, lifetime });
        }
        let kept = bindings.iter().filter(|binding| {
            !changes.iter().any(|change| {
                change.contact.uri == binding.contact
                    || (change.lifetime.is_some() && is_same_device(binding, change.contact))
            })
        });
        let stored = changes.iter().filter(|change| change.lifetime.is_some()).count();
        if stored > 0 && kept.count() + stored > self.settings.max_bindings {
            return Err(RegisterError::TooMany { max: self.settings.max_bindings });
        }
        Ok(changes)
    }

    fn store(&mut self, now: Now, register: &Register, contact: &Contact, lifetime: Duration) {
        let replaced: Vec<String> = self
            .bindings(&register.user)
            .iter()
            .filter(|binding| binding.contact != contact.uri && is_same_device(binding, contact))
            .map(|binding| binding.contact.clone())
            .collect();
        for old in replaced {
            self.remove(&register.user, &old, RemovedBecause::Replaced);
        }
        let until = now.after(lifetime);
        let binding = Binding {
            contact: contact.uri.clone(),
            peer: register.peer.clone(),
            expires_at: until.instant,
            expires_unix_ms: until.unix_ms,
            registered_unix_ms: now.unix_ms,
            call_id: register.call_id.clone(),
            cseq: register.cseq,
            q: contact.q.unwrap_or(1_000).min(1_000),
            instance: contact.instance.clone(),
            user_agent: register.user_agent.clone(),
            lost: false,
        };
        let new = !self.insert(register.user.clone(), binding);
        self.outputs.push_back(RegistrarOutput::Stored {
            user: register.user.clone(),
            contact: contact.uri.clone(),
            new,
        });
    }

    /// Puts a binding in the place of the one with the same contact; true where there was one.
    fn insert(&mut self, user: Arc<str>, binding: Binding) -> bool {
        let replaced = self.take(&user, &binding.contact).is_some();
        self.deadlines.insert((binding.expires_at, user.clone(), binding.contact.clone()));
        if let (Some(connection), false) = (binding.peer.connection, binding.lost) {
            self.connections.entry(connection).or_default().push((user.clone(), binding.contact.clone()));
        }
        *self.addresses.entry(binding.peer.remote.ip().to_canonical()).or_default() += 1;
        self.count += 1;
        let bindings = self.users.entry(user).or_default();
        bindings.push(binding);
        // The device that is wanted most first, among equals the latest (RFC 3261 §10.2.1.2).
        bindings.sort_by_key(|binding| {
            (std::cmp::Reverse(binding.q), std::cmp::Reverse(binding.registered_unix_ms))
        });
        replaced
    }

    /// Takes a binding out of all indices.
    fn take(&mut self, user: &Arc<str>, contact: &str) -> Option<Binding> {
        let bindings = self.users.get_mut(user)?;
        let index = bindings.iter().position(|binding| binding.contact == contact)?;
        let binding = bindings.remove(index);
        if bindings.is_empty() {
            self.users.remove(user);
        }
        self.deadlines.remove(&(binding.expires_at, user.clone(), binding.contact.clone()));
        if let Some(connection) = binding.peer.connection
            && let Some(list) = self.connections.get_mut(&connection)
        {
            list.retain(|(known, known_contact)| known != user || known_contact != contact);
            if list.is_empty() {
                self.connections.remove(&connection);
            }
        }
        let address = binding.peer.remote.ip().to_canonical();
        if let Some(count) = self.addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&address);
            }
        }
        self.count -= 1;
        Some(binding)
    }

    fn remove(&mut self, user: &Arc<str>, contact: &str, reason: RemovedBecause) {
        if self.take(user, contact).is_some() {
            let output = RegistrarOutput::Removed { user: user.clone(), contact: contact.to_owned(), reason };
            self.outputs.push_back(output);
        }
    }

    /// Removes all bindings of a user that no longer exists.
    pub fn remove_user(&mut self, user: &str) {
        let contacts: Vec<String> =
            self.bindings(user).iter().map(|binding| binding.contact.clone()).collect();
        let user: Arc<str> = user.into();
        for contact in contacts {
            self.remove(&user, &contact, RemovedBecause::Removed);
        }
    }

    /// A stream is gone: what is registered over it can't be called (RFC 5626 §5.3), but keeps its time, so that
    /// views show the device and a renewal is no new one.
    pub fn handle_connection_lost(&mut self, connection: ConnectionId) {
        for (user, contact) in self.connections.remove(&connection).unwrap_or_default() {
            let bindings = self.users.get_mut(&user);
            if let Some(binding) = bindings.into_iter().flatten().find(|binding| binding.contact == contact) {
                binding.lost = true;
                self.outputs.push_back(RegistrarOutput::Lost { user, contact });
            }
        }
    }

    /// Removes what has expired.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((_, user, contact)) =
            self.deadlines.first().filter(|(at, ..)| *at <= now.instant).cloned()
        {
            self.remove(&user, &contact, RemovedBecause::Expired);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, ..)| *at)
    }

    pub fn poll_output(&mut self) -> Option<RegistrarOutput> {
        self.outputs.pop_front()
    }

    /// All bindings of a user, the most wanted first; also those whose stream is lost.
    pub fn bindings(&self, user: &str) -> &[Binding] {
        self.users.get(user).map_or(&[], Vec::as_slice)
    }

    /// The devices that can be called.
    pub fn reachable(&self, user: &str) -> impl Iterator<Item = &Binding> {
        self.bindings(user).iter().filter(|binding| !binding.lost)
    }

    /// The user registered over this flow, for requests that follow a registration on the same stream or address.
    pub fn user_of(&self, peer: &Peer) -> Option<&Arc<str>> {
        let connection = peer.connection?;
        self.connections.get(&connection)?.first().map(|(user, _)| user)
    }

    /// True where a device is registered from this address: only an exact `address:port` makes it a trunk.
    pub fn serves_address(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address.to_canonical())
    }

    /// How long a registration lasts at most.
    pub fn longest(&self) -> Duration {
        self.settings.max_expires
    }

    /// All bindings, lost ones too.
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every user with its bindings, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[Binding])> {
        let mut users: Vec<(&Arc<str>, &[Binding])> =
            self.users.iter().map(|(user, bindings)| (user, bindings.as_slice())).collect();
        users.sort_by(|a, b| a.0.cmp(b.0));
        users.into_iter()
    }

    /// All bindings as they survive a restart.
    pub fn snapshot(&self) -> Vec<StoredBinding> {
        self.iter()
            .flat_map(|(user, bindings)| bindings.iter().map(|binding| stored(user, binding)))
            .collect()
    }

    /// One binding as it survives a restart.
    pub fn stored(&self, user: &str, contact: &str) -> Option<StoredBinding> {
        self.bindings(user)
            .iter()
            .find(|binding| binding.contact == contact)
            .map(|binding| stored(user, binding))
    }

    /// Takes what survived a restart. Registrations over UDP live on; the streams of the others are gone.
    pub fn restore(&mut self, now: Now, stored: Vec<StoredBinding>) {
        for stored in stored {
            let left = stored.expires_unix_ms - now.unix_ms;
            if left <= 0 {
                continue;
            }
            // A clock that was set back while we were down must not make a registration last for ever.
            let left = Duration::from_millis(left as u64).min(self.settings.max_expires);
            let until = now.after(left);
            let lost = stored.transport.is_reliable();
            let binding = Binding {
                contact: stored.contact,
                peer: Peer {
                    network: NetworkId(stored.network),
                    transport: stored.transport,
                    remote: stored.remote,
                    local: stored.local,
                    connection: None,
                    tls_name: None,
                },
                expires_at: until.instant,
                expires_unix_ms: until.unix_ms,
                registered_unix_ms: stored.registered_unix_ms,
                call_id: stored.call_id,
                cseq: stored.cseq,
                q: stored.q,
                instance: stored.instance,
                user_agent: stored.user_agent,
                lost,
            };
            self.insert(stored.user.into(), binding);
        }
    }
}

fn stored(user: &str, binding: &Binding) -> StoredBinding {
    StoredBinding {
        user: user.to_owned(),
        contact: binding.contact.clone(),
        network: binding.peer.network.0,
        transport: binding.peer.transport,
        remote: binding.peer.remote,
        local: binding.peer.local,
        expires_unix_ms: binding.expires_unix_ms,
        registered_unix_ms: binding.registered_unix_ms,
        call_id: binding.call_id.clone(),
        cseq: binding.cseq,
        q: binding.q,
        instance: binding.instance.clone(),
        user_agent: binding.user_agent.clone(),
    }
}

/// RFC 3261 §10.3 step 7: within one Call-ID a higher CSeq is newer; another Call-ID is a restarted device.
fn is_stale(binding: &Binding, register: &Register) -> bool {
    binding.call_id == register.call_id && register.cseq <= binding.cseq
}

/// A device that names its instance replaces its own old contact (RFC 5626 §6), so that a restart or a new NAT
/// binding leaves no ghost that rings nobody.
fn is_same_device(binding: &Binding, contact: &Contact) -> bool {
    contact.instance.is_some() && binding.instance == contact.instance
}

#[cfg(test)]
mod tests;
