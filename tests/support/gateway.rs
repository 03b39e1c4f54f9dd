//! A gateway under test: its configuration, its process, and its admin API as a user sees them.

use super::{http, lane::Lane, metrics::Metrics, process::Process, sipp::Over, tls::Authority, wait};
use serde_json::Value;
use std::{
    cell::RefCell,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};
use toml::{Table, Value as Toml};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tandem");
/// Realm of the users and domain of their addresses.
pub const REALM: &str = "tandem.test";
/// Every user's password.
pub const PASSWORD: &str = "correct-horse";
/// The admin role's token.
pub const TOKEN: &str = "token-of-the-tests";

/// What a gateway is started with. Starts from a configuration that fits the lane, everything else at its default.
pub struct GatewayBuilder<'a> {
    lane: &'a Lane,
    name: String,
    config: Table,
    dialplan: Option<String>,
    environment: Vec<(String, String)>,
    ports: Ports,
    authority: Option<Authority>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    sip: u16,
    tls: u16,
    admin: u16,
}

impl<'a> GatewayBuilder<'a> {
    /// A gateway on UDP and TCP of 127.0.0.1, without users and trunks.
    pub fn new(lane: &'a Lane, name: &str) -> GatewayBuilder<'a> {
        let sip = lane.ports(2);
        let ports = Ports { sip, tls: sip + 1, admin: lane.port() };
        let config = format!(
            r#"
            dialplan = "dialplan.toml"
            [gateway]
            name = "{name}"
            data_dir = "data"
            [sip]
            listen = ["udp:127.0.0.1:{sip}", "tcp:127.0.0.1:{sip}"]
            realm = "{REALM}"
            [[network]]
            name = "default"
            bind = ["127.0.0.1"]
            media_ports = "{media}"
            [media]
            workers = 1
            [database]
            url = "sqlite:data/tandem.db"
            [admin]
            listen = "127.0.0.1:{admin}"
            token = "{TOKEN}"
            [billing]
            journal_dir = "data/journal"
            "#,
            media = lane.media_ports(),
            admin = ports.admin,
        );
        GatewayBuilder {
            lane,
            name: name.to_owned(),
            config: config.parse().expect("the base configuration is TOML"),
            dialplan: None,
            environment: Vec::new(),
            ports,
            authority: None,
        }
    }

    /// Sets one key, as `set("media.timeout_seconds", 2)`.
    pub fn set(mut self, path: &str, value: impl Into<Toml>) -> Self {
        put(&mut self.config, path, value.into());
        self
    }

    /// Also listens on TLS, with a certificate of `authority` for 127.0.0.1 and localhost.
    pub fn tls(mut self, authority: &Authority) -> Self {
        let folder = self.lane.make_folder(&self.name);
        let issued = authority.issue("gateway");
        std::fs::write(folder.join("cert.pem"), issued.certificate).expect("a certificate file");
        std::fs::write(folder.join("key.pem"), issued.key).expect("a key file");
        std::fs::write(folder.join("ca.pem"), authority.certificate()).expect("an authority file");
        self.authority = Some(authority.clone());
        let (sip, tls) = (self.ports.sip, self.ports.tls);
        let listen =
            [format!("udp:127.0.0.1:{sip}"), format!("tcp:127.0.0.1:{sip}"), format!("tls:127.0.0.1:{tls}")];
        self.set("sip.listen", listen.map(Toml::from).to_vec())
            .set("tls.certificate", "cert.pem")
            .set("tls.key", "key.pem")
            .set("tls.ca", "ca.pem")
    }

    /// An app user with a number of its own.
    pub fn user(self, name: &str, number: &str) -> Self {
        self.user_with(name, number, |_| {})
    }

    /// An app user whose section `more` completes.
    pub fn user_with(mut self, name: &str, number: &str, more: impl FnOnce(&mut Section)) -> Self {
        let mut section = Section::default();
        section.set("name", name).set("password", PASSWORD);
        section.set("caller_ids", vec![Toml::from(number)]).set("dids", vec![Toml::from(number)]);
        more(&mut section);
        append(&mut self.config, "user", section.0);
        self
    }

    /// A trunk to `proxy` over UDP, admitted by its address and port, that is not asked for its health.
    pub fn trunk(self, name: &str, proxy: SocketAddr) -> Self {
        self.trunk_with(name, proxy, |_| {})
    }

    /// A trunk whose section `more` completes.
    pub fn trunk_with(mut self, name: &str, proxy: SocketAddr, more: impl FnOnce(&mut Section)) -> Self {
        let mut section = Section::default();
        section.set("name", name).set("carrier", format!("Carrier of {name}"));
        section.set("proxy", vec![Toml::from(proxy.to_string())]);
        section.set("peers", vec![Toml::from(proxy.to_string())]);
        section.set("options_seconds", 0);
        more(&mut section);
        append(&mut self.config, "trunk", section.0);
        self
    }

    /// Any other section that may stand several times, as `rate`.
    pub fn section(mut self, name: &str, fill: impl FnOnce(&mut Section)) -> Self {
        let mut section = Section::default();
        fill(&mut section);
        append(&mut self.config, name, section.0);
        self
    }

    /// The whole dialplan. Without it: Belgian numbers and 00… to all trunks in order, 0900 blocked, +322555 to users.
    pub fn dialplan(mut self, text: &str) -> Self {
        self.dialplan = Some(text.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where the users' requests go before the gateway runs.
    pub fn udp(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.sip))
    }

    /// Where TLS will be taken, once [`tls`](Self::tls) is set.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.tls))
    }

