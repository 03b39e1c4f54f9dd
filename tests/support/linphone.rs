//! linphonec as an app user's phone, driven by typed commands.
//!
//! It always exits with 0, so only what it recorded counts; and it takes the file to play only once a call runs.

use super::{
    gateway::{PASSWORD, REALM},
    lane::Lane,
    process::{Log, Process},
    speech::{LINPHONE, Voice},
    tls::Authority,
    wait,
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// A linphonec to be started.
pub struct LinphoneBuilder {
    user: String,
    folder: PathBuf,
    port: u16,
    media: u16,
    voice: Voice,
    srtp: bool,
    voip_metrics: bool,
    ca: Option<PathBuf>,
    codecs: Vec<(&'static str, u32, u16)>,
    auto_answer: bool,
    registrar: Option<(SocketAddr, &'static str)>,
}

impl LinphoneBuilder {
    /// Registers its user there and sends its calls that way; `transport` is udp, tcp or tls.
    pub fn registers(mut self, at: SocketAddr, transport: &'static str) -> Self {
        self.registrar = Some((at, transport));
        self
    }

    pub fn voice(mut self, voice: Voice) -> Self {
        self.voice = voice;
        self
    }

    /// Insists on SRTP with keys in SDP.
    pub fn srtp(mut self) -> Self {
        self.srtp = true;
        self
    }

    /// Asks for extended reports with VoIP metrics (RFC 3611), and sends its own.
    pub fn voip_metrics(mut self) -> Self {
        self.voip_metrics = true;
        self
    }

    /// Trusts `authority`.
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.ca = Some(authority.write(&self.folder));
        self
    }

    /// Offers G.711 A-law instead of Opus.
    pub fn pcma(mut self) -> Self {
        self.codecs = vec![("PCMA", 8_000, 1)];
        self
    }

    pub fn answers(mut self) -> Self {
        self.auto_answer = true;
        self
    }

    /// Starts it and waits until its user is registered, where it has a registrar.
    #[track_caller]
    pub fn start(self) -> Linphone {
        let registers = self.registrar.is_some();
        let mut phone = self.start_unregistered();
        if registers {
            phone.wait_state("LinphoneRegistrationOk");
        }
        phone
    }

    /// Starts it without waiting for its registration.
    #[track_caller]
    pub fn start_unregistered(self) -> Linphone {
        let folder = &self.folder;
        for part in [".local/share/linphone", ".config/linphone"] {
            std::fs::create_dir_all(folder.join(part)).expect("a folder for linphone");
        }
        let said = folder.join("said.wav");
        self.voice.record(&said, LINPHONE, Duration::from_secs(4));
        let mut config = format!(
            "[sip]\nsip_port={port}\nsip_tcp_port={port}\nsip_tls_port={tls}\nuse_ipv6=0\nguess_hostname=0\n\
             contact=sip:{user}@127.0.0.1\ndefault_proxy={default}\nmedia_encryption={encryption}\nmedia_encryption_mandatory={mandatory}\n\
             root_ca={ca}\nverify_server_certs=1\nverify_server_cn=1\n\
             [net]\nfirewall_policy=0\n\
             [rtp]\naudio_rtp_port={media}\ndownload_ptime=0\naudio_adaptive_jitt_comp_enabled=0\n\
             rtcp_xr_enabled={metrics}\nrtcp_xr_voip_metrics_enabled={metrics}\nrtcp_xr_stat_summary_enabled=0\n\
             rtcp_xr_rcvr_rtt_mode=none\n\
             [sound]\nechocancellation=0\nremote_ring=\n\
             [video]\nenabled=0\n",
            port = self.port,
            tls = self.port + 1,
            user = self.user,
            default = if self.registrar.is_some() { 0 } else { -1 },
            encryption = if self.srtp { "srtp" } else { "none" },
            mandatory = u8::from(self.srtp),
            metrics = u8::from(self.voip_metrics),
            ca = self.ca.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
            media = self.media,
        );
        // A codec that is not named stays enabled, so each that must not be offered is named as disabled.
        let known = [
            ("opus", 48_000, 2),
            ("speex", 16_000, 1),
            ("speex", 8_000, 1),
            ("PCMU", 8_000, 1),
            ("PCMA", 8_000, 1),
            ("G729", 8_000, 1),
        ];
        for (index, (name, rate, channels)) in known.into_iter().enumerate() {
            let enabled = u8::from(self.codecs.contains(&(name, rate, channels)));
            config += &format!(
                "[audio_codec_{index}]\nmime={name}\nrate={rate}\nchannels={channels}\nenabled={enabled}\n"
            );
        }
        if let Some((at, transport)) = self.registrar {
            // Its TLS knows names only, no address of a certificate.
            let host = if transport == "tls" { "localhost".to_owned() } else { at.ip().to_string() };
            let (user, port) = (&self.user, at.port());
            config += &format!(
                "[proxy_0]\nreg_proxy=<sip:{host}:{port};transport={transport}>\n\
                 reg_route=<sip:{host}:{port};transport={transport};lr>\nreg_identity=sip:{user}@{REALM}\n\
                 reg_sendregister=1\nreg_expires=600\npublish=0\n\
                 [auth_info_0]\nusername={user}\npasswd={PASSWORD}\nrealm={REALM}\ndomain={REALM}\n"
            );
        }
        let file = folder.join("linphonerc");
        std::fs::write(&file, config).expect("a configuration file");
        let mut command = Command::new("linphonec");
        // Told to a file of its own: on standard output its log would tear the answers apart.
        command.arg("-c").arg(&file).args(["-d", "5", "-l"]).arg(folder.join("linphone.log"));
        if self.auto_answer {
            command.arg("-a");
        }
        command.current_dir(folder).env("HOME", folder).env("XDG_CONFIG_HOME", folder.join(".config"));
        command.env("XDG_DATA_HOME", folder.join(".local/share"));
        let mut process = Process::start(&format!("linphone {}", self.user), command);
        wait::udp_bound(self.port, wait::START);
        process.write_line("soundcard use files");
        process.log().wait_for("Using wav files", wait::START);
        let heard = folder.join("heard.wav");
        process.write_line(&format!("record {}", heard.display()));
        Linphone { process, port: self.port, said, heard }
    }
}

/// A running linphonec.
pub struct Linphone {
    process: Process,
    port: u16,
    said: PathBuf,
    heard: PathBuf,
}

impl Linphone {
    pub fn on(lane: &Lane, user: &str) -> LinphoneBuilder {
        LinphoneBuilder {
            user: user.to_owned(),
            folder: lane.make_folder(&format!("linphone-{user}")),
            port: lane.ports(2),
            media: lane.even_ports(2),
            voice: Voice::Caller,
            srtp: false,
            voip_metrics: false,
            ca: None,
            codecs: vec![("opus", 48_000, 2)],
            auto_answer: false,
            registrar: None,
        }
    }

    pub fn log(&self) -> &Log {
        self.process.log()
    }

    pub fn said(&self) -> &Path {
        &self.said
    }

    pub fn heard(&self) -> &Path {
        &self.heard
    }

    /// Waits until its account is in that state.
    #[track_caller]
    pub fn wait_state(&mut self, state: &str) {
        wait::until(&format!("linphone's {state}"), wait::START, || {
            let mark = self.process.log().len();
            self.process.write_line("states");
            // The table ends with a row per account; an unfinished one shows another state there.
            self.process.log().wait_for_after(mark, "Proxy registration states", wait::SOON);
            wait::within(Duration::from_secs(1), || {
                let lines = self.process.log().lines();
                lines.iter().skip(mark).any(|line| line.contains(state)).then_some(())
            })
        });
    }

    pub fn call(&mut self, uri: &str) {
        self.process.write_line(&format!("call {uri} --audio-only"));
    }

    /// Waits for the answer, then speaks.
    #[track_caller]
    pub fn wait_answer_and_speak(&mut self) {
        self.process.log().wait_for("Media streams established", wait::START);
        // What is played in the first second of a call is lost.
        wait::talk(Duration::from_millis(1_500));
        self.speak();
    }

    /// Says its words, from the beginning.
    pub fn speak(&mut self) {
        let said = self.said.display().to_string();
        self.process.write_line(&format!("play {said}"));
    }

    /// Speaks µ-law instead of A-law from its next offer on.
    #[track_caller]
    pub fn choose_mu_law(&mut self) {
        for (verb, codec) in [("enable", "PCMU"), ("disable", "PCMA")] {
            let mark = self.process.log().len();
            self.process.write_line("codec list");
            let line = self.process.log().wait_for_after(mark, codec, wait::SOON);
            // A row as "3: PCMU (8000) disabled", the first one behind the prompt.
            let number = line.split_once(':').and_then(|(before, _)| before.split_whitespace().last());
            let number = number.unwrap_or_else(|| panic!("no number of {codec} in {line:?}"));
            self.process.write_line(&format!("codec {verb} {number}"));
        }
    }

    /// Asks for packets of that length from its next offer on. It changes only what its configuration has.
    pub fn choose_packets_of(&mut self, ms: u8) {
        self.process.write_line(&format!("param rtp download_ptime {ms}"));
    }

    /// Holds the call and takes it back, with what it has chosen meanwhile.
    #[track_caller]
    pub fn hold_and_take_back(&mut self) {
        self.pause();
        self.process.log().wait_for("paused", wait::SOON);
        let mark = self.process.log().len();
        self.resume();
        self.process.log().wait_for_after(mark, "Media streams established", wait::SOON);
    }

    /// Presses keys of the running call, one after the other.
    pub fn press(&mut self, keys: &str) {
        for key in keys.chars() {
            self.process.write_line(&key.to_string());
            wait::talk(Duration::from_millis(400));
        }
    }

    /// Where it signals from.
    pub fn sip_port(&self) -> u16 {
        self.port
    }

    pub fn hang_up(&mut self) {
        self.process.write_line("terminate");
    }

    /// Leaves two calls to each other; they are numbered from 1 as they came.
    pub fn leave_to_each_other(&mut self, first: u32, second: u32) {
        self.process.write_line(&format!("transfer {first} --to-call {second}"));
    }

    pub fn pause(&mut self) {
        self.process.write_line("pause");
    }

    pub fn resume(&mut self) {
        self.process.write_line("resume");
    }

    /// Quits; its recording is whole then.
    #[track_caller]
    pub fn quit(&mut self) {
        self.process.write_line("quit");
        self.process.wait_exit(wait::SOON);
    }
}
