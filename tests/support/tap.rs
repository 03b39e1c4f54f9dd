//! The wire itself, as Wireshark sees it: dumpcap records loopback, tshark says what the packets are.

use super::{
    lane::Lane,
    process::{Process, as_root, run},
    wait,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

/// Reads a line, or its end of input, as the sign to stop: as a user's child it could not be sent a signal. What came
/// last is still on its way through the kernel then.
const RECORD: &str = r#"dumpcap -q -i lo -B 16 -f "$1" -w "$2" & pid=$!; read -r _; sleep 1; kill $pid; wait $pid; chmod 644 "$2""#;

/// Records all UDP of a lane until it is stopped.
pub struct Tap {
    process: Process,
    file: PathBuf,
}

impl Tap {
    #[track_caller]
    pub fn start(lane: &Lane) -> Tap {
        let file = lane.make_folder("wire").join("wire.pcapng");
        let (first, last) = lane.all_ports();
        let mut command = as_root("sh");
        command.args(["-c", RECORD, "sh", &format!("udp portrange {first}-{last}")]).arg(&file);
        let process = Process::start("dumpcap", command);
        process.log().wait_for("File: ", wait::START);
        Tap { process, file }
    }

    /// Ends the recording.
    #[track_caller]
    pub fn stop(mut self) -> Recording {
        self.process.close_input();
        assert!(
            self.process.wait_exit(wait::SOON).success(),
            "dumpcap failed: {}",
            self.process.log().tail(5)
        );
        Recording { file: self.file.clone(), decode: Vec::new() }
    }
}

/// What was on the wire.
pub struct Recording {
    file: PathBuf,
    decode: Vec<String>,
}

impl Recording {
    /// SIP goes by this port. The sessions that it sets up tell what is RTCP and which payload is what.
    pub fn sip_at(mut self, port: u16) -> Recording {
        self.decode.push(format!("udp.port=={port},sip"));
        self
    }

    /// The port where a phone wants its audio, by the last session it described; `sip` is where it signals from.
    /// What comes and goes there is RTP from now on, whatever looks like something else.
    #[track_caller]
    pub fn audio_of(&mut self, sip: u16) -> u16 {
        let told = self.packets(&format!("sdp && udp.srcport == {sip}"), &["sdp.media.port"]);
        let port = number(&told.last().expect("a session description")[0]) as u16;
        self.decode.push(format!("udp.port=={port},rtp"));
        port
    }

    /// The values of `fields` in each packet that `filter` lets through; a field that stands several times in a packet
    /// has its values joined by commas.
    #[track_caller]
    pub fn packets(&self, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
        let mut command = Command::new("tshark");
        command.arg("-r").arg(&self.file).args(["-Y", filter, "-T", "fields", "-E", "separator=/t"]);
        for decode in &self.decode {
            command.args(["-d", decode]);
        }
        for field in fields {
            command.args(["-e", field]);
        }
        let text = run(&mut command);
        text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
    }

    /// The same for fields that are numbers and stand once in a packet.
    #[track_caller]
    pub fn numbers<const N: usize>(&self, filter: &str, fields: [&str; N]) -> Vec<[u64; N]> {
        let packets = self.packets(filter, &fields);
        packets.iter().map(|packet| std::array::from_fn(|at| number(&packet[at]))).collect()
    }

    pub fn file(&self) -> &Path {
        &self.file
    }
}

/// A number as tshark prints it, decimal or with 0x.
#[track_caller]
pub fn number(text: &str) -> u64 {
    let read = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if matches!(text, "True") => Some(1),
        None if matches!(text, "False") => Some(0),
        None => u64::from_str(text).ok(),
    };
    read.unwrap_or_else(|| panic!("{text:?} is no number"))
}

/// Octets as tshark prints them, in hexadecimal with or without colons.
#[track_caller]
pub fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