    /// Writes configuration and dialplan; gives the path of the configuration.
    pub fn write(&self) -> PathBuf {
        let folder = self.lane.make_folder(&self.name);
        let dialplan = self.dialplan.clone().unwrap_or_else(|| default_dialplan(&self.config));
        std::fs::write(folder.join("dialplan.toml"), dialplan).expect("a dialplan file");
        let file = folder.join("tandem.toml");
        std::fs::write(&file, self.config.to_string()).expect("a configuration file");
        file
    }

    /// Starts the gateway and waits until it says that it is ready.
    #[track_caller]
    pub fn start(self) -> Gateway<'a> {
        let gateway = self.start_unready();
        gateway.wait_ready();
        gateway
    }

    /// Starts the gateway and waits only until its admin API answers.
    #[track_caller]
    pub fn start_unready(self) -> Gateway<'a> {
        let gateway = self.start_unread();
        gateway.read_log();
        gateway
    }

    /// As [`start_unready`](Self::start_unready), but nobody reads its log until [`Gateway::read_log`].
    #[track_caller]
    pub fn start_unread(self) -> Gateway<'a> {
        let file = self.write();
        let process = run(&self.name, &file, &self.environment);
        let gateway = Gateway { builder: self, file, process: RefCell::new(process) };
        gateway.wait_alive();
        gateway
    }
}

/// One `[[user]]`, `[[trunk]]` … of the configuration.
#[derive(Default)]
pub struct Section(Table);

impl Section {
    pub fn set(&mut self, key: &str, value: impl Into<Toml>) -> &mut Section {
        put(&mut self.0, key, value.into());
        self
    }
}

fn put(table: &mut Table, path: &str, value: Toml) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((section, rest)) => {
            let section = table.entry(section).or_insert_with(|| Toml::Table(Table::new()));
            // `network.x` speaks of the first (and by default only) network.
            let table = match section {
                Toml::Array(list) => list.first_mut().and_then(Toml::as_table_mut),
                other => other.as_table_mut(),
            };
            put(table.unwrap_or_else(|| panic!("{path} is no key of a section")), rest, value);
        }
    }
}

fn append(config: &mut Table, name: &str, section: Table) {
    let list = config.entry(name).or_insert_with(|| Toml::Array(Vec::new()));
    list.as_array_mut().unwrap_or_else(|| panic!("{name} is no list")).push(Toml::Table(section));
}

