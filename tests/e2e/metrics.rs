//! Each metric where calls of real peers move it to a value that somebody else knows: the wire between them, their own
//! message logs, the kernel, openssl, df.

use crate::scene::{ALICE, BLINK, MOBILE, SECOND, alice, builder, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::{Gateway, GatewayBuilder},
    impairment::{Fate, Impairment},
    lane::Lane,
    metrics::Metrics,
    raw_sip::RawUdp,
    rtp::RtpSocket,
    speech::Voice,
    tls::Authority,
    trace::TracedMessage,
    wait,
    wire::{Tallies, Wire},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{Duration, Instant},
};

const MS: Duration = Duration::from_millis(1);

/// Waits until what the gateway reported over a wire has been answered: only then the round trip can be known.
#[track_caller]
pub fn wait_round_trip(wire: &Wire) {
    wait::until("a report of the gateway", wait::START, || (wire.call().to_peer.reports > 0).then_some(()));
    let answered = wire.call().to_gateway.reports;
    wait::until("a report that answers it", wait::START, || {
        (wire.call().to_gateway.reports > answered).then_some(())
    });
}

#[test]
fn what_a_wire_does_to_a_conversation_is_what_is_measured() {
    let lane = Lane::take("metrics-media");
    let line = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let builder = Gateway::on(&lane).set("sip.digest", vec![toml::Value::from("MD5")]).user("alice", ALICE);
    let fates = [(50, Fate::Drop), (51, Fate::Drop), (100, Fate::Drop), (150, Fate::Twice)];
    // First, so that what counts as lost until it comes after all is made up for by what is lost.
    let fates = fates.into_iter().chain([(30, Fate::Behind(2))]);
    let app = Wire::on(&lane, builder.udp());
    let app = app.to_gateway(Impairment::script(fates).delay(30 * MS).jitter(16 * MS));
    let app = app.to_peer(Impairment::none().delay(30 * MS)).start();
    let trunk = Wire::on(&lane, builder.udp()).peer(line.address());
    let trunk = trunk.to_gateway(Impairment::lose([80])).start();
    let builder = builder.trunk("operator-a", trunk.address());
    let gateway = builder.section("rate", |rate| {
        rate.set("prefix", "+32").set("per_minute", "0.60").set("currency", "EUR");
    });
    let gateway = gateway.section("rate", |rate| {
        rate.set("prefix", "+32").set("per_minute", "0.24").set("currency", "EUR").set("trunk", "operator-a");
    });
    let gateway = gateway.start();

    let mut phone = Baresip::on(&lane, "alice").registers(app.address(), "udp").start();
    phone.dial(MOBILE);
    phone.wait_event("CALL_ESTABLISHED");
    let answered = Instant::now();
    let stranger = RtpSocket::new(&lane);
    let trunk_side = trunk.call().gateway.expect("the gateway offered its media");
    for count in 0..25 {
        stranger.send(trunk_side, 8, count, 160, &[0x2a; 160]);
    }
    wait_round_trip(&app);
    wait_round_trip(&trunk);
    let talked = answered.elapsed().as_secs_f64();
    app.silence_peer();
    trunk.silence_peer();
    for (leg, wire) in [("app", &app), ("trunk", &trunk)] {
        wait::until("the last packets to arrive", wait::SOON, || {
            let heard = [("leg", leg), ("flow", "received")];
            let delivered = wire.call().to_gateway;
            let expected = delivered.delivered - delivered.doubled.len() as u64;
            (gateway.metric("tandem_media_packets_total", &heard) as u64 == expected).then_some(())
        });
    }
    phone.hang_up();
    phone.wait_event("CALL_CLOSED");
    let lasted = answered.elapsed().as_secs_f64();
    gateway.wait_cdr();
    gateway.wait_idle();

    let (app, trunk): (Tallies, Tallies) = (app.call(), trunk.call());
    let metrics = gateway.metrics();
    let count = |name: &str, labels: &[(&str, &str)]| metrics.value(name, labels) as u64;
    let one = |name: &str, leg: &str| {
        let labels = [("trunk", "operator-a"), ("leg", leg)];
        assert_eq!(count(&format!("{name}_count"), &labels), 1, "{name} of the {leg} leg");
        metrics.value(&format!("{name}_sum"), &labels)
    };

    // Each leg's packets, by what passed the wire.
    for (leg, wire) in [("app", &app), ("trunk", &trunk)] {
        let to_gateway = &wire.to_gateway;
        let heard = to_gateway.delivered - to_gateway.doubled.len() as u64;
        let packets = |flow| count("tandem_media_packets_total", &[("leg", leg), ("flow", flow)]);
        assert_eq!(packets("received"), heard, "{leg}");
        assert_eq!(packets("sent"), wire.to_peer.seen, "{leg}");
        let lost = to_gateway.dropped.len() as u64;
        assert_eq!(count("tandem_media_lost_packets_total", &[("leg", leg)]), lost, "{leg} {to_gateway:?}");
        let late = (to_gateway.doubled.len() + to_gateway.overtaken.len()) as u64;
        assert_eq!(count("tandem_media_late_packets_total", &[("leg", leg)]), late, "{leg}");
        let ratio = one("tandem_media_loss_ratio", leg);
        let expected = lost as f64 / (heard + lost) as f64;
        assert!((ratio - expected).abs() < 1e-6, "{leg}: {ratio} is not {expected}");
    }
    assert_eq!((app.to_gateway.dropped.len(), trunk.to_gateway.dropped.len()), (3, 1));
    assert_eq!(count("tandem_media_discarded_packets_total", &[("leg", "trunk")]), 25, "the stranger's");
    assert_eq!(count("tandem_media_discarded_packets_total", &[("leg", "app")]), 0);
    // Each gap is filled, also the one whose packet came too late to be played, and those of a busy machine.
    let gaps = (app.to_gateway.dropped.len() + trunk.to_gateway.dropped.len()) as u64;
    let overtaken = app.to_gateway.overtaken.len() as u64;
    let recovered = count("tandem_media_recovered_packets_total", &[]);
    assert!((gaps..=gaps + overtaken + 10).contains(&recovered), "{recovered} of {gaps} + {overtaken}");
    let transcoded = count("tandem_media_transcode_seconds_count", &[]);
    let heard = count("tandem_media_packets_total", &[("flow", "received")]);
    assert!((heard - 20..=heard).contains(&transcoded), "{transcoded} of {heard}");
    let inside = metrics.value("tandem_media_transcode_seconds_sum", &[]) / transcoded as f64;
    assert!((1e-6..0.02).contains(&inside), "{inside} s on average");

    // The wire's delay there and back, and little more.
    let round_trip = one("tandem_media_rtt_seconds", "app");
    assert!((0.06..0.25).contains(&round_trip), "{round_trip} s over 30 ms each way");
    let round_trip = one("tandem_media_rtt_seconds", "trunk");
    assert!((0.0..0.15).contains(&round_trip), "{round_trip} s over loopback");
    // Two even draws from 16 ms are a third of that apart on average.
    let jitter = one("tandem_media_jitter_seconds", "app");
    assert!((0.002..0.025).contains(&jitter), "{jitter} s");
    let jitter = one("tandem_media_jitter_seconds", "trunk");
    assert!(jitter < 0.03, "{jitter} s");
    for leg in ["app", "trunk"] {
        let (listening, conversing) = (one("tandem_media_mos_lq", leg), one("tandem_media_mos_cq", leg));
        assert!(
            (4.0..=4.5).contains(&listening) && (3.9..=listening).contains(&conversing),
            "{leg}: {listening} {conversing}"
        );
    }
    assert_eq!(count("tandem_calls_measured_total", &[("trunk", "operator-a")]), 1);
    assert_eq!(count("tandem_media_one_way_total", &[("trunk", "operator-a")]), 0);

    // Billed by the second begun: to the account until somebody was heard last, to the carrier until the BYE.
    let charged =
        |side| metrics.value("tandem_billing_charged_total", &[("side", side), ("currency", "EUR")]);
    let seconds = charged("sell") / 0.01;
    assert!((talked - 1.0..=talked + 2.0).contains(&seconds), "{seconds} sold of {talked} s");
    let bought = charged("buy") / 0.004;
    assert!((talked - 1.0..=lasted + 2.0).contains(&bought), "{bought} bought of {talked} to {lasted} s");
    assert!([seconds, bought].iter().all(|seconds| (seconds - seconds.round()).abs() < 1e-6));
    let margin = metrics.value("tandem_billing_margin_total", &[("currency", "EUR")]);
    assert!((margin - (charged("sell") - charged("buy"))).abs() < 1e-6, "{margin}");
    assert_eq!(metrics.value("tandem_cdr_not_rated_total", &[]), 0.0);
}

