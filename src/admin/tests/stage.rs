//! An API on a free port with a scripted core behind it.

use super::samples::{call, kept, registration, route, trunk, user};
use crate::admin::client::Client;
use crate::admin::control::*;
use crate::admin::{Admin, Control, ControlCommand, Role, Tokens, serve};
use crate::store::{NumberKeys, Store, StoreOptions};
use crate::telemetry::{LogControl, Metrics};
use crate::types::Secret;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// An API on a free port, its core, and clients for each role.
pub(super) struct Stage {
    pub url: String,
    orders: Arc<Mutex<Vec<String>>>,
    pub stop: Option<oneshot::Sender<()>>,
    pub store: Store,
    pub metrics: Arc<Metrics>,
    folder: PathBuf,
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tests run at once, in one process or in several.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed))
}

impl Stage {
    pub async fn start(state: CheckState) -> Stage {
        let orders = Arc::new(Mutex::new(Vec::new()));
        let (control, receiver) = Control::channel();
        let secrets = Role::ALL.map(|role| Secret::new(format!("{}-token", role.as_str())));
        let tokens = Role::ALL.iter().zip(&secrets).map(|(role, secret)| (role.as_str(), secret, *role));
        let log = LogControl::for_tests();
        let metrics = Arc::new(Metrics::new(&["operator-a".to_owned()]));
        let folder = std::env::temp_dir().join(format!("tandem-admin-{}", unique()));
        std::fs::create_dir_all(&folder).unwrap();
        let keys = NumberKeys::load(&folder.join("number.keys")).unwrap();
        let store = Store::connect(&Secret::new("sqlite::memory:"), keys, StoreOptions::default()).unwrap();
        let realm = Box::new(|| "example.org".to_owned());
        let admin = Admin {
            control,
            metrics: metrics.clone(),
            log,
            tokens: Tokens::new(tokens),
            store: store.clone(),
            realm,
        };
        tokio::spawn(core(receiver, orders.clone(), state, store.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(serve(listener, admin, async {
            let _ = stopped.await;
        }));
        Stage { url, orders, stop: Some(stop), store, metrics, folder }
    }

    pub fn client(&self, role: Role) -> Client {
        self.with_token(&format!("{}-token", role.as_str()))
    }

    pub fn with_token(&self, token: &str) -> Client {
        Client::new(&self.url, Secret::new(token)).unwrap()
    }

    pub fn orders(&self) -> Vec<String> {
        self.orders.lock().unwrap().clone()
    }
}

/// Answers every command with fixed views and notes the orders.
async fn core(
    mut commands: tokio::sync::mpsc::Receiver<ControlCommand>,
    orders: Arc<Mutex<Vec<String>>>,
    state: CheckState,
    store: Store,
) {
    let order = |text: String| orders.lock().unwrap().push(text);
    while let Some(command) = commands.recv().await {
        match command {
            ControlCommand::Calls { reply } => {
                let _ = reply.send(vec![call(1), call(2)]);
            }
            ControlCommand::Call { id, reply } => {
                let _ = reply.send([call(1), call(2)].into_iter().find(|call| call.id == id));
            }
            ControlCommand::Trace { id, reply } => {
                let known = [call(1), call(2)].iter().any(|call| call.id == id);
                let _ = reply.send(known.then(|| Traced { kept: kept(id), may_be_whole: true }));
            }
            ControlCommand::Hangup { id, reply } => {
                order(format!("hang up {id}"));
                let _ = reply.send([call(1), call(2)].into_iter().find(|call| call.id == id));
            }
            ControlCommand::Trunks { reply } => {
                let _ = reply.send(vec![trunk()]);
            }
            ControlCommand::Trunk { name, action, reply } => {
                order(format!("{} {name}", action.as_str()));
                let _ = reply.send((name == "operator-a").then(trunk));
            }
            ControlCommand::Registrations { reply } => {
                let _ = reply.send(vec![registration()]);
            }
            ControlCommand::Users { reply } => {
                let stored = store.users().await.unwrap_or_default();
                let stored = stored.into_iter().map(|stored| UserView {
                    name: stored.user.name.to_string(),
                    source: UserSource::Database,
                    dids: stored.user.dids.iter().map(ToString::to_string).collect(),
                    ..user()
                });
                let _ = reply.send(stored.chain([user()]).collect());
            }
            ControlCommand::UsersChanged { reply } => {
                order("read the users".to_owned());
                let _ = reply.send(Ok(()));
            }
            ControlCommand::Route { query, reply } => {
                let _ = reply.send(match query.from.as_str() {
                    "alice" => Ok(route(&query)),
                    other => Err(RouteQueryError::UnknownUser(other.to_owned())),
                });
            }
            ControlCommand::Reload { reply } => {
                let errors = vec!["tandem.toml:3: unknown key \"relam\"; did you mean \"realm\"?".to_owned()];
                let _ = reply.send(ReloadReport { errors, ..ReloadReport::default() });
            }
            ControlCommand::Drain { on, reply } => {
                order(format!("drain {on}"));
                let _ = reply.send(DrainView { draining: on, active_calls: 2, deadline: None });
            }
            ControlCommand::Readiness { reply } => {
                let check = ReadinessCheck::new("database", state, "it does not answer");
                let _ = reply.send(Readiness { checks: vec![check] });
            }
        }
    }
}

/// One request by hand, to see what the client hides. `rest` holds further headers and perhaps a body.
pub(super) async fn raw(stage: &Stage, method: &str, path: &str, rest: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let authority = stage.url.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(authority).await.unwrap();
    let end = if rest.contains("\r\n\r\n") { "" } else { "\r\n" };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n{rest}{end}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    if status >= 400 && path != "/health/ready" {
        assert!(head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{head}");
    }
    (status, body.to_owned())
}
