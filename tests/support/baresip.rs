//! baresip as an app user's phone or as the phone behind an operator: it speaks, listens and records.
//!
//! Driven through its ctrl_tcp module, which also reports each event of a call. It takes no second challenge beside
//! MD5, wants speech in exactly its codec's rate and channels, and hangs up where its file ends.

use super::{
    gateway::{PASSWORD, REALM},
    lane::Lane,
    process::{Log, Process},
    speech::{BARESIP_G711, BARESIP_OPUS, Form, Voice},
    tls::Authority,
    wait,
};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneCodec {
    Opus,
    Pcma,
    Pcmu,
}

impl PhoneCodec {
    fn account_name(self) -> &'static str {
        match self {
            PhoneCodec::Opus => "opus/48000/2",
            PhoneCodec::Pcma => "pcma",
            PhoneCodec::Pcmu => "pcmu",
        }
    }
    fn form(self) -> Form {
        match self {
            PhoneCodec::Opus => BARESIP_OPUS,
            PhoneCodec::Pcma | PhoneCodec::Pcmu => BARESIP_G711,
        }
    }
}

/// What baresip takes for a key that is let go.
const RELEASED: &[u8] = &[0x04];

/// A baresip to be started.
pub struct BaresipBuilder {
    user: String,
    folder: PathBuf,
    port: u16,
    control: u16,
    keys: u16,
    media: u16,
    codec: PhoneCodec,
    voice: Voice,
    answer: &'static str,
    registrar: Option<(SocketAddr, &'static str)>,
    account: String,
    config: String,
    /// Silence behind the speech, so that a call lasts.
    after: Duration,
}

impl BaresipBuilder {
    pub fn codec(mut self, codec: PhoneCodec) -> Self {
        self.codec = codec;
        self
    }

    /// Whose words it speaks.
    pub fn voice(mut self, voice: Voice) -> Self {
        self.voice = voice;
        self
    }

    /// Answers only when told to.
    pub fn answers_by_hand(mut self) -> Self {
        self.answer = "manual";
        self
    }

    /// Answers with 183 and early media, then when told to.
    pub fn answers_early(mut self) -> Self {
        self.answer = "early";
        self
    }

    /// Registers its user there; `transport` is udp, tcp or tls.
    pub fn registers(mut self, at: SocketAddr, transport: &'static str) -> Self {
        self.registrar = Some((at, transport));
        self
    }

    /// Trusts `authority`, and listens on TLS with a certificate of it.
    pub fn tls(mut self, authority: &Authority) -> Self {
        let ca = authority.write(&self.folder);
        let own = self.folder.join("own.pem");
        authority.issue(&self.user).write_together(&own);
        self.config += &format!("sip_cafile {}\nsip_certificate {}\n", ca.display(), own.display());
        self
    }

    /// Insists on SRTP with keys in SDP.
    pub fn srtp(mut self) -> Self {
        self.account += ";mediaenc=srtp-mand";
        self
    }

    /// Adds a parameter to its account, as `;ptime=40`.
    pub fn account(mut self, parameter: &str) -> Self {
        self.account += parameter;
        self
    }

    /// Adds a line to its configuration.
    pub fn config(mut self, line: &str) -> Self {
        self.config += line;
        self.config += "\n";
        self
    }

    /// Starts it and waits until its user is registered, where it has a registrar.
    #[track_caller]
    pub fn start(self) -> Baresip {
        let registers = self.registrar.is_some();
        let phone = self.start_unregistered();
        if registers {
            phone.log().wait_for("200 OK", wait::START);
        }
        phone
    }

    /// Starts it without waiting for its registration.
    #[track_caller]
    pub fn start_unregistered(self) -> Baresip {
        let folder = &self.folder;
        let said = folder.join("said.wav");
        self.voice.record(&said, self.codec.form(), self.after);
        let Form { rate, channels } = self.codec.form();
        let BaresipBuilder { port, control, keys, media, .. } = self;
        let config = format!(
            "poll_method epoll\n\
             sip_listen 127.0.0.1:{port}\n\
             net_interface 127.0.0.1\n\
             call_local_timeout 120\n\
             call_max_calls 4\n\
             audio_player nothing,here\n\
             audio_alert nothing,here\n\
             audio_source aufile,{said}\n\
             ausrc_srate {rate}\nausrc_channels {channels}\n\
             rtp_ports {media}-{last}\n\
             rtcp_mux no\n\
             jitter_buffer_delay 5-10\n\
             module_path /usr/lib/baresip/modules\n\
             module opus.so\nmodule g711.so\nmodule aufile.so\nmodule sndfile.so\nmodule srtp.so\n\
             module cons.so\n\
             module_tmp uuid.so\nmodule_tmp account.so\n\
             module_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:{control}\n\
             cons_listen 127.0.0.1:{keys}\n\
             snd_path {folder}\n\
             opus_bitrate 32000\n\
             {more}",
            said = said.display(),
            last = media + 7,
            folder = folder.display(),
            more = self.config,
        );
        std::fs::write(folder.join("config"), config).expect("a configuration file");
        std::fs::write(folder.join("contacts"), "").expect("a contacts file");
        let user = &self.user;
        let account = match self.registrar {
            Some((at, transport)) => format!(
                "<sip:{user}@{REALM};transport={transport}>;outbound=\"sip:{at};transport={transport}\";\
                 auth_user={user};auth_pass={PASSWORD};regint=600"
            ),
            None => format!("<sip:{user}@127.0.0.1:{port}>;regint=0"),
        };
        let account = format!(
            "{account};answermode={};audio_codecs={}{}\n",
            self.answer,
            self.codec.account_name(),
            self.account
        );
        std::fs::write(folder.join("accounts"), account).expect("an accounts file");

        let mut command = Command::new("baresip");
        command.arg("-f").arg(folder).arg("-v").current_dir(folder);
        let process = Process::start(&format!("baresip {user}"), command);
        wait::tcp_listening(control, wait::START);
        let stream = wait::until("baresip's control port", wait::START, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, control)).ok()
        });
        let events = Arc::new(Log::default());
        follow(stream.try_clone().expect("a second handle"), Arc::clone(&events));
        wait::udp_bound(port, wait::START);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Baresip {
            process,
            control: stream,
            keys,
            events,
            address,
            said,
            folder: self.folder.clone(),
            user: self.user.clone(),
        }
    }
}