/// What the peers' message logs say: each message once, and how many were sent again.
#[derive(Default)]
pub struct Seen {
    /// By method, transport being UDP, and whether the gateway received it.
    pub requests: BTreeMap<(String, bool), u64>,
    /// By class and method.
    pub responses: BTreeMap<(String, String), u64>,
    /// Copies that the gateway sent.
    pub repeated: u64,
}

impl Seen {
    pub fn by(peers: &[&[TracedMessage]]) -> Seen {
        let mut seen = Seen::default();
        for messages in peers {
            let mut known = BTreeSet::new();
            for message in *messages {
                let from_gateway = !message.sent;
                if !known.insert((message.sent, &message.text)) {
                    seen.repeated += u64::from(from_gateway);
                    continue;
                }
                let sequence = message.header("CSeq").expect("every message has one");
                let method = sequence.split(' ').nth(1).expect("a method").to_owned();
                match message.status() {
                    Some(status) => {
                        *seen.responses.entry((format!("{}xx", status / 100), method)).or_default() += 1;
                    }
                    None => *seen.requests.entry((method, message.sent)).or_default() += 1,
                }
            }
        }
        seen
    }

    #[track_caller]
    fn assert_counted(&self, metrics: &Metrics) {
        let nonzero = |name: &str| -> Vec<_> {
            metrics.samples(name, &[]).filter(|sample| sample.value != 0.0).cloned().collect()
        };
        for ((method, received), times) in &self.requests {
            let flow = if *received { "received" } else { "sent" };
            let labels = [("method", method.as_str()), ("transport", "udp"), ("flow", flow)];
            let counted = metrics.value("tandem_sip_requests_total", &labels);
            assert_eq!(counted as u64, *times, "{labels:?}: {:?}", self.requests);
        }
        assert_eq!(nonzero("tandem_sip_requests_total").len(), self.requests.len());
        for ((class, method), times) in &self.responses {
            let labels = [("class", class.as_str()), ("method", method.as_str())];
            let counted = metrics.value("tandem_sip_responses_total", &labels);
            assert_eq!(counted as u64, *times, "{labels:?}: {:?}", self.responses);
        }
        assert_eq!(nonzero("tandem_sip_responses_total").len(), self.responses.len());
        assert_eq!(metrics.value("tandem_sip_retransmissions_total", &[]) as u64, self.repeated);
    }
}

