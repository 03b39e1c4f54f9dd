//! More calls than media has room for: what gives way, and who is told.

use crate::scene::alice;
use crate::support::{
    gateway::{BINARY, Gateway, PASSWORD},
    lane::Lane,
    process::Process,
    wait,
};
use std::process::Command;
use std::time::Duration;

/// Encoders become cheaper in four steps of half a second each.
const STEPS: Duration = Duration::from_secs(10);

#[test]
fn at_its_load_limit_the_gateway_encodes_more_cheaply_and_then_refuses_calls_while_others_go_on() {
    let lane = Lane::take("load-limit");
    let trunk = lane.address();
    let gateway = Gateway::on(&lane)
        .user_with("alice", "+3225550001", |user| {
            user.set("max_calls", 10);
        })
        .trunk("operator", trunk)
        // Four calls are more than a hundredth of a core.
        .set("media.workers", 1)
        .set("media.load_limit", 1)
        .start();
    let (server, operator) = (gateway.udp().to_string(), trunk.to_string());
    let mut command = Command::new(BINARY);
    command.args(["load", "--server", &server, "--operator", &operator, "--user", "alice"]);
    command.args(["--password", PASSWORD, "--calls", "4", "--rate", "20", "--seconds", "6", "--json"]);
    let mut load = Process::start("load", command);
    wait::until("encoders to be as cheap as they get", STEPS, || {
        let metrics = gateway.metrics();
        let value = |name| metrics.value(name, &[]);
        (value("tandem_media_complexity") == 0.0 && value("tandem_media_load_ratio") > 0.011).then_some(())
    });
    let refused = alice(&lane, &gateway, "user-is-refused").code(503, "").start().succeed();
    let refusal = refused.response(503);
    assert_eq!(refusal.header("Retry-After"), Some("5"));
    assert!(refusal.header("Reason").is_some_and(|reason| reason.contains("cause=42")));
    assert!(gateway.metric("tandem_media_refused_calls_total", &[]) == 1.0);
    assert!(load.wait_exit(wait::START).success(), "a running call suffered: {}", load.log().tail(40));
    gateway.wait_idle();
    // Nobody speaks any more: after a while the first step is taken back.
    gateway.wait_metric_within(2 * STEPS, "tandem_media_complexity", &[], 1.0);
    assert!(gateway.metric("tandem_media_load_ratio", &[]) < 0.01);
}
