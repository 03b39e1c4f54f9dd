//! Our own figures over sockets: cost of each kind of call, memory, and how a stall of the machine is made up for.

use crate::codec;
use crate::crowd::{Crowd, FRAME_TIME, Measured, Talk, on_time};
use crate::gateway::{Gateway, Tandem};
use crate::machine::{self, resident};
use crate::speech::{self, CONTINUOUS, Said, conversation, payloads};
use std::process::Command;
use std::time::Duration;
use tandem::media::config::OpusSettings;
use tandem::types::AudioCodec::{self, Opus, Pcma};

/// Told to the encoder where redundancy is to be active, in percent.
const TOLD_LOSS: u8 = 5;

pub fn run(calls: usize) {
    machine::pin_self();
    let voice = speech::caller();
    let voiced = speech::voiced(&voice);
    let continuous = |codecs: [AudioCodec; 2]| codecs.map(|codec| payloads(&voiced, codec, CONTINUOUS, 0));
    let with_dtx = OpusSettings { dtx: true, ..CONTINUOUS };
    let turns = [
        payloads(&conversation(&voiced, 0), Opus, with_dtx, 0),
        payloads(&conversation(&voiced, 1), Pcma, with_dtx, 0),
    ];
    println!(
        "{calls} calls over loopback for 10 s, the gateway on core {} alone, one worker",
        machine::GATEWAY_CORE
    );
    let sleep = codec::cost_of_a_sleep().unwrap_or(f64::NAN);
    println!("a thread that only sleeps for 1 ms at a time costs {sleep:.1} µs a sleep here");
    let floor_at = |loss| {
        let bare = codec::floor(&voiced, CONTINUOUS.complexity, loss, calls).per_call_second();
        (bare, codec::paced_floor(calls, loss).unwrap_or(f64::NAN))
    };
    let cases = [
        ("transcoded, continuous speech", [Opus, Pcma], continuous([Opus, Pcma]), CONTINUOUS, 0, Some(0)),
        (
            "transcoded, FEC active",
            [Opus, Pcma],
            continuous([Opus, Pcma]),
            CONTINUOUS,
            TOLD_LOSS,
            Some(TOLD_LOSS),
        ),
        ("transcoded, conversation with DTX", [Opus, Pcma], turns, with_dtx, 0, None),
        ("relayed Opus", [Opus, Opus], continuous([Opus, Opus]), CONTINUOUS, 0, None),
        ("relayed PCMA", [Pcma, Pcma], continuous([Pcma, Pcma]), CONTINUOUS, 0, None),
    ];
    for (what, codecs, said, settings, loss, floor) in cases {
        let measured = talk(calls, codecs, &said, settings, loss);
        let Some((measured, memory, complexity)) = measured else { continue };
        let floor = floor.map_or_else(String::new, |loss| {
            let (bare, paced) = floor_at(loss);
            format!(
                ", libopus {bare:.2} ({:.2} ×), woken each ms on the same core {paced:.2} ({:.2} ×)",
                measured.cpu / bare,
                measured.cpu / paced
            )
        });
        println!(
            "  {what:<34} {:.2} CPU-ms per call-second{floor}, of which {:.0} sleeps a second are {:.2}; inside p50 {:.2} / {:.2}, p99 {:.2} / {:.2} ms; \
             {memory:.1} KB a call; lost {:.2} %; others took {:.0} %{complexity}",
            measured.cpu,
            measured.sleeps,
            measured.sleeps * sleep / 1_000.0 / calls as f64,
            measured.delay(1, 0.5),
            measured.delay(0, 0.5),
            measured.delay(1, 0.99),
            measured.delay(0, 0.99),
            measured.lost(),
            measured.noise
        );
    }
    stall(&continuous([Opus, Pcma]));
}

fn talk(
    calls: usize,
    codecs: [AudioCodec; 2],
    said: &[Said; 2],
    settings: OpusSettings,
    loss: u8,
) -> Option<(Measured, f64, String)> {
    let mut gateway = Tandem::start(settings);
    // The first calls also grow what all share.
    let mut warm = Crowd::open(&mut gateway, 2, codecs)?;
    warm.talk(&gateway, &Talk::mixed(said, 1));
    gateway.close_all();
    drop(warm);
    let before = resident(gateway.pid());
    let mut crowd = Crowd::open(&mut gateway, calls, codecs)?;
    crowd.talk(&gateway, &Talk::mixed(said, 2));
    if loss > 0 {
        crowd.report_loss(loss);
    }
    let measured = crowd.talk(&gateway, &Talk::mixed_last(said, 10));
    let grown = resident(gateway.pid()).saturating_sub(before) as f64 / calls as f64 / 1024.0;
    // Where the machine is slow, the encoders are cheaper by the end than the row says.
    let most = gateway.complexity().filter(|most| *most < settings.complexity);
    let eased = most.map_or_else(String::new, |most| format!("; ENCODERS AT COMPLEXITY {most} BY THE END"));
    Some((measured, grown, eased))
}

/// Stops the gateway for 200 ms and says when its delay is back where it was.
fn stall(said: &[Said; 2]) {
    let mut gateway = Tandem::start(CONTINUOUS);
    let Some(mut crowd) = Crowd::open(&mut gateway, 1, [Opus, Pcma]) else { return };
    crowd.talk(&gateway, &Talk::mixed(said, 2));
    let pid = gateway.pid().to_string();
    let stopper = std::thread::spawn(move || {
        let signal = |name: &str| Command::new("kill").args([name, &pid]).status();
        let stopped = signal("-STOP").is_ok();
        std::thread::sleep(Duration::from_millis(200));
        signal("-CONT").is_ok() && stopped
    });
    let during = crowd.talk(
        &gateway,
        &Talk {
            said: std::slice::from_ref(said),
            time: FRAME_TIME * 20,
            stagger: 0,
            last: false,
            fate: &on_time,
        },
    );
    if !stopper.join().is_ok_and(|stopped| stopped) {
        println!("  stall of 200 ms: not measured, the gateway could not be stopped");
        return;
    }
    let most = during.delay(1, 1.0).max(during.delay(0, 1.0));
    let (mut standing, mut after) = (during.standing, 0);
    while standing != [Duration::ZERO; 2] && after < 10 {
        standing = crowd.talk(&gateway, &Talk::mixed(said, 1)).standing;
        after += 1;
    }
    println!(
        "  after a stall of 200 ms (worst packet {most:.0} ms): standing delay {:?}, after {after} s {standing:?} (reach: none \
         after 2 s)",
        during.standing
    );
}