/// Seconds between two messages of a peer's log.
#[track_caller]
pub fn between(
    messages: &[TracedMessage],
    first: impl Fn(&TracedMessage) -> bool,
    then: impl Fn(&TracedMessage) -> bool,
) -> f64 {
    let at = |wanted: &dyn Fn(&TracedMessage) -> bool| {
        messages.iter().find(|message| wanted(message)).map(|message| message.at_us).expect("such a message")
    };
    (at(&then) - at(&first)) as f64 / 1e6
}

#[test]
fn signalling_is_counted_and_timed_as_the_peers_saw_it() {
    let lane = Lane::take("metrics-signalling");
    let mut silent = operator(&lane, "operator-says-nothing").pause(20 * SECOND).start();
    let late = operator(&lane, "operator-answers-late").pause(300 * MS).start();
    let builder = Gateway::on(&lane).user("alice", ALICE);
    let builder = builder.trunk_with("operator-a", silent.address(), |trunk| {
        trunk.set("reply_timeout_ms", 1_800).set("max_channels", 3);
    });
    let gateway = builder.trunk_with("operator-b", late.address(), |trunk| {
        trunk.set("max_channels", 7).set("max_duration_seconds", 600);
    });
    let gateway = gateway.start();
    assert_eq!(gateway.metric("tandem_trunk_channels_limit", &[("trunk", "operator-a")]), 3.0);
    assert_eq!(gateway.metric("tandem_trunk_channels_limit", &[("trunk", "operator-b")]), 7.0);

    let caller = alice(&lane, &gateway, "user-calls").pause(1_200 * MS).start().succeed();
    let late = late.succeed();
    gateway.wait_cdr();
    let unanswered = silent.messages();
    silent.kill();
    let metrics = gateway.metrics();
    Seen::by(&[&caller.messages, &late.messages, &unanswered]).assert_counted(&metrics);
    assert!(metrics.value("tandem_sip_retransmissions_total", &[]) >= 2.0, "INVITE after 0.5 and 1.5 s");

    let trunk = |name: &str, trunk: &str| metrics.value(name, &[("trunk", trunk)]);
    let failed = [("trunk", "operator-a"), ("outcome", "trunk_failure")];
    assert_eq!(metrics.value("tandem_trunk_failovers_total", &failed), 1.0);
    assert_eq!(metrics.value("tandem_trunk_failovers_total", &[]), 1.0, "no other");
    // Post-dial delay: nothing rang at the first trunk, the second one answered at once.
    assert_eq!(trunk("tandem_call_setup_seconds_count", "operator-a"), 0.0);
    assert_eq!(trunk("tandem_call_setup_seconds_count", "operator-b"), 1.0);
    let is = |method: &'static str| move |message: &TracedMessage| message.method() == Some(method);
    let truth = between(&late.messages, is("INVITE"), |message| message.status() == Some(200));
    let setup = trunk("tandem_call_setup_seconds_sum", "operator-b");
    assert!((truth - 0.01..truth + 0.2).contains(&setup), "{setup} s, {truth} s by the operator");
    assert_eq!(trunk("tandem_call_duration_seconds_count", "operator-b"), 1.0);
    let truth = between(&late.messages, |message| message.status() == Some(200), is("BYE"));
    let duration = trunk("tandem_call_duration_seconds_sum", "operator-b");
    assert!((duration - truth).abs() < 0.2, "{duration} s, {truth} s by the operator");
    // Nobody said what the call costs, and nobody spoke.
    assert_eq!(metrics.value("tandem_cdr_not_rated_total", &[]), 1.0);
    assert_eq!(trunk("tandem_calls_measured_total", "operator-b"), 0.0);
}

