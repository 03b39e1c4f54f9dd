//! SIPp as an operator or an app user, playing a scenario of `tests/e2e/sipp/`.

use super::{
    gateway::{PASSWORD, REALM},
    lane::Lane,
    process::Process,
    tls::Authority,
    trace::{self, TracedMessage},
    wait,
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const SCENARIOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/sipp");
/// What a SIPp speaks.
#[derive(Clone, Copy)]
pub enum Over<'a> {
    Udp,
    Tcp,
    /// With a certificate of this authority, which also the far end's has to be from.
    Tls(&'a Authority),
}

impl Over<'_> {
    /// As configurations and Via write it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Over::Udp => "udp",
            Over::Tcp => "tcp",
            Over::Tls(_) => "tls",
        }
    }
}

/// A call that hangs is ended, and failed, after this.
const LIMIT: Duration = Duration::from_secs(60);

/// A SIPp to be started.
pub struct Sipp {
    scenario: String,
    folder: PathBuf,
    remote: Option<SocketAddr>,
    ip: IpAddr,
    port: u16,
    media: u16,
    control: u16,
    program: PathBuf,
    transport: &'static str,
    calls: u32,
    arguments: Vec<String>,
    number: String,
    keys: BTreeMap<String, String>,
    blanks: BTreeMap<String, String>,
    digest_uri: Option<String>,
}

impl Sipp {
    /// Waits for calls at an address of its own.
    pub fn server(lane: &Lane, scenario: &str) -> Sipp {
        Sipp::new(lane, scenario, None)
    }

    /// Sends its requests to `remote`.
    pub fn client(lane: &Lane, scenario: &str, remote: SocketAddr) -> Sipp {
        Sipp::new(lane, scenario, Some(remote))
    }

    fn new(lane: &Lane, scenario: &str, remote: Option<SocketAddr>) -> Sipp {
        let port = lane.port();
        // SIPp echoes media on -mp and on -mp + 2, and the ports above each are for RTCP.
        let media = lane.even_ports(4);
        let folder = lane.make_folder(&format!("sipp-{scenario}-{port}"));
        let sipp = Sipp {
            scenario: scenario.to_owned(),
            folder,
            remote,
            ip: IpAddr::from([127, 0, 0, 1]),
            port,
            media,
            control: lane.port(),
            program: PathBuf::from("sipp"),
            transport: "u1",
            calls: 1,
            arguments: Vec::new(),
            number: "service".to_owned(),
            keys: BTreeMap::new(),
            // Scenarios that can say something more have a place for it.
            blanks: BTreeMap::from([
                ("more".to_owned(), "Subject: a call".to_owned()),
                ("ending".to_owned(), "User-Agent: sipp".to_owned()),
                ("audio".to_owned(), "[media_port]".to_owned()),
                ("payload".to_owned(), "8".to_owned()),
                ("encoding".to_owned(), "PCMA".to_owned()),
                // How a call is put on hold, what the one who holds is told, and the one who is held.
                ("hold".to_owned(), "a=sendonly".to_owned()),
                ("hold_at".to_owned(), "c=IN IP[media_ip_type] [media_ip]".to_owned()),
                ("held".to_owned(), "a=recvonly|a=inactive".to_owned()),
                ("told".to_owned(), "a=sendonly|a=inactive".to_owned()),
                ("agrees".to_owned(), "a=recvonly".to_owned()),
                ("opus".to_owned(), "useinbandfec=1;minptime=10".to_owned()),
            ]),
            digest_uri: None,
        };
        sipp.key("realm", REALM)
    }

    /// Binds to this address instead of 127.0.0.1.
    pub fn at(mut self, ip: IpAddr) -> Sipp {
        self.ip = ip;
        self
    }

    /// Takes this port instead of a free one: a second SIPp that goes on where a first one ended.
    pub fn at_port(mut self, port: u16) -> Sipp {
        self.port = port;
        self
    }

    /// Calls this number: the user part of `[service]`.
    pub fn number(mut self, number: &str) -> Sipp {
        number.clone_into(&mut self.number);
        self
    }

