//! What a minute of a call costs on the app's wire, per network: bytes with every header, rate and packet length.
//!
//! `cargo bench --bench frugal`. A conversation: the telephone speaks 45 % of the time; the app reports as its network
//! treats it. Nothing here depends on the machine.

use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tandem::media::bridge;
use tandem::media::codec::g711::Law;
use tandem::media::codec::opus::{has_redundancy, packet_samples};
use tandem::media::config::{LegConfig, OpusSettings};
use tandem::media::leg::{Datagram, Leg};
use tandem::media::reception::Reception;
use tandem::media::rtcp::{self, Compound, NtpTime, Report};
use tandem::media::rtp::{self, RtpHeader};
use tandem::media::transmit::{Channel, Out, Wire, Workspace};
use tandem::simulator::speech::callee;
use tandem::types::{AudioCodec, LegKind, Now};

const TICK: Duration = Duration::from_millis(20);
const MINUTES: u32 = 3;
/// IPv4 and UDP.
const HEADERS: usize = 28;
const FAR: &str = "192.0.2.1:4000";

/// How a network treats the app's packets.
struct Network {
    name: &'static str,
    /// Share lost, of 256.
    loss: u8,
    rtt_ms: u64,
    /// Bits per second it carries, headers included; what is beyond stands in a queue. `None`: as much as there is.
    carries: Option<u32>,
}

const NETWORKS: [Network; 5] = [
    Network { name: "wifi", loss: 0, rtt_ms: 15, carries: None },
    Network { name: "4g", loss: 3, rtt_ms: 50, carries: None },
    Network { name: "4g, cell edge", loss: 45, rtt_ms: 90, carries: None },
    Network { name: "full uplink, 28 kb/s", loss: 0, rtt_ms: 80, carries: Some(28_000) },
    Network { name: "2g, 26 kb/s", loss: 5, rtt_ms: 400, carries: Some(26_000) },
];

fn main() {
    // `cargo bench` passes options of the usual harness; there is nothing to choose here.
    let speech = callee().samples;
    println!("Tandem on the app's wire: telephone to app, 45 % talking, IPv4 and UDP headers counted");
    println!(
        "                                   talking      a minute of conversation      packets      redundancy"
    );
    println!(
        "network                 DTX   kb/s at the end      KB       kb/s mean      per s   ms each    % of packets"
    );
    for network in &NETWORKS {
        for dtx in [false, true] {
            let minute = Minute::of(&speech, network, dtx);
            println!(
                "  {:<22}{:<6}{:>12.1}{:>13.1}{:>13.1}{:>12.1}{:>9}{:>15.0}",
                network.name,
                if dtx { "on" } else { "off" },
                minute.talking_kbps,
                minute.bytes as f64 / 1000.0 / f64::from(MINUTES),
                minute.bytes as f64 * 8.0 / 1000.0 / 60.0 / f64::from(MINUTES),
                minute.packets as f64 / 60.0 / f64::from(MINUTES),
                minute.last_ms,
                100.0 * minute.redundant as f64 / minute.packets as f64,
            );
        }
    }
    println!(
        "  for comparison: G.711 in 20 ms packets, all the time     600.0         80.0        50.0       20"
    );
}

#[derive(Default)]
struct Minute {
    bytes: u64,
    packets: u64,
    redundant: u64,
    last_ms: usize,
    /// Over the last spell of talking.
    talking_kbps: f64,
    /// Since the last report.
    recent_bytes: u64,
    lost_before: u32,
}

struct Meter<'a> {
    minute: &'a mut Minute,
    last_sr: &'a mut Option<(u32, u32)>,
}

impl Wire for Meter<'_> {
    fn send(&mut self, _: Channel, _: SocketAddr, packet: &[u8]) {
        if rtp::is_rtcp(packet) {
            if packet[1] == 200 {
                let word = |at: usize| {
                    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
                };
                *self.last_sr = Some((word(4), word(10)));
            }
            return;
        }
        let payload = rtp::parse(packet).expect("RTP").payload;
        let bytes = (packet.len() + HEADERS) as u64;
        self.minute.bytes += bytes;
        self.minute.recent_bytes += bytes;
        self.minute.packets += 1;
        self.minute.redundant += u64::from(has_redundancy(payload));
        self.minute.last_ms = packet_samples(payload, 1_000).unwrap_or(0);
    }
}

