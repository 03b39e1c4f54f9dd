//! What stands behind a number: contexts, ported numbers and trunk groups, as real peers write and read them.

use crate::scene::{ALICE, BLINK, MOBILE, alice, incoming, operator};
use crate::support::{gateway::Gateway, lane::Lane, sipp::Sipp};

/// Ported numbers of operator-a go to operator-b; all others are refused.
const TRANSIT: &str = "country_code = \"32\"\n\
    [[rule]]\nname = \"ported\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\nmatch_rn = \"+3299\"\n\
    trunks = [\"operator-b\"]\n\
    [[rule]]\nname = \"others\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\nreject = 403\n";

#[test]
fn a_ported_number_goes_by_its_routing_number_and_the_next_trunk_hears_of_it_where_it_wants_to() {
    for wanted in [true, false] {
        let lane = Lane::take(&format!("numbers-ported-{wanted}"));
        let from = lane.port();
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane)
            .dialplan(TRANSIT)
            .trunk("operator-a", ([127, 0, 0, 1], from).into())
            .trunk_with("operator-b", switch.address(), |trunk| {
                if wanted {
                    trunk.set("portability", "pass");
                }
            })
            .start();
        let call = |scenario: &str, params: &str| {
            incoming(&lane, &gateway, scenario, from, &format!("{MOBILE}{params}"))
        };
        call("operator-is-refused", "").code(403, "").start().succeed();
        call("operator-is-refused", ";npdi;rn=+3288").code(403, "").start().succeed();
        call("operator-calls", ";rn=99-1234;rn-context=+32;npdi;x=1").pause(BLINK).start().succeed();
        let switch = switch.succeed();
        let invite = switch.request("INVITE");
        let told = if wanted { ";npdi;rn=99-1234;rn-context=+32" } else { "" };
        assert!(
            invite.start_line().starts_with(&format!("INVITE sip:{MOBILE}{told}@")),
            "{}",
            invite.start_line()
        );
        assert!(
            invite.header("To").is_some_and(|to| to.starts_with(&format!("<sip:{MOBILE}@"))),
            "{}",
            invite.text
        );
        let cdr = gateway.wait_cdrs(3).pop().expect("three records");
        assert_eq!((&cdr["called_number"], &cdr["dialled"]), (&MOBILE.into(), &MOBILE.into()));
    }
}

#[test]
fn a_trunk_group_tells_two_trunks_of_one_switch_apart() {
    let lane = Lane::take("numbers-groups");
    let (device, from) = (lane.port(), lane.port());
    let switch = ([127, 0, 0, 1], from).into();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk("plain", switch)
        .trunk_with("premium", switch, |trunk| {
            trunk.set("match_trunk_group", "TG-1");
        })
        .start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    for params in [";tgrp=TG-1;trunk-context=a.example", ";tgrp=TG-2;trunk-context=a.example", ""] {
        let phone = operator(&lane, "user-answers").at_port(device).start();
        let number = format!("{ALICE}{params}");
        incoming(&lane, &gateway, "operator-calls", from, &number).pause(BLINK).start().succeed();
        phone.succeed();
    }
    let trunks: Vec<_> = gateway.wait_cdrs(3).iter().map(|cdr| cdr["ingress_trunk"].clone()).collect();
    assert_eq!(trunks, ["premium", "plain", "plain"]);
}

#[test]
fn our_calls_name_the_trunk_group_and_a_local_number_is_read_in_its_context() {
    let lane = Lane::take("numbers-context");
    let switch = operator(&lane, "operator-answers").start();
    let gateway = Gateway::on(&lane)
        .user("alice", ALICE)
        .trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("trunk_group", "TG-9").set("trunk_context", "gw.example");
        })
        .start();
    let local = "470-123-456;phone-context=+32;rn=+3299";
    alice(&lane, &gateway, "user-calls").number(local).pause(BLINK).start().succeed();
    let switch = switch.succeed();
    let invite = switch.request("INVITE");
    let group = ";tgrp=TG-9;trunk-context=gw.example@";
    assert!(
        invite.start_line().starts_with(&format!("INVITE sip:{MOBILE}{group}")),
        "{}",
        invite.start_line()
    );
    let contact = invite.header("Contact").expect("a Contact");
    assert!(contact.starts_with(&format!("<sip:{ALICE}{group}")), "{contact}");
}
