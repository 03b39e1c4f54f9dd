//! A phone and a plain far end call each other over real sockets, without a gateway between them.

use super::agent::{AgentSettings, EndedBy, Guard, Manner};
use super::conversation::{self, CallReport, Script};
use super::io::endpoint::{Endpoint, EndpointOptions, Visit, VoiceOptions};
use super::io::media::MediaThreads;
use super::phone::{self, Flaw, Phone, PhoneAction, PhoneOptions};
use super::stream::StreamPlan;
use super::voice::Speech;
use super::wav::Wav;
use super::{SimulatorError, speech};
use crate::sdp::SrtpPolicy;
use crate::sip::io::{Identity, Listener, TlsSettings};
use crate::sip::message::Uri;
use crate::sip::transaction::Timers;
use crate::types::{AudioCodec, HostPort, NetworkId, Now, Secret, Transport};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first seconds of a recording: enough to be judged, short enough to be waited for.
fn first_seconds(wav: &Wav) -> Arc<Wav> {
    Arc::new(Wav { rate: wav.rate, samples: wav.samples[..wav.rate as usize * 5 / 2].to_vec() })
}

struct FarEnd {
    endpoint: Endpoint,
    visits: mpsc::UnboundedReceiver<Visit>,
    voice: VoiceOptions,
}

impl FarEnd {
    async fn start(
        transport: Transport,
        tls: TlsSettings,
        voice: VoiceOptions,
        guard: Option<Guard>,
    ) -> FarEnd {
        let bind = "127.0.0.1:0".parse().unwrap();
        let agent = AgentSettings {
            user: String::new(),
            domain: HostPort { host: "far.example".into(), port: None },
            credentials: None,
            guard,
            product: "far end".into(),
            manner: Manner::default(),
            timers: Timers::default(),
        };
        let (endpoint, visits) = Endpoint::start(EndpointOptions {
            agent,
            listen: vec![Listener { transport, bind, network: NetworkId::default() }],
            tls,
            media: MediaThreads::start(1).unwrap(),
            voice: voice.clone(),
            observer: None,
        })
        .await
        .unwrap();
        FarEnd { endpoint, visits, voice }
    }

    fn phone(&self) -> PhoneOptions {
        let Listener { transport, bind, .. } = self.endpoint.local_addresses()[0];
        let server = format!("sip:{bind};transport={}", transport.as_str());
        PhoneOptions {
            register: false,
            action: PhoneAction::Call("+3225550001".into()),
            play: Some(first_seconds(&speech::caller())),
            expect: Some(first_seconds(&speech::callee())),
            bind: Some([127, 0, 0, 1].into()),
            ..PhoneOptions::new(&server, "alice", Secret::new("secret"))
        }
    }

    fn plan() -> StreamPlan {
        let wav = first_seconds(&speech::callee());
        StreamPlan {
            speech: Some(Speech::Once { wav, after_ms: 500 }),
            record: true,
            ..StreamPlan::default()
        }
    }

    /// Answers the next call and leads it to its end.
    async fn answer(&mut self) -> CallReport {
        let Some(Visit::Call(arrival)) = self.visits.recv().await else { panic!("no call") };
        assert_eq!(arrival.incoming.uri.user(), "+3225550001");
        arrival.session.prepare(FarEnd::plan(), self.voice.clone()).await.unwrap();
        arrival.session.progress(180, false);
        arrival.session.answer();
        let mut report = conversation::lead(arrival.session, arrival.at, &Script::default(), |_| {}).await;
        report.judge(&first_seconds(&speech::caller()), Some(&first_seconds(&speech::callee())));
        report
    }
}