    /// Sets `[name]` of the scenario.
    pub fn key(mut self, name: &str, value: &str) -> Sipp {
        self.keys.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Fills the blank `{name}` of the scenario, for what SIPp wants to be literal.
    pub fn fill(mut self, name: &str, value: &str) -> Sipp {
        self.blanks.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Refuses, or is refused, with this status.
    pub fn code(self, code: u16, phrase: &str) -> Sipp {
        let sipp = self.fill("code", &code.to_string()).fill("phrase", phrase);
        if sipp.blanks.contains_key("extra") { sipp } else { sipp.fill("extra", "Server: sipp") }
    }

    /// Pauses of the scenario without a length of their own last this long.
    pub fn pause(self, span: Duration) -> Sipp {
        self.arg("-d").arg(span.as_millis().to_string())
    }

    /// Loses what comes during a pause.
    pub fn deaf_in_pauses(self) -> Sipp {
        self.arg("-pause_msg_ign")
    }

    /// Is the app user `name`: sets `[user]` and what `[authentication]` answers with.
    pub fn user(self, name: &str) -> Sipp {
        self.credentials(name, PASSWORD)
    }

    pub fn credentials(self, name: &str, password: &str) -> Sipp {
        self.key("user", name).arg("-au").arg(name).arg("-ap").arg(password)
    }

    /// Writes this as digest-uri, without "sip:". By default the Request-URI of a call.
    pub fn digest_uri(mut self, uri: &str) -> Sipp {
        self.digest_uri = Some(uri.to_owned());
        self
    }

    /// Registers the device of `user` that listens at `contact`, by a SIPp of its own; waits until it is done.
    #[track_caller]
    pub fn register(lane: &Lane, registrar: SocketAddr, user: &str, contact: u16) -> Played {
        Sipp::registration(lane, registrar, "user-registers", user, contact).start().succeed()
    }

    /// A registration that may also be refused.
    pub fn registration(
        lane: &Lane,
        registrar: SocketAddr,
        scenario: &str,
        user: &str,
        contact: u16,
    ) -> Sipp {
        let sipp = Sipp::client(lane, scenario, registrar).user(user).digest_uri(REALM);
        // From the very port where the device will listen: requests to it go the way its registration came.
        sipp.at_port(contact).key("contact_port", &contact.to_string()).key("expires", "600")
    }

    pub fn tcp(mut self) -> Sipp {
        self.transport = "t1";
        self
    }

    /// Speaks TLS. Its certificate names its address, so that [`at`](Self::at) comes before.
    pub fn tls(mut self, authority: &Authority) -> Sipp {
        let own = authority.issue_for("sipp", vec![self.ip.to_string()]);
        std::fs::write(self.folder.join("cert.pem"), own.certificate).expect("a certificate file");
        std::fs::write(self.folder.join("key.pem"), own.key).expect("a key file");
        authority.write(&self.folder);
        (self.program, self.transport) = (with_tls(), "l1");
        self.arg("-tls_cert").arg("cert.pem").arg("-tls_key").arg("key.pem").arg("-tls_ca").arg("ca.pem")
    }

    pub fn over(self, over: Over<'_>) -> Sipp {
        match over {
            Over::Udp => self,
            Over::Tcp => self.tcp(),
            Over::Tls(authority) => self.tls(authority),
        }
    }

    /// Ends after this many calls instead of one.
    pub fn calls(mut self, count: u32) -> Sipp {
        self.calls = count;
        self
    }

    pub fn arg(mut self, argument: impl Into<String>) -> Sipp {
        self.arguments.push(argument.into());
        self
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    #[track_caller]
    pub fn start(self) -> RunningSipp {
        let file = Path::new(SCENARIOS).join(format!("{}.xml", self.scenario));
        let mut text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (name, value) in &self.blanks {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        let file = self.folder.join("scenario.xml");
        std::fs::write(&file, text).expect("a scenario file");
        let mut command = Command::new(&self.program);
        // Its message log has local time.
        command.current_dir(&self.folder).env("TZ", "UTC").arg("-sf").arg(file).arg("-nostdin");
        command.args(["-i", &self.ip.to_string(), "-mi", &self.ip.to_string()]);
        command.args(["-p", &self.port.to_string(), "-cp", &self.control.to_string()]);
        command.args(["-mp", &self.media.to_string(), "-t", self.transport, "-bind_local"]);
        command.args(["-m", &self.calls.to_string(), "-s", &self.number]);
        command.args(["-timeout", &format!("{}s", LIMIT.as_secs()), "-timeout_error"]);
        command.args([
            "-trace_msg",
            "-message_file",
            "messages.log",
            "-trace_err",
            "-error_file",
            "errors.log",
        ]);
        command.args(["-trace_stat", "-stf", "statistics.csv", "-fd", "1"]);
        command.args(["-trace_logs", "-log_file", "notes.log"]);
        for (name, value) in &self.keys {
            command.args(["-key", name, value]);
        }
        let digest_uri = self.digest_uri.clone().unwrap_or_else(|| format!("{}@{REALM}", self.number));
        command.args(["-auth_uri", &digest_uri]);
        command.args(&self.arguments);
        if let Some(remote) = self.remote {
            command.arg(remote.to_string());
        }
        let process = Process::start(&format!("sipp {}", self.scenario), command);
        let address = self.address();
        let running =
            RunningSipp { scenario: self.scenario, folder: self.folder, process, address, media: self.media };
        if self.remote.is_none() {
            match self.transport {
                "u1" => wait::udp_bound(self.port, wait::START),
                _ => wait::tcp_listening(self.port, wait::START),
            }
        }
        running
    }
}

/// A SIPp at work.
pub struct RunningSipp {
    scenario: String,
    folder: PathBuf,
    process: Process,
    address: SocketAddr,
    media: u16,
}

impl RunningSipp {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port its media comes to.
    pub fn media_port(&self) -> u16 {
        self.media
    }

    /// What it sent and received so far.
    pub fn messages(&self) -> Vec<TracedMessage> {
        trace::read_sipp(&self.folder.join("messages.log"))
    }

    /// Waits for a message that it received.
    #[track_caller]
    pub fn wait_received(&self, what: &str, fits: impl Fn(&TracedMessage) -> bool) -> TracedMessage {
        wait::until(&format!("sipp {} to receive {what}", self.scenario), wait::SOON, || {
            self.messages().into_iter().find(|message| !message.sent && fits(message))
        })
    }

    #[track_caller]
    pub fn wait_request(&self, method: &str) -> TracedMessage {
        self.wait_received(method, |message| message.method() == Some(method))
    }

    #[track_caller]
    pub fn wait_status(&self, status: u16) -> TracedMessage {
        self.wait_received(&status.to_string(), |message| message.status() == Some(status))
    }

    /// Waits for its end and says how it went.
    #[track_caller]
    pub fn finish(mut self) -> Played {
        let status = self.process.wait_exit(LIMIT + Duration::from_secs(5));
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        Played {
            scenario: self.scenario.clone(),
            exit: status.code(),
            messages: self.messages(),
            statistics: statistics(&read("statistics.csv")),
            errors: read("errors.log"),
            notes: read("notes.log"),
        }
    }

    /// Waits for its end; every call must have gone as the scenario says.
    #[track_caller]
    pub fn succeed(self) -> Played {
        let played = self.finish();
        assert_eq!(played.exit, Some(0), "{played}");
        played
    }

    /// Ends it before its time.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

/// How a SIPp ended.
pub struct Played {
    scenario: String,
    pub exit: Option<i32>,
    pub messages: Vec<TracedMessage>,
    /// The last row of its statistics, by column.
    pub statistics: HashMap<String, String>,
    pub errors: String,
    pub notes: String,
}

impl Played {
    /// Requests of that method that it received, repetitions included.
    pub fn requests(&self, method: &str) -> Vec<&TracedMessage> {
        self.messages.iter().filter(|message| !message.sent && message.method() == Some(method)).collect()
    }

    /// Responses of that status that it received.
    pub fn responses(&self, status: u16) -> Vec<&TracedMessage> {
        self.messages.iter().filter(|message| !message.sent && message.status() == Some(status)).collect()
    }

    /// The first request of that method that it received.
    #[track_caller]
    pub fn request(&self, method: &str) -> &TracedMessage {
        let found = self.requests(method);
        found.first().copied().unwrap_or_else(|| panic!("no {method} received\n{self}"))
    }

    /// The first response of that status that it received.
    #[track_caller]
    pub fn response(&self, status: u16) -> &TracedMessage {
        let found = self.responses(status);
        found.first().copied().unwrap_or_else(|| panic!("no {status} received\n{self}"))
    }

    /// A column of its statistics as a number, as `count("Retransmissions(C)")`.
    #[track_caller]
    pub fn count(&self, column: &str) -> u64 {
        let value = self.statistics.get(column).unwrap_or_else(|| panic!("no column {column}"));
        value.parse().unwrap_or_else(|_| panic!("{column} is {value}"))
    }
}

impl std::fmt::Display for Played {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "sipp {} ended with {:?}", self.scenario, self.exit)?;
        for message in &self.messages {
            let arrow = if message.sent { "-->" } else { "<--" };
            writeln!(f, "{arrow} {}", message.start_line())?;
        }
        write!(f, "{}", self.errors.chars().take(4_000).collect::<String>())
    }
}

/// A SIPp that was built with TLS, as Debian 12's is not: `make test-deps` fetches it.
fn with_tls() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let program = cache.unwrap_or_default().join("tandem/sipp-tls/sipp");
    assert!(program.exists(), "no {}: make test-deps fetches it", program.display());
    program
}

fn statistics(csv: &str) -> HashMap<String, String> {
    let mut lines = csv.lines();
    let names = lines.next().unwrap_or_default().split(';').map(str::to_owned);
    let values = lines.next_back().unwrap_or_default().split(';').map(str::to_owned);
    names.zip(values).collect()
}
