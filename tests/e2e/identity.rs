//! Who calls, as real peers hear it: asserted identities, withheld numbers, numbers that a trunk may not call with.

use crate::scene::{ALICE, MOBILE, STRANGER, alice, incoming, operator};
use crate::support::{gateway::Gateway, lane::Lane, sipp::Sipp};
use toml::Value as Toml;

const OWN: &str = "+33140200000";

fn digits(number: &str) -> &str {
    number.trim_start_matches('+')
}

#[test]
fn the_callers_number_is_asserted_and_withheld_from_whom_it_is_none_of_their_business() {
    let lane = Lane::take("identity-out");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("identity", "pai");
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    alice(&lane, &gateway, "user-calls").fill("more", "Privacy: id").start().succeed();
    let switch = switch.succeed();
    let invites = switch.requests("INVITE");
    assert!(invites[0].header("P-Asserted-Identity").is_some_and(|value| value.contains(ALICE)));
    assert_eq!(invites[0].header("Privacy"), None);
    assert_eq!(invites[1].header("Privacy"), Some("id"));
    assert_eq!(invites[1].header("P-Asserted-Identity"), None);
    let hidden = invites[1].header("Call-ID").expect("a Call-ID");
    let of_it = switch.messages.iter().filter(|message| !message.sent && message.text.contains(hidden));
    for message in of_it {
        assert!(!message.text.contains(digits(ALICE)), "{}", message.text);
    }
    assert!(gateway.wait_cdrs(2).iter().all(|cdr| cdr["caller_number"] == ALICE), "the records know");
}

#[test]
fn a_trusted_trunk_says_who_calls_and_a_withheld_number_does_not_reach_the_phone() {
    let lane = Lane::take("identity-in");
    let device = lane.port();
    let from = lane.port();
    let gateway = Gateway::on(&lane).user("alice", ALICE);
    let gateway = gateway
        .trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
            trunk.set("trusted", true);
        })
        .start();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    incoming(&lane, &gateway, "operator-calls", from, ALICE)
        .fill("more", &format!("P-Asserted-Identity: <sip:{OWN}@a>\nPrivacy: id"))
        .start()
        .succeed();
    let phone = phone.succeed();
    let invite = phone.request("INVITE");
    assert!(invite.header("From").is_some_and(|from| from.contains("anonymous.invalid")));
    for number in [OWN, STRANGER] {
        assert!(!invite.text.contains(digits(number)), "{}", invite.text);
    }
}

#[test]
fn a_number_that_is_not_the_trunks_is_replaced_or_refused() {
    for (policy, refused) in [("replace", false), ("reject", true)] {
        let lane = Lane::take(&format!("identity-{policy}"));
        let device = lane.port();
        let from = lane.port();
        let gateway = Gateway::on(&lane).user("alice", ALICE);
        let gateway = gateway
            .trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
                trunk
                    .set("calling_ranges", vec![Toml::from("+331402")])
                    .set("calling_default", OWN)
                    .set("calling_screening", policy);
            })
            .start();
        Sipp::register(&lane, gateway.udp(), "alice", device);
        let call = |scenario: &str| incoming(&lane, &gateway, scenario, from, ALICE).key("calling", MOBILE);
        if refused {
            call("operator-is-refused").code(403, "").start().succeed();
            assert_eq!(gateway.wait_cdr()["end_cause"], "blocked");
        } else {
            let phone = operator(&lane, "user-answers").at_port(device).start();
            call("operator-calls").start().succeed();
            let phone = phone.succeed();
            assert!(phone.request("INVITE").header("From").is_some_and(|from| from.contains(OWN)));
        }
    }
}