/// What a program prints, trimmed.
#[track_caller]
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// When a certificate ends, as openssl reads it, in seconds since the epoch.
#[track_caller]
pub fn certificate_end(file: &std::path::Path) -> f64 {
    let text = output("openssl", &["x509", "-enddate", "-noout", "-in", &file.display().to_string()]);
    let date = text.strip_prefix("notAfter=").expect("openssl names the end");
    output("date", &["-u", "-d", date, "+%s"]).parse().expect("seconds")
}

#[test]
fn a_gateway_tells_the_truth_about_itself() {
    let lane = Lane::take("metrics-self");
    let first = lane.even_ports(6);
    let gateway = Gateway::on(&lane).user("alice", ALICE).tls(&Authority::new("Tandem tests"));
    let mut gateway = gateway.set("network.media_ports", format!("{first}-{}", first + 5)).start();
    assert_eq!(gateway.metric("tandem_media_ports", &[]), 3.0);

    let version = output(crate::support::gateway::BINARY, &["--version"]);
    let version = version.rsplit(' ').next().expect("a version");
    assert_eq!(gateway.metric("tandem_build_info", &[("version", version)]), 1.0);
    let end = certificate_end(&gateway.folder().join("cert.pem"));
    assert_eq!(gateway.metric("tandem_certificate_expiry_timestamp_seconds", &[]), end);

    assert_eq!(gateway.metric("tandem_draining", &[]), 0.0);
    gateway.ask("POST", "/api/v1/drain", None);
    assert_eq!(gateway.metric("tandem_draining", &[]), 1.0);
    gateway.ask("DELETE", "/api/v1/drain", None);
    assert_eq!(gateway.metric("tandem_draining", &[]), 0.0);

    let reloads = |gateway: &Gateway<'_>| {
        let metrics = gateway.metrics();
        ["ok", "refused"].map(|result| metrics.value("tandem_reloads_total", &[("result", result)]))
    };
    gateway.change(|builder| builder.set("media.timeout_seconds", "soon"));
    assert_eq!(gateway.ask("POST", "/api/v1/reload", None).status, 422);
    assert_eq!(reloads(&gateway), [0.0, 1.0]);
    gateway.change(|builder| builder.set("media.timeout_seconds", 31));
    assert_eq!(gateway.ask("POST", "/api/v1/reload", None).status, 200);
    assert_eq!(reloads(&gateway), [1.0, 1.0]);

    // The disk, as df sees it; others write on it meanwhile.
    let journal = gateway.folder().join("data/journal").display().to_string();
    let df = output("df", &["-B1", "--output=size,avail", &journal]);
    let figures: Vec<f64> =
        df.lines().last().unwrap_or_default().split_whitespace().map(|f| f.parse().expect("bytes")).collect();
    assert_eq!(gateway.metric("tandem_cdr_journal_disk_size_bytes", &[]), figures[0]);
    let free = gateway.metric("tandem_cdr_journal_disk_free_bytes", &[]);
    assert!((free - figures[1]).abs() < 0.02 * figures[0], "{free} of {figures:?}");

    // The process, as the kernel sees it from outside.
    let before = Outside::of(gateway.pid());
    let metrics = gateway.metrics();
    let after = Outside::of(gateway.pid());
    let counted = metrics.value("process_cpu_seconds_total", &[]);
    assert!((before.cpu_seconds..=after.cpu_seconds).contains(&counted), "{counted} s of CPU");
    let ratio = metrics.value("process_resident_memory_bytes", &[]) / after.resident_bytes;
    assert!((0.9..1.1).contains(&ratio), "{ratio} of the resident memory");
    assert_eq!(metrics.value("process_max_fds", &[]), after.most_files);
    // The scrape's own connection is one of them.
    let open = metrics.value("process_open_fds", &[]);
    assert!(
        (before.files..=before.files + 2.0).contains(&open),
        "{open} open, {} by the kernel",
        before.files
    );
}