fn default_dialplan(config: &Table) -> String {
    let trunks: Vec<String> = config
        .get("trunk")
        .and_then(Toml::as_array)
        .into_iter()
        .flatten()
        .filter_map(|trunk| trunk.get("name").and_then(Toml::as_str))
        .map(str::to_owned)
        .collect();
    let quoted = trunks.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let mut text = String::from(
        "country_code = \"32\"\n\n[[rule]]\nname = \"premium numbers\"\nmatch = \"+32900\"\nreject = 403\n",
    );
    text += "\n[[rule]]\nname = \"our numbers\"\nfrom = \"any\"\nmatch = \"+322555\"\nto = \"users\"\n";
    if !trunks.is_empty() {
        text += &format!("\n[[rule]]\nname = \"Belgium\"\nmatch = \"+32\"\ntrunks = [{quoted}]\n");
    }
    text
}

fn run(name: &str, file: &Path, environment: &[(String, String)]) -> Process {
    let mut command = Command::new(BINARY);
    command.arg("run").arg("--config").arg(file).current_dir(file.parent().expect("a folder"));
    command.env("RUST_BACKTRACE", "1").envs(environment.iter().cloned());
    Process::start_unread(name, command)
}

/// Runs the binary to its end, as a user on the command line.
pub fn tandem(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).output().expect("the tandem binary runs")
}

/// A running gateway. Dropping it kills it.
pub struct Gateway<'a> {
    builder: GatewayBuilder<'a>,
    file: PathBuf,
    process: RefCell<Process>,
}