#[test]
fn who_sent_a_call_on_reaches_the_next_trunk_where_it_wants_to_know() {
    for wanted in [true, false] {
        let lane = Lane::take(&format!("identity-diversion-{wanted}"));
        let from = lane.port();
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane)
            .dialplan("country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n")
            .trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
                trunk.set("trusted", true);
            })
            .trunk_with("operator-b", switch.address(), |trunk| {
                trunk.set("diversion", wanted);
            })
            .start();
        incoming(&lane, &gateway, "operator-calls", from, MOBILE)
            .fill("more", &format!("Diversion: <sip:{OWN}@a>;reason=user-busy"))
            .start()
            .succeed();
        let switch = switch.succeed();
        let said = switch.request("INVITE").header("Diversion").map(str::to_owned);
        assert_eq!(said.is_some_and(|said| said.contains(OWN)), wanted);
    }
}

#[test]
fn of_the_networks_a_call_came_through_the_next_operator_learns_nothing_but_numbers() {
    for (what, told, hidden) in [
        ("a", "Diversion: <sip:{}@10.0.0.5>;reason=user-busy;counter=1", false),
        ("b", "Diversion: <sip:{}@10.0.0.5>;reason=user-busy;privacy=full", true),
        ("c", "History-Info: <sip:{}@10.0.0.5;cause=486?Reason=SIP%3Bcause%3D486>;index=1.1;rc=1", false),
        ("d", "History-Info: <sip:{}@10.0.0.5?Privacy=history>;index=1", true),
        ("e", "History-Info: <sip:{}@10.0.0.5>;index=1\n      Privacy: history", true),
    ] {
        let lane = Lane::take(&format!("identity-hiding-{what}"));
        let from = lane.port();
        let switch = operator(&lane, "operator-answers").start();
        let gateway = Gateway::on(&lane)
            .dialplan("country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n")
            .trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
                trunk.set("trusted", true);
            })
            .trunk_with("operator-b", switch.address(), |trunk| {
                trunk.set("diversion", true).set("calling_format", "e164").set("domain", "gw.example");
            })
            .start();
        let told = told.replace("{}", OWN);
        incoming(&lane, &gateway, "operator-calls", from, MOBILE).fill("more", &told).start().succeed();
        let switch = switch.succeed();
        let invite = switch.request("INVITE");
        assert!(!invite.text.contains("10.0.0.5"), "{}", invite.text);
        assert_eq!(invite.text.contains(digits(OWN)), !hidden, "{}", invite.text);
        let name = told.split(':').next().expect("a name");
        let entry = invite.header(name).expect("the entry");
        let party = if hidden {
            "anonymous@anonymous.invalid".to_owned()
        } else {
            format!("{}@gw.example", digits(OWN))
        };
        assert!(entry.contains(&party), "{entry}");
    }
}

#[test]
fn an_operator_of_the_old_school_says_and_hears_who_calls_in_remote_party_id() {
    let lane = Lane::take("identity-rpid");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let from = switch.address().port();
    let gateway =
        Gateway::on(&lane).user("alice", ALICE).trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("identity", "rpid").set("trusted", true);
        });
    let gateway = gateway.start();
    alice(&lane, &gateway, "user-calls").start().succeed();
    alice(&lane, &gateway, "user-calls").fill("more", "Privacy: id").start().succeed();
    let switch = switch.succeed();
    let said: Vec<_> = switch
        .requests("INVITE")
        .iter()
        .map(|invite| invite.header("Remote-Party-ID").unwrap_or_default())
        .collect();
    for (said, privacy) in said.iter().zip(["off", "full"]) {
        let fits = said.starts_with(&format!("<sip:{ALICE}@"))
            && said.ends_with(&format!(";party=calling;screen=yes;privacy={privacy}"));
        assert!(fits, "{said}");
    }
    let device = lane.port();
    Sipp::register(&lane, gateway.udp(), "alice", device);
    let phone = operator(&lane, "user-answers").at_port(device).start();
    let told = format!(
        "Remote-Party-ID: <sip:{MOBILE}@a>;party=called;privacy=full\n      \
         Remote-Party-ID: <sip:{OWN}@a>;party=calling;privacy=off"
    );
    incoming(&lane, &gateway, "operator-calls", from, ALICE)
        .key("calling", "switch")
        .fill("more", &told)
        .start()
        .succeed();
    let phone = phone.succeed();
    assert!(phone.request("INVITE").header("From").is_some_and(|from| from.contains(OWN)));
    assert_eq!(gateway.wait_cdrs(3)[2]["caller_number"], OWN);
}

