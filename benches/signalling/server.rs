//! What calls go through: the gateway, or one of its peers (`peers`).

use super::sipp::Sipp;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server with SIPp at both ends of it.
pub struct Server {
    child: Child,
    sipp: Sipp,
    address: SocketAddr,
    folder: PathBuf,
}

/// Who listens where.
pub struct Addresses {
    pub server: SocketAddr,
    pub caller: SocketAddr,
    pub callee: SocketAddr,
}

impl Server {
    /// This gateway, with media ports, journal and SQLite.
    pub fn gateway(name: &str) -> Server {
        Server::gateway_with(name, "", &[])
    }

    /// This gateway, which also serves its metrics at `admin` and has more trunks that may call, each with what else its
    /// section says.
    pub fn gateway_with(name: &str, admin: &str, callers: &[(&str, SocketAddr, &str)]) -> Server {
        Server::start(name, |folder, at| {
            let (mut config, mut dialplan) = (gateway_config(at, admin), DIALPLAN.to_owned());
            for (name, address, more) in callers {
                config += &format!(
                    "[[trunk]]\nname = \"{name}\"\nproxy = [\"{address}\"]\npeers = [\"{address}\"]\n\
                     options_seconds = 0\n{more}\n"
                );
                dialplan += &format!(
                    "[[rule]]\nname = \"{name}\"\nfrom = \"trunk:{name}\"\nmatch = \"+\"\ntrunks = [\"callee\"]\n"
                );
            }
            fs::write(folder.join("tandem.toml"), config).expect("a configuration");
            fs::write(folder.join("dialplan.toml"), dialplan).expect("a dialplan");
            let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
            command.args(["run", "--config", "tandem.toml"]);
            Some(command)
        })
        .expect("the gateway starts")
    }

    /// Starts what `command` makes of a folder of its own and of these addresses, and SIPp behind it.
    pub fn start(name: &str, command: impl FnOnce(&Path, &Addresses) -> Option<Command>) -> Option<Server> {
        let folder = std::env::temp_dir().join(format!("tandem-bench-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the bench");
        let [server, caller, callee] = free_addresses();
        let at = Addresses { server, caller, callee };
        let mut command = command(&folder, &at)?;
        let log = fs::File::create(folder.join("server.log")).expect("a log file");
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("the server starts");
        let sipp = Sipp::start_callee(&folder, caller, callee, server);
        let server = Server { child, sipp, address: server, folder };
        server.await_ready(at.server);
        Some(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn sipp(&self) -> &Sipp {
        &self.sipp
    }

    /// Polls with OPTIONS until it answers.
    fn await_ready(&self, server: SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        let local = socket.local_addr().expect("an address");
        for attempt in 0..100 {
            let options = format!(
                "OPTIONS sip:{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-{attempt};rport\r\nMax-Forwards: 1\r\n\
                 From: <sip:bench@127.0.0.1>;tag=1\r\nTo: <sip:{server}>\r\nCall-ID: ready-{attempt}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = socket.send_to(options.as_bytes(), server);
            if socket.recv(&mut [0; 2048]).is_ok() {
                return;
            }
        }
        panic!("the server did not get ready: see {}", self.folder.join("server.log").display());
    }

    /// User and system time so far, of all its processes.
    pub fn cpu(&self) -> Duration {
        self.processes().map(|pid| cpu_of(pid).unwrap_or_default()).sum()
    }

    /// Bytes of memory that are really there.
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    pub fn threads(&self) -> u64 {
        self.status("Threads:")
    }

    /// As the kernel knows them, fifteen octets each.
    pub fn thread_names(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// What its open descriptors are of, as proc(5) names it, without the numbers of sockets and the like.
    pub fn descriptors(&self) -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.child.id())).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        names
            .map(|name| name.display().to_string().split(":[").next().unwrap_or_default().to_owned())
            .collect()
    }

    /// A figure of proc(5) `/proc/PID/status`.
    fn status(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// It and its children.
    fn processes(&self) -> impl Iterator<Item = u32> {
        let own = self.child.id();
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let children = all
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(move |pid| stat(*pid).is_some_and(|fields| fields.get(1) == Some(&own.to_string())));
        std::iter::once(own).chain(children)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The fields of proc(5) `/proc/PID/stat` from the third on: a name may hold blanks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}

/// Fields 14 and 15. A tick is 10 ms on Linux.
fn cpu_of(pid: u32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Some(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}

fn free_addresses() -> [SocketAddr; 3] {
    // Held together, so that no two are the same.
    let sockets = [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    sockets.map(|socket| socket.local_addr().expect("its address"))
}

const DIALPLAN: &str = "country_code = \"32\"\n[[rule]]\nname = \"through\"\nfrom = \"trunk:caller\"\nmatch = \"+\"\ntrunks = [\"callee\"]\n";

fn gateway_config(at: &Addresses, admin: &str) -> String {
    let Addresses { server, caller, callee } = at;
    format!(
        r#"
dialplan = "dialplan.toml"
[gateway]
data_dir = "data"
[sip]
listen = ["udp:{server}"]
[[network]]
name = "default"
bind = ["127.0.0.1"]
media_ports = "30000-59999"
[database]
url = "sqlite:tandem.db"
[admin]
listen = "{admin}"
[log]
level = "warn"
[media]
timeout_seconds = 0
[billing]
journal_dir = "journal"
[[trunk]]
name = "caller"
proxy = ["{caller}"]
peers = ["{caller}"]
options_seconds = 0
[[trunk]]
name = "callee"
proxy = ["{callee}"]
peers = ["{callee}"]
options_seconds = 0
"#
    )
}