impl Minute {
    fn of(speech: &[i16], network: &Network, dtx: bool) -> Minute {
        let mut now = Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        let (mut trunk, mut app) =
            (Leg::new(LegKind::Trunk, 3, now.instant), Leg::new(LegKind::App, 4, now.instant));
        trunk.configure(config(AudioCodec::Pcma, dtx), now).expect("no keys");
        app.configure(config(AudioCodec::Opus, dtx), now).expect("no keys");
        bridge::join(&mut trunk, &mut app);
        let (mut minute, mut last_sr) = (Minute::default(), None);
        let mut work = Box::<Workspace>::default();
        let far: SocketAddr = FAR.parse().expect("an address");
        let mut queue_ms = 0.0f64;
        let (mut talked, mut spell_bytes) = (0u32, 0);
        for number in 0..MINUTES * 3_000 {
            now = now.after(TICK);
            let mut wire = Meter { minute: &mut minute, last_sr: &mut last_sr };
            app.handle_timeout(now, &mut Out { wire: &mut wire, work: &mut work });
            // 4.5 s of voice, 5.5 s of a quiet room.
            let talking = number % 500 < 225;
            let at = (number as usize * 160) % (speech.len() - 160);
            let payload: Vec<u8> = speech[at..at + 160]
                .iter()
                .enumerate()
                .map(|(n, sample)| Law::A.compress(if talking { *sample } else { (n % 7) as i16 * 8 - 24 }))
                .collect();
            let header = RtpHeader {
                payload_type: 8,
                marker: false,
                sequence: number as u16,
                timestamp: number * 160,
                ssrc: 7,
            };
            let mut bytes = vec![0; payload.len() + rtp::HEADER_LEN];
            header.write(&payload, &mut bytes).expect("room");
            let before = wire.minute.bytes;
            let datagram = Datagram { from: far, arrival: now.instant, bytes: &mut bytes };
            bridge::forward(
                &mut trunk,
                &mut app,
                datagram,
                now,
                &mut Out { wire: &mut wire, work: &mut work },
            );
            if talking {
                talked += 1;
                spell_bytes += minute.bytes - before;
            }
            if number % 500 == 225 {
                minute.talking_kbps = spell_bytes as f64 * 8.0 / f64::from(talked * 20);
                (talked, spell_bytes) = (0, 0);
            }
            if number % 250 == 249 {
                if let Some(carries) = network.carries {
                    // What came in five seconds beyond what the network carries waits in its queue.
                    let in_ms = minute.recent_bytes as f64 * 8_000.0 / f64::from(carries);
                    queue_ms = (queue_ms + in_ms - 5_000.0).clamp(0.0, 2_000.0);
                }
                minute.report(network, queue_ms, last_sr, now, &mut app, far);
            }
        }
        minute
    }

    /// The app's receiver report.
    fn report(
        &mut self,
        network: &Network,
        queue_ms: f64,
        last_sr: Option<(u32, u32)>,
        now: Now,
        app: &mut Leg,
        far: SocketAddr,
    ) {
        self.recent_bytes = 0;
        let Some((ssrc, last_sr)) = last_sr else { return };
        self.lost_before += 250 * u32::from(network.loss) / 256;
        let reception = Reception {
            ssrc,
            fraction_lost: network.loss,
            cumulative_lost: self.lost_before as i32,
            highest_sequence: 1,
            jitter: 480,
        };
        let rtt = network.rtt_ms as u32 + queue_ms as u32;
        let since = NtpTime::from_unix_millis(now.unix_ms).middle().wrapping_sub(last_sr);
        let delay = since.saturating_sub(65_536 * rtt / 1_000);
        let report = Some(Report { reception, last_sr, delay_since_last_sr: delay });
        let compound = Compound { ssrc: 5, sender: None, report, voip: None, cname: "app", bye: false };
        let mut bytes = [0; rtcp::MAX_WRITTEN];
        let len = compound.write(&mut bytes).expect("room");
        let datagram = Datagram { from: far, arrival: now.instant, bytes: &mut bytes[..len] };
        app.receive_rtcp(datagram, Channel::Rtp, now);
    }
}

fn config(codec: AudioCodec, dtx: bool) -> LegConfig {
    let far: SocketAddr = FAR.parse().expect("an address");
    let payload_type = match codec {
        AudioCodec::Opus => 111,
        AudioCodec::Pcma => 8,
        AudioCodec::Pcmu => 0,
    };
    let opus = OpusSettings { dtx, ..OpusSettings::default() };
    LegConfig { opus, ..LegConfig::plain(codec, payload_type, far) }
}
