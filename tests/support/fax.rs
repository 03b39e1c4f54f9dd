//! A fax machine that nobody here wrote: spandsp's T.30 and modems, on RTP.

use super::{lane::Lane, process::Process};
use serde_json::Value;
use std::{net::SocketAddr, process::Command, time::Duration};

/// A page of a few rows takes twenty seconds; a busy machine makes it no slower.
const PATIENCE: Duration = Duration::from_secs(100);

pub struct FaxMachine {
    process: Process,
}

impl FaxMachine {
    /// One that has the sound of a call at `port` and sends its own to `far`; `law` is alaw or ulaw. Who calls sends a
    /// page, who is called takes it.
    #[track_caller]
    pub fn start(lane: &Lane, name: &str, port: u16, far: SocketAddr, law: &str) -> FaxMachine {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/fax_machine.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(["--bind", &port.to_string(), "--far", &far.to_string(), "--law", law]);
        command.arg("--file").arg(lane.path(&format!("{name}.tif")));
        if name == "caller" {
            command.arg("--calls");
        }
        FaxMachine { process: Process::start(&format!("fax-{name}"), command) }
    }

    /// What became of the call, once it is over for this machine.
    #[track_caller]
    pub fn wait_result(mut self) -> Value {
        assert!(self.process.wait_exit(PATIENCE).success(), "{}", self.process.log().tail(5));
        let line = self.process.log().wait_for("\"code\"", PATIENCE);
        serde_json::from_str(&line).expect("the machine prints JSON")
    }
}