/// A process as the kernel shows it to others.
pub struct Outside {
    pub cpu_seconds: f64,
    pub resident_bytes: f64,
    pub files: f64,
    pub most_files: f64,
}

impl Outside {
    #[track_caller]
    pub fn of(pid: u32) -> Outside {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).expect("a file");
        let line = |name: &str, start: &str| {
            let text = read(name);
            let found = text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned);
            let first = found.expect("a line").split_whitespace().next().map(str::to_owned);
            first.and_then(|number| number.parse::<f64>().ok()).expect("a number")
        };
        let stat = read("stat");
        let ticks: f64 = output("getconf", &["CLK_TCK"]).parse().expect("a number");
        // Behind the command: field 3 of proc_pid_stat(5) is the first, utime 14 and stime 15.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let used: f64 = fields.skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks")).sum();
        Outside {
            cpu_seconds: used / ticks,
            resident_bytes: 1_024.0 * line("status", "VmRSS:"),
            files: std::fs::read_dir(format!("/proc/{pid}/fd")).expect("a folder").count() as f64,
            most_files: line("limits", "Max open files"),
        }
    }
}

#[test]
fn ports_that_are_used_again_too_early_are_counted() {
    let lane = Lane::take("metrics-ports");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let first = lane.even_ports(4);
    let gateway =
        builder(&lane, &switch).set("network.media_ports", format!("{first}-{}", first + 3)).start();
    let call = || {
        // Refused until the two pairs have rested for the least time.
        wait::until("a call to be taken", wait::SOON, || {
            let caller = alice(&lane, &gateway, "user-calls").pause(BLINK).start().finish();
            (caller.exit == Some(0)).then_some(())
        });
    };
    call();
    assert_eq!(gateway.metric("tandem_media_ports_rushed_total", &[]), 0.0);
    gateway.wait_idle();
    call();
    assert_eq!(gateway.metric("tandem_media_ports_rushed_total", &[]), 2.0, "one pair a leg");
    switch.succeed();
}