#[test]
fn a_phone_chooses_which_of_its_users_numbers_is_asserted_and_no_other_one() {
    const SECOND_NUMBER: &str = "+3225559999";
    let lane = Lane::take("identity-preferred");
    let switch = operator(&lane, "operator-answers").calls(2).start();
    let gateway = Gateway::on(&lane)
        .user_with("alice", ALICE, |user| {
            user.set("caller_ids", vec![Toml::from(ALICE), Toml::from(SECOND_NUMBER)]);
        })
        .trunk_with("operator-a", switch.address(), |trunk| {
            trunk.set("identity", "pai");
        });
    let gateway = gateway.start();
    for preferred in [SECOND_NUMBER, MOBILE] {
        let preferred = format!("P-Preferred-Identity: <sip:{preferred}@tandem.test>");
        alice(&lane, &gateway, "user-calls").fill("more", &preferred).start().succeed();
    }
    let switch = switch.succeed();
    for (invite, number) in switch.requests("INVITE").iter().zip([SECOND_NUMBER, ALICE]) {
        assert!(
            invite.header("P-Asserted-Identity").is_some_and(|told| told.contains(number)),
            "{}",
            invite.text
        );
    }
}

/// operator-a calls a number that operator-b has.
const TRANSIT: &str = "country_code = \"32\"\n[[rule]]\nname = \"transit\"\nfrom = \"trunk:operator-a\"\nmatch = \"+32\"\ntrunks = [\"operator-b\"]\n";

#[test]
fn names_the_number_that_answers_and_what_a_call_is_billed_under_pass_between_operators_that_agreed() {
    for agreed in [true, false] {
        let lane = Lane::take(&format!("identity-nni-{agreed}"));
        let from = lane.port();
        let switch = operator(&lane, "operator-answers");
        let switch = switch.fill("more", &format!("P-Asserted-Identity: <tel:{OWN}>")).start();
        let gateway = Gateway::on(&lane)
            .dialplan(TRANSIT)
            .trunk_with("operator-a", ([127, 0, 0, 1], from).into(), |trunk| {
                trunk.set("trusted", true).set("calling_name", agreed).set("connected_number", agreed);
                trunk.set("charging_vector", agreed);
            })
            .trunk_with("operator-b", switch.address(), |trunk| {
                trunk.set("trusted", true).set("calling_name", agreed).set("connected_number", agreed);
                trunk.set("charging_vector", agreed).set("identity", "pai");
            })
            .start();
        let said = format!(
            "P-Asserted-Identity: \"Front Desk\" <sip:desk@a>, <tel:{STRANGER}>\n\
             P-Charging-Vector: icid-value=\"call-1.a\";orig-ioi=a.example"
        );
        let caller = incoming(&lane, &gateway, "operator-calls", from, MOBILE).fill("more", &said);
        let caller = caller.start().succeed();
        let switch = switch.succeed();
        let invite = switch.request("INVITE");
        let header = |name| invite.header(name).unwrap_or_default();
        assert_eq!(header("From").contains("Front Desk"), agreed, "{}", header("From"));
        assert!(header("P-Asserted-Identity").contains(STRANGER), "the number of the two");
        assert_eq!(header("P-Charging-Vector").contains("icid-value=\"call-1.a\""), agreed);
        let answer = caller.response(200);
        assert_eq!(answer.header("P-Asserted-Identity").is_some_and(|told| told.contains(OWN)), agreed);
        let vector = answer.header("P-Charging-Vector").unwrap_or_default();
        assert_eq!(vector.contains("call-1.a") && vector.contains("term-ioi="), agreed, "{vector}");
    }
}