/// Both sides of one call: each has truly heard the other.
async fn both_hear(mut far: FarEnd, phone: PhoneOptions) -> CallReport {
    let (report, theirs) = tokio::join!(phone::run(phone, None), far.answer());
    let report = report.unwrap();
    assert_eq!(report.flaw(), None, "{report:#?}");
    let ours = report.call.unwrap();
    for (side, ended_by) in [(&ours, EndedBy::Us), (&theirs, EndedBy::Them)] {
        assert!(side.heard.as_ref().unwrap().heard, "{side:#?}");
        assert_eq!((side.ended_by, side.status), (ended_by, 200));
        assert!(side.media.packets_received > 80, "{:?}", side.media);
        assert!(side.media.mos_lq.is_some());
    }
    assert_eq!((&ours.call_id, ours.codec), (&theirs.call_id, theirs.codec));
    assert!(ours.set_up.ringing_ms.is_some() && ours.set_up.answered_ms >= ours.set_up.ringing_ms);
    assert!(ours.media.rtt_ms.is_some());
    far.endpoint.stop().await;
    ours
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sides_hear_each_other_in_pcma_over_udp() {
    let folder = folder("udp");
    let voice = VoiceOptions { codecs: vec![AudioCodec::Pcma, AudioCodec::Pcmu], ..VoiceOptions::default() };
    let far = FarEnd::start(Transport::Udp, TlsSettings::default(), voice, None).await;
    let phone = PhoneOptions { record: Some(folder.join("heard.wav")), ..far.phone() };
    let call = both_hear(far, phone).await;
    assert_eq!((call.codec, call.srtp), (Some(AudioCodec::Pcma), false));
    assert!(Wav::read(&call.recording.unwrap()).unwrap().seconds() > 3.0);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sides_hear_each_other_in_opus_over_tls_with_srtp() {
    let folder = folder("tls");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let voice = VoiceOptions { srtp: SrtpPolicy::Sdes, ..VoiceOptions::default() };
    let identity = Some(Identity { certificate: certificate.clone(), key });
    let tls = TlsSettings { identity, ..TlsSettings::default() };
    let far = FarEnd::start(Transport::Tls, tls, voice.clone(), None).await;
    let mut phone = PhoneOptions { tls_ca: Some(certificate), voice, ..far.phone() };
    phone.server = phone.server.replace("127.0.0.1", "localhost");
    let call = both_hear(far, phone).await;
    assert_eq!((call.codec, call.srtp), (Some(AudioCodec::Opus), true));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_phone_is_called_by_its_connection_keys_and_hold_included() {
    let guard = Guard { realm: "lab".into(), user: "alice".into(), password: Secret::new("secret") };
    let mut far =
        FarEnd::start(Transport::Tcp, TlsSettings::default(), VoiceOptions::default(), Some(guard)).await;
    let media = MediaThreads::start(1).unwrap();
    let options = PhoneOptions { expect: None, ..far.phone() };
    let mut phone = Phone::start(options, media, None).await.unwrap();
    let outcome = phone.register().await.unwrap();
    assert_eq!((outcome.status, outcome.expires), (200, 300));
    let Some(Visit::Binding(binding)) = far.visits.recv().await else { panic!("no registration") };
    assert_eq!((binding.user.as_str(), binding.expires), ("alice", 300));
    let script = Script {
        talk: Some(Duration::from_secs(4)),
        keys: Some((Duration::from_millis(200), "42#".into())),
        hold: Some((Duration::from_millis(1_500), Duration::from_millis(400))),
        ..Script::default()
    };
    let placed = async {
        let session = far.endpoint.call(binding.peer, binding.contact, None, FarEnd::plan()).await.unwrap();
        conversation::lead(session, Now::read(), &script, |_| {}).await
    };
    let (placed, taken) =
        tokio::join!(placed, phone.answer(Duration::from_secs(20), Duration::from_millis(50)));
    let taken = taken.unwrap().expect("the call came");
    assert_eq!((placed.status, placed.ended_by, placed.updates), (200, EndedBy::Us, 2));
    assert_eq!((taken.ended_by, taken.updates, taken.keys.as_str()), (EndedBy::Them, 2, "42#"));
    phone.stop().await;
    let Some(Visit::Binding(binding)) = far.visits.recv().await else { panic!("not taken back") };
    assert_eq!(binding.expires, 0);
}

#[tokio::test]
async fn a_wrong_password_and_a_wrong_address_are_said() {
    let guard = Guard { realm: "lab".into(), user: "alice".into(), password: Secret::new("other") };
    let far =
        FarEnd::start(Transport::Udp, TlsSettings::default(), VoiceOptions::default(), Some(guard)).await;
    let refused = phone::run(PhoneOptions { register: true, ..far.phone() }, None).await.unwrap();
    assert_eq!(refused.registration.as_ref().map(|outcome| outcome.status), Some(401));
    assert!(refused.call.is_none());
    assert_eq!(refused.flaw(), Some(Flaw::NotRegistered));
    let nowhere = phone::run(PhoneOptions { server: "sip:a b".into(), ..far.phone() }, None).await;
    assert!(matches!(nowhere, Err(SimulatorError::Address(_))));
    assert!(Uri::parse("sip:a b").is_err());
}

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("tandem-simulator-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