#[test]
fn a_port_that_is_still_sent_to_after_its_call_is_counted() {
    let lane = Lane::take("metrics-strays");
    let switch = operator(&lane, "operator-answers").calls(1).start();
    let first = lane.even_ports(4);
    let gateway =
        builder(&lane, &switch).set("network.media_ports", format!("{first}-{}", first + 3)).start();
    alice(&lane, &gateway, "user-calls").pause(BLINK).start().succeed();
    gateway.wait_idle();
    assert_eq!(gateway.metric("tandem_media_ports_disturbed_total", &[]), 0.0);
    let stray = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    wait::until("a port that is not quiet", wait::SOON, || {
        for port in [first, first + 2] {
            stray.send_to(&[0x80; 172], ("127.0.0.1", port)).expect("a datagram");
        }
        (gateway.metric("tandem_media_ports_disturbed_total", &[]) > 0.0).then_some(())
    });
    switch.succeed();
}

#[test]
fn a_log_that_nobody_reads_loses_lines_and_counts_them() {
    let lane = Lane::take("metrics-log");
    let gateway = talkative(Gateway::on(&lane)).start_unread();
    let (sent, dropped) = drown_log(&lane, &gateway);
    gateway.read_log();
    let kept = || gateway.log().iter().filter(|line| line.contains("refused a malformed message")).count();
    let expected = (sent - dropped) as usize;
    wait::until("the lines that were kept", wait::SOON, || (kept() >= expected).then_some(()));
    gateway.wait_log(&format!("{dropped} log lines were dropped"), wait::SOON);
    assert_eq!(kept(), expected, "{sent} refused, {dropped} lines dropped");
}

/// A gateway whose log tells of each malformed message, and which nobody keeps from sending them.
pub fn talkative(gateway: GatewayBuilder<'_>) -> GatewayBuilder<'_> {
    let gateway = gateway.set("log.level", "warn,tandem::sip=debug");
    gateway.set("guard.requests_per_second", 100_000).set("guard.burst", 100_000)
}

/// Makes a talkative gateway log more than fits while nobody reads: how many lines there were, and how many are gone.
#[track_caller]
pub fn drown_log(lane: &Lane, gateway: &Gateway<'_>) -> (u64, u64) {
    let noise = RawUdp::new(lane).towards(gateway.udp());
    let refused = || gateway.metric("tandem_sip_refused_total", &[("reason", "malformed")]) as u64;
    let dropped = || gateway.metric("tandem_log_lines_dropped_total", &[]) as u64;
    let mut sent = 0;
    wait::until("lines to be dropped", wait::START, || {
        for _ in 0..250 {
            noise.send("this is no SIP\r\n\r\n");
        }
        sent += 250;
        wait::until("the last datagram to be refused", wait::SOON, || (refused() == sent).then_some(()));
        (dropped() >= 100).then_some(())
    });
    (sent, dropped())
}
