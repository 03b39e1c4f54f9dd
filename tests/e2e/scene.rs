//! The people and numbers of the tests, and the usual way they meet.

use crate::support::{
    gateway::{Gateway, GatewayBuilder},
    lane::Lane,
    sipp::{RunningSipp, Sipp},
};
use std::time::Duration;

/// Numbers of the app users alice and bob, of their gateway's own range.
pub const ALICE: &str = "+3225550001";
pub const BOB: &str = "+3225550002";
/// A number behind the operator, and one calling from there.
pub const MOBILE: &str = "+32470123456";
pub const STRANGER: &str = "+33140205050";

pub const BLINK: Duration = Duration::from_millis(100);
pub const SECOND: Duration = Duration::from_secs(1);

/// An operator that answers, refuses … as its scenario says.
pub fn operator(lane: &Lane, scenario: &str) -> Sipp {
    Sipp::server(lane, scenario).pause(BLINK).fill("extra", "Server: switch")
}

/// A gateway with alice and one trunk, to be completed.
pub fn builder<'a>(lane: &'a Lane, operator: &RunningSipp) -> GatewayBuilder<'a> {
    Gateway::on(lane).user("alice", ALICE).trunk("operator-a", operator.address())
}

/// A gateway with alice and one trunk.
#[track_caller]
pub fn gateway<'a>(lane: &'a Lane, operator: &RunningSipp) -> Gateway<'a> {
    builder(lane, operator).start()
}

/// alice calls the mobile number.
pub fn alice(lane: &Lane, gateway: &Gateway<'_>, scenario: &str) -> Sipp {
    Sipp::client(lane, scenario, gateway.udp()).user("alice").number(MOBILE).pause(SECOND)
}

/// Somebody calls `number` through the operator; `from` is the address of its trunk.
pub fn incoming(lane: &Lane, gateway: &Gateway<'_>, scenario: &str, from: u16, number: &str) -> Sipp {
    Sipp::client(lane, scenario, gateway.udp())
        .at_port(from)
        .number(number)
        .key("calling", STRANGER)
        .pause(SECOND)
}
