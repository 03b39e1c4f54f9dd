//! What the gateway knows of a call's sound, and says of it while it lasts and when it is over.

use crate::media::announcement;
use crate::scene::{ALICE, MOBILE, SECOND, alice, gateway, operator};
use crate::support::{
    baresip::{Baresip, PhoneCodec},
    gateway::Gateway,
    lane::Lane,
    linphone::Linphone,
    rtp::{self, RtpSocket},
    speech::{Floor, Voice},
    wait,
    wire::Wire,
};
use std::time::{Duration, Instant};

/// A frame of Opus that says nothing: 20 ms of CELT without content (RFC 6716 §3.1).
const OPUS_SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];
/// A fault is told within five seconds of its beginning, and a scrape sees it a moment later.
const TOLD: Duration = Duration::from_millis(5_500);

#[test]
fn one_way_audio_is_told_while_the_call_goes_on_shown_by_the_api_and_named_in_the_record() {
    let lane = Lane::take("quality-one-way");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").pause(9 * SECOND).start();
    caller.wait_status(200);
    gateway.wait_metric_within(TOLD, "tandem_media_one_way_total", &[("trunk", "operator-a")], 1.0);
    let calls = gateway.calls();
    let [call] = &calls[..] else { panic!("the call goes on: {calls:?}") };
    let path = format!("/api/v1/calls/{}", call["id"].as_str().expect("an id"));
    let shown = wait::until("a sample of the operator's voice", wait::SOON, || {
        let shown = gateway.get(&path);
        let samples = shown["callee_series"].as_array().map_or(0, Vec::len);
        (samples > 0).then_some(shown)
    });
    assert_eq!(shown["caller_leg"]["fault"], "missing", "{shown:#}");
    assert!(shown["callee_leg"]["fault"].is_null());
    let sample = &shown["callee_series"][0];
    assert!(sample["bytes_received"].as_u64().is_some_and(|bytes| bytes > 100 * 172), "{sample}");
    assert!(sample["mos_lq"].as_f64().is_some_and(|mos| mos > 4.0), "{sample}");
    assert!(shown["caller_series"][0]["mos_lq"].is_null(), "nothing came, nothing is known");
    caller.succeed();
    switch.succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!(cdr["caller_leg"]["fault"], "missing");
    assert!(cdr["caller_leg"]["fault_ms"].as_u64().is_some_and(|ms| ms > 5_000), "{cdr:#}");
    assert!(cdr["caller_leg"]["mos_lq"].is_null() && cdr["callee_leg"]["mos_lq"].is_number());
    let metrics = gateway.metrics();
    assert_eq!(metrics.value("tandem_media_one_way_total", &[("trunk", "operator-a")]), 1.0, "once a call");
    assert_eq!(metrics.value("tandem_media_silent_total", &[("trunk", "operator-a")]), 0.0);
    assert_eq!(metrics.value("tandem_calls_measured_total", &[("trunk", "operator-a")]), 0.0);
}

#[test]
fn silent_audio_is_told_while_the_call_goes_on_and_named_in_the_record() {
    let lane = Lane::take("quality-silent");
    let file = announcement(&lane);
    let switch = operator(&lane, "operator-speaks").fill("announcement", &file).start();
    let gateway = gateway(&lane, &switch);
    let caller = alice(&lane, &gateway, "user-calls").pause(8 * SECOND).start();
    let at = rtp::audio_of(&caller.wait_status(200));
    let phone = RtpSocket::new(&lane);
    let begun = Instant::now();
    let mut count = 0;
    wait::until("the fault to be told", TOLD, || {
        while u128::from(count) * 20 < begun.elapsed().as_millis() {
            phone.send(at, 111, count, 960, &OPUS_SILENCE);
            count += 1;
        }
        let told = gateway.metric("tandem_media_silent_total", &[("trunk", "operator-a")]);
        (told == 1.0).then_some(())
    });
    caller.succeed();
    switch.succeed();
    let cdr = gateway.wait_cdr();
    assert_eq!(cdr["caller_leg"]["fault"], "silent", "{cdr:#}");
    assert!(cdr["callee_leg"]["fault"].is_null());
    let metrics = gateway.metrics();
    assert_eq!(metrics.value("tandem_media_one_way_total", &[("trunk", "operator-a")]), 0.0);
    assert_eq!(metrics.value("tandem_calls_measured_total", &[("trunk", "operator-a")]), 1.0);
}

#[test]
fn a_phone_that_asks_for_voip_metrics_gets_ours_and_its_own_are_kept() {
    let lane = Lane::take("quality-xr");
    let _floor = Floor::take();
    let callee = Baresip::on(&lane, MOBILE).codec(PhoneCodec::Pcma).voice(Voice::Callee).start();
    let gateway = Gateway::on(&lane).user("alice", ALICE).trunk("operator-a", callee.address()).start();
    let wire = Wire::on(&lane, gateway.udp()).start();
    let caller = Linphone::on(&lane, "alice").voice(Voice::Caller).voip_metrics();
    let mut caller = caller.registers(wire.address(), "udp").start();
    caller.call(&format!("sip:{MOBILE}@tandem.test"));
    caller.wait_answer_and_speak();
    for direction in ["ours", "its own"] {
        wait::until(direction, wait::START, || {
            let call = wire.call();
            let tally = if direction == "ours" { call.to_peer } else { call.to_gateway };
            (tally.voip_metrics > 0).then_some(())
        });
    }
    caller.hang_up();
    callee.wait_event("CALL_CLOSED");
    caller.quit();
    let cdr = gateway.wait_cdr();
    let caller_leg = &cdr["caller_leg"];
    assert!(caller_leg["remote_mos_lq"].as_f64().is_some_and(|mos| mos > 3.0), "{cdr:#}");
    assert!(caller_leg["rtt_ms"].is_number() && caller_leg["mos_cq"].is_number());
    assert!(cdr["callee_leg"]["remote_mos_lq"].is_null(), "baresip has no extended reports");
    let metrics = gateway.metrics();
    assert_eq!(metrics.value("tandem_calls_measured_total", &[("trunk", "operator-a")]), 1.0);
    for fault in ["tandem_media_one_way_total", "tandem_media_silent_total"] {
        assert_eq!(metrics.value(fault, &[("trunk", "operator-a")]), 0.0);
    }
    let heard = metrics.value("tandem_media_unrepaired_ratio_count", &[("trunk", "operator-a")]);
    assert_eq!(heard, 2.0, "one value per leg");
}
