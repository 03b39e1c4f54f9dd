//! One of each thing the API shows.

use crate::admin::control::*;
use crate::billing::{Cdr, CdrLeg, CdrState, NotRated, Rated};
use crate::telemetry::trace::{Flow, Kept, KeptLeg, KeptMessage, Octets};
use crate::types::{
    AudioCodec, CallId, Direction, EndCause, LegReport, NetworkId, Peer, QualitySample, Transport,
};

pub(super) fn call(n: u8) -> CallView {
    CallView {
        id: CallId::from_parts(1_772_366_400_250, [n; 10]),
        direction: Direction::AppToTrunk,
        state: CallState::Answered,
        caller_user: Some(if n == 1 { "alice" } else { "bob" }.to_owned()),
        caller_number: Some("+3225550001".to_owned()),
        dialled: "0470123456".to_owned(),
        number: Some("+32470123456".to_owned()),
        callee_user: None,
        ingress_trunk: None,
        egress_trunk: Some("operator-a".to_owned()),
        started_at: 1_772_366_400_250,
        answered_at: Some(1_772_366_403_000),
        duration_ms: 61_000,
        caller_codec: Some(AudioCodec::Opus),
        callee_codec: Some(AudioCodec::Pcma),
        caller_thread: Some("media-0".to_owned()),
        callee_thread: None,
        caller_leg: Some(LegReport { packets_received: 3050, mos_lq: Some(4.37), ..LegReport::default() }),
        callee_leg: None,
        caller_series: Some(vec![QualitySample { mos_lq: Some(4.37), ..QualitySample::default() }]),
        callee_series: None,
    }
}

pub(super) fn trunk() -> TrunkView {
    TrunkView {
        name: "operator-a".to_owned(),
        carrier: "Operator A".to_owned(),
        transport: Transport::Udp,
        health: TrunkHealth::Up,
        blocked: false,
        blocked_until: None,
        draining: false,
        reason: None,
        active_calls: 2,
        max_channels: 100,
        max_cps: 20,
        max_cps_in: 10,
        registration: Some(TrunkRegistration::Registered { expires_at: 1_772_366_400_250 }),
        options_rtt_ms: Some(3.5),
        targets: vec![TargetView {
            proxy: "192.0.2.7:5060".to_owned(),
            address: Some("192.0.2.7:5060".parse().unwrap()),
            transport: Transport::Udp,
            health: TrunkHealth::Up,
        }],
    }
}

pub(super) fn kept(id: CallId) -> Kept {
    let peer = Peer {
        network: NetworkId(0),
        transport: Transport::Udp,
        remote: "192.0.2.7:5060".parse().unwrap(),
        local: "192.0.2.9:5060".parse().unwrap(),
        connection: None,
        tls_name: None,
    };
    let octets = Octets::Whole("INVITE sip:+32470123456@gw SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\n".into());
    Kept {
        call: id,
        legs: vec![KeptLeg {
            index: 0,
            party: "user alice".into(),
            call_id: "x".into(),
            report: Some(LegReport::default()),
        }],
        messages: vec![(0, KeptMessage::new(1_772_366_400_250_000, Flow::Received, &peer, octets))],
        left_out: 0,
        end: Some((EndCause::NormalClearing, Some(1_000))),
    }
}

pub(super) fn user() -> UserView {
    UserView {
        name: "alice".to_owned(),
        source: UserSource::File,
        caller_ids: vec!["+3225550001".to_owned()],
        dids: vec!["+3225550001".to_owned()],
        account: None,
        registrations: Some(1),
    }
}

/// The record of an answered call of one minute.
pub(super) fn cdr(n: u8) -> Cdr {
    let started_at = 1_772_366_400_250 + i64::from(n) * 60_000;
    let mut cdr = Cdr::new(CallId::from_parts(1_772_366_400_250, [n; 10]), Direction::AppToTrunk, started_at);
    cdr.node = "gw1".to_owned();
    cdr.boot = 1;
    cdr.seq = u64::from(n);
    cdr.revision = u64::from(n);
    cdr.state = CdrState::Final;
    cdr.caller.user = Some("alice".to_owned());
    cdr.caller.number = "+3225550001".parse().ok();
    cdr.called.dialled = "=0470123456".to_owned();
    cdr.called.number = "+32470123456".parse().ok();
    cdr.egress_trunk = Some("operator-a".to_owned());
    cdr.answered_at = Some(started_at + 2_000);
    cdr.released_at = Some(started_at + 62_000);
    cdr.duration_ms = 60_000;
    cdr.end_cause = Some(EndCause::NormalClearing);
    cdr.caller_codec = Some(AudioCodec::Opus);
    cdr.legs = vec![CdrLeg { index: 1, target: "+32470123456".to_owned(), started_at, ..CdrLeg::default() }];
    cdr.sell = Some(Rated::NotRated(NotRated::NoRate));
    cdr
}

pub(super) fn registration() -> RegistrationView {
    RegistrationView {
        user: "alice".to_owned(),
        contact: "sip:alice@198.51.100.9:5062".to_owned(),
        transport: Transport::Tls,
        remote: "198.51.100.9:41234".parse().unwrap(),
        user_agent: Some("phone/1".to_owned()),
        expires_at: 1_772_366_400_250,
    }
}

pub(super) fn route(query: &RouteQuery) -> RouteView {
    RouteView {
        from: query.from.clone(),
        dialled: query.to.clone(),
        number: Some("+32470123456".to_owned()),
        calling: None,
        emergency: false,
        matched: vec!["Belgium".to_owned()],
        outcome: RouteOutcomeView::Trunks {
            trunks: vec![RouteTrunkView {
                name: "operator-a".to_owned(),
                called: "+32470123456".to_owned(),
                calling: Some("+3225550001".to_owned()),
                cost: Some("0.004 EUR".to_owned()),
                reason: None,
                usable: true,
                called_format: "+e164".to_owned(),
                calling_format: "+e164".to_owned(),
                codecs: vec!["PCMA".to_owned()],
                headers: vec![HeaderView { name: "X-Customer".to_owned(), value: "alice".to_owned() }],
                failover: vec![FailoverView { failure: "503".to_owned(), action: "next".to_owned() }],
            }],
        },
        rate: Some(RateView { prefix: "+32".to_owned(), per_minute: "0.0125 EUR".to_owned() }),
        max_duration_seconds: 14_400,
    }
}