impl<'a> Gateway<'a> {
    /// A gateway to configure.
    pub fn on(lane: &'a Lane) -> GatewayBuilder<'a> {
        GatewayBuilder::new(lane, "gateway")
    }

    pub fn udp(&self) -> SocketAddr {
        self.builder.udp()
    }
    pub fn tcp(&self) -> SocketAddr {
        self.builder.udp()
    }
    pub fn tls(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.builder.ports.tls))
    }
    /// Where it takes this transport.
    pub fn at(&self, over: Over<'_>) -> SocketAddr {
        match over {
            Over::Udp => self.udp(),
            Over::Tcp => self.tcp(),
            Over::Tls(_) => self.tls(),
        }
    }
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.builder.ports.admin))
    }

    /// Its configuration file.
    pub fn config_file(&self) -> &Path {
        &self.file
    }
    /// The folder of its configuration and data.
    pub fn folder(&self) -> &Path {
        self.file.parent().expect("the file stands in a folder")
    }
    pub fn pid(&self) -> u32 {
        self.process.borrow().pid()
    }

    /// Begins to read its log.
    pub fn read_log(&self) {
        self.process.borrow_mut().read();
    }

    /// All that it has logged.
    pub fn log(&self) -> Vec<String> {
        self.process.borrow().log().lines()
    }

    #[track_caller]
    pub fn wait_log(&self, text: &str, limit: Duration) -> String {
        self.process.borrow().log().wait_for(text, limit)
    }

    #[track_caller]
    fn wait_alive(&self) {
        wait::until("the gateway to live", wait::START, || {
            let mut process = self.process.borrow_mut();
            if let Some(status) = process.ended() {
                panic!("the gateway ended at its start with {status}:\n{}", process.log().tail(40));
            }
            http::get(self.admin(), "/health/live").ok().filter(|answer| answer.status == 200)
        });
    }

    #[track_caller]
    pub fn wait_ready(&self) {
        wait::until("the gateway to be ready", wait::START, || self.is_ready().then_some(()));
    }

    pub fn is_ready(&self) -> bool {
        http::get(self.admin(), "/health/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// A request to the admin API with the admin's token.
    #[track_caller]
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> http::Answer {
        http::request(self.admin(), method, path, Some(TOKEN), &[], body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The JSON of a resource; panics unless it is answered with 200.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let answer = self.ask("GET", path, None);
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.body);
        answer.json()
    }

    /// The list in the JSON object of a resource, as `list("/api/v1/calls", "calls")`.
    #[track_caller]
    pub fn list(&self, path: &str, name: &str) -> Vec<Value> {
        let json = self.get(path);
        json.get(name).and_then(Value::as_array).unwrap_or_else(|| panic!("no list {name} in {json}")).clone()
    }

    #[track_caller]
    pub fn calls(&self) -> Vec<Value> {
        self.list("/api/v1/calls", "calls")
    }

    /// All CDRs in the database.
    #[track_caller]
    pub fn cdrs(&self) -> Vec<Value> {
        self.list("/api/v1/cdrs", "cdrs")
    }

    /// Waits until the database has `count` ended CDRs; gives them, oldest first.
    #[track_caller]
    pub fn wait_cdrs(&self, count: usize) -> Vec<Value> {
        let mut cdrs = wait::until(&format!("{count} CDRs"), wait::SOON, || {
            let cdrs = self.cdrs();
            let ended = cdrs.iter().filter(|cdr| !cdr["released_at"].is_null()).count();
            (ended >= count).then_some(cdrs)
        });
        assert_eq!(cdrs.len(), count, "{cdrs:#?}");
        cdrs.sort_by_key(|cdr| cdr["id"].as_str().unwrap_or_default().to_owned());
        cdrs
    }

    /// The one CDR of a test with one call.
    #[track_caller]
    pub fn wait_cdr(&self) -> Value {
        self.wait_cdrs(1).remove(0)
    }

    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let answer = http::get(self.admin(), "/metrics").expect("metrics are open to all");
        assert_eq!(answer.status, 200);
        Metrics::parse(&answer.body)
    }

    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().value(name, labels)
    }

    /// Waits until a metric has exactly this value.
    #[track_caller]
    pub fn wait_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.wait_metric_within(wait::SOON, name, labels, value);
    }

    /// As [`wait_metric`](Gateway::wait_metric), for what takes longer.
    #[track_caller]
    pub fn wait_metric_within(&self, limit: Duration, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = None;
        let reached = wait::within(limit, || {
            last = self.metrics().sum(name, labels);
            (last == Some(value)).then_some(())
        });
        assert!(reached.is_some(), "{name}{labels:?} is {last:?}, not {value}");
    }

    /// True once no call, transaction or media port is in use any more.
    #[track_caller]
    pub fn wait_idle(&self) {
        wait::until("all calls to end", wait::SOON, || self.calls().is_empty().then_some(()));
    }

    /// Changes the configuration file; takes effect with [`reload`](Gateway::reload) or a restart.
    pub fn change(&mut self, change: impl FnOnce(GatewayBuilder<'a>) -> GatewayBuilder<'a>) {
        let lane = self.builder.lane;
        let empty = GatewayBuilder {
            lane,
            name: String::new(),
            config: Table::new(),
            dialplan: None,
            environment: Vec::new(),
            ports: self.builder.ports,
            authority: None,
        };
        self.builder = change(std::mem::replace(&mut self.builder, empty));
        self.builder.write();
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.process.borrow().signal(signal);
    }

    #[track_caller]
    pub fn wait_exit(&self, limit: Duration) -> std::process::ExitStatus {
        self.process.borrow_mut().wait_exit(limit)
    }

    /// Ends it as a power cut of the process would.
    pub fn kill(&self) {
        self.process.borrow_mut().kill();
    }

    /// Starts it again with the same files, after [`kill`](Gateway::kill) or its own end.
    #[track_caller]
    pub fn start_again(&self) {
        let mut process = self.process.borrow_mut();
        if process.ended().is_none() {
            process.kill();
        }
        *process = run(&self.builder.name, &self.file, &self.builder.environment);
        process.read();
        drop(process);
        self.wait_alive();
        self.wait_ready();
    }
}