/// A running baresip.
pub struct Baresip {
    process: Process,
    control: TcpStream,
    keys: u16,
    events: Arc<Log>,
    address: SocketAddr,
    said: PathBuf,
    folder: PathBuf,
    user: String,
}

impl Baresip {
    /// A phone of that user; as an operator's, its user is the number that it answers for.
    pub fn on(lane: &Lane, user: &str) -> BaresipBuilder {
        // TLS takes the port above the one of UDP and TCP.
        let port = lane.ports(2);
        BaresipBuilder {
            user: user.to_owned(),
            folder: lane.make_folder(&format!("baresip-{user}-{port}")),
            port,
            control: lane.port(),
            keys: lane.port(),
            media: lane.even_ports(8),
            codec: PhoneCodec::Opus,
            voice: Voice::Caller,
            answer: "auto",
            registrar: None,
            account: String::new(),
            config: String::new(),
            after: Duration::from_secs(20),
        }
    }

    /// Where it takes SIP over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes SIP over TLS.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::new(self.address.ip(), self.address.port() + 1)
    }

    /// What it speaks.
    pub fn said(&self) -> &Path {
        &self.said
    }

    pub fn log(&self) -> &Log {
        self.process.log()
    }

    /// The reports of its calls, each a line of JSON.
    pub fn events(&self) -> &Log {
        &self.events
    }

    fn command(&mut self, name: &str, parameters: &str) {
        let json = serde_json::json!({ "command": name, "params": parameters }).to_string();
        let message = format!("{}:{json},", json.len());
        self.control.write_all(message.as_bytes()).expect("baresip listens");
    }

    /// Calls a URI or, with a registered account, a number.
    pub fn dial(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    /// Moves its call to somebody else, without asking there first.
    pub fn transfer(&mut self, uri: &str) {
        self.command("transfer", uri);
    }

    /// Says its words from the beginning, to whomever it talks to by now.
    pub fn speak_again(&mut self) {
        let source = format!("aufile,{}", self.said.display());
        self.command("ausrc", &source);
    }

    pub fn accept(&mut self) {
        self.command("accept", "");
    }

    pub fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    /// Presses keys of the running call, one after the other; also `x` for hold and `X` for resume.
    pub fn press(&self, keys: &str) {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        for key in keys.chars() {
            let send =
                |octets: &[u8]| socket.send_to(octets, ("127.0.0.1", self.keys)).expect("loopback takes it");
            send(key.to_string().as_bytes());
            // Held for as long as a person would.
            wait::talk(Duration::from_millis(250));
            send(RELEASED);
            wait::talk(Duration::from_millis(150));
        }
    }

    /// Waits for an event of its call, as `CALL_ESTABLISHED`, `CALL_CLOSED`, `CALL_DTMF_START`.
    #[track_caller]
    pub fn wait_event(&self, kind: &str) -> serde_json::Value {
        let line = self.events.wait_for(&format!("\"type\":\"{kind}\""), wait::START);
        serde_json::from_str(&line).expect("events are JSON")
    }

    /// The keys that were pressed at the far end, as it heard them.
    pub fn keys_heard(&self) -> String {
        let lines = self.events.lines();
        let starts = lines.iter().filter(|line| line.contains("\"type\":\"CALL_DTMF_START\""));
        let keys = starts.filter_map(|line| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event["param"].as_str().map(str::to_owned)
        });
        keys.collect()
    }

    /// How many events of that kind there were.
    pub fn count_events(&self, kind: &str) -> usize {
        let wanted = format!("\"type\":\"{kind}\"");
        self.events.lines().iter().filter(|line| line.contains(&wanted)).count()
    }

    /// What it heard in its last call; whole once the call is closed.
    #[track_caller]
    pub fn heard(&self) -> PathBuf {
        let folder = std::fs::read_dir(&self.folder).expect("its folder");
        let mut found: Vec<_> = folder
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.to_string_lossy().ends_with("-dec.wav"))
            .collect();
        found.sort();
        found.pop().unwrap_or_else(|| {
            let folder = self.folder.display();
            panic!(
                "baresip {} heard nothing at all, or its folder's name is too long for it: {folder}",
                self.user
            )
        })
    }
}

/// Turns the stream of netstrings into lines.
fn follow(mut stream: TcpStream, events: Arc<Log>) {
    std::thread::spawn(move || {
        let mut pending = Vec::new();
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            pending.extend_from_slice(&buffer[..length]);
            while let Some((line, rest)) = netstring(&pending) {
                events.push(line);
                pending = rest;
            }
        }
    });
}

/// The first complete netstring, and what follows it.
fn netstring(bytes: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    let text = bytes.get(colon + 1..end)?;
    bytes.get(end)?;
    Some((String::from_utf8_lossy(text).into_owned(), bytes[end + 1..].to_vec()))
}
