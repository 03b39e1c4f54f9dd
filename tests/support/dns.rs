//! dnsmasq as the DNS in which an operator's proxies are named.

use super::{lane::Lane, process::Process, wait};
use std::{net::SocketAddr, process::Command};

/// A DNS server to be started, with the records it knows; it knows nothing else.
pub struct Dns {
    port: u16,
    arguments: Vec<String>,
}

/// A running one. Dropping it ends it.
pub struct RunningDns {
    process: Process,
    port: u16,
}

impl Dns {
    pub fn on(lane: &Lane) -> Dns {
        Dns::at_port(lane.port())
    }

    /// At the port of one that has ended.
    pub fn at_port(port: u16) -> Dns {
        Dns { port, arguments: Vec::new() }
    }

    /// `name` has this address for `seconds`.
    pub fn address(mut self, name: &str, address: &str, seconds: u32) -> Dns {
        self.arguments.push(format!("--host-record={name},{address},{seconds}"));
        self
    }

    pub fn srv(mut self, name: &str, target: &str, port: u16, priority: u16, weight: u16) -> Dns {
        self.arguments.push(format!("--srv-host={name},{target},{port},{priority},{weight}"));
        self
    }

    pub fn naptr(mut self, name: &str, order: u16, service: &str, replacement: &str) -> Dns {
        self.arguments.push(format!("--naptr-record={name},{order},10,s,{service},,{replacement}"));
        self
    }

    /// What is asked about `name` and below it goes to a server that is not there.
    pub fn silent(mut self, name: &str) -> Dns {
        self.arguments.push(format!("--server=/{name}/127.0.0.1#9"));
        self
    }

    #[track_caller]
    pub fn start(self) -> RunningDns {
        let mut command = Command::new("dnsmasq");
        command
            .args([
                "--keep-in-foreground",
                "--no-resolv",
                "--no-hosts",
                "--conf-file=/dev/null",
                "--pid-file=",
            ])
            .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--log-facility=-", "--log-queries"])
            // As whoever runs the tests: it would give its rights away to a user of its own.
            .args(["--user=", "--group=", "--local=/test/"])
            .arg(format!("--port={}", self.port))
            .args(self.arguments);
        let process = Process::start("dnsmasq", command);
        wait::udp_bound(self.port, wait::START);
        RunningDns { process, port: self.port }
    }
}

impl RunningDns {
    pub fn server(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Waits until it was asked for records of this kind.
    #[track_caller]
    pub fn wait_asked(&self, kind: &str, name: &str) {
        self.process.log().wait_for(&format!("query[{kind}] {name}"), wait::START);
    }

    /// Ends it; gives its port for another one.
    pub fn end(mut self) -> u16 {
        self.process.kill();
        self.port
    }
}
