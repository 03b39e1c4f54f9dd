//! Hold in each of its forms, by either side of a call, whoever made it (RFC 3264 §8.4, RFC 2543 §B.5).

use crate::support::sipp::{Over, Sipp};
use crate::transports::{Flow, authority, flow, from_trunk, from_user};

/// How somebody holds, and what becomes of it at the other side.
#[derive(Clone, Copy)]
struct Form {
    /// What the one who holds says: a direction, and the address beside it where that is not its own.
    says: &'static str,
    at: Option<&'static str>,
    /// What the other side is told, and answers.
    told: &'static str,
    agrees: &'static str,
    /// What the one who holds gets for it.
    held: &'static str,
}

const FORMS: [Form; 5] = [
    Form { says: "a=sendonly", at: None, told: "a=sendonly", agrees: "a=recvonly", held: "a=recvonly" },
    Form { says: "a=recvonly", at: None, told: "a=recvonly", agrees: "a=sendonly", held: "a=sendonly" },
    Form { says: "a=inactive", at: None, told: "a=inactive", agrees: "a=inactive", held: "a=inactive" },
    Form {
        says: "a=sendrecv",
        at: Some("c=IN IP4 0.0.0.0"),
        told: "a=sendonly|a=inactive",
        agrees: "a=recvonly",
        held: "a=",
    },
    // RFC 6157 has calls of both families: an address of the other one may be as empty.
    Form {
        says: "a=sendrecv",
        at: Some("c=IN IP6 ::"),
        told: "a=sendonly|a=inactive",
        agrees: "a=recvonly",
        held: "a=",
    },
];

impl Form {
    fn by(self) -> impl Fn(Sipp) -> Sipp + Sync + 'static {
        move |sipp| {
            let sipp = sipp.fill("hold", self.says).fill("held", self.held);
            match self.at {
                Some(at) => sipp.fill("hold_at", at),
                None => sipp,
            }
        }
    }

    fn of(self) -> impl Fn(Sipp) -> Sipp + Sync + 'static {
        move |sipp| sipp.fill("told", self.told).fill("agrees", self.agrees)
    }
}

fn caller_holds(caller: &'static str, callee: &'static str) -> impl Iterator<Item = Flow> {
    FORMS.into_iter().map(move |form| flow(caller, callee).with_caller(form.by()).with_callee(form.of()))
}

fn callee_holds(caller: &'static str, callee: &'static str) -> impl Iterator<Item = Flow> {
    FORMS.into_iter().map(move |form| flow(caller, callee).with_caller(form.of()).with_callee(form.by()))
}

#[test]
fn either_side_of_a_users_call_holds_in_each_form() {
    let flows = caller_holds("user-holds-and-resumes", "operator-is-held-and-taken-back");
    let flows = flows.chain(callee_holds("user-is-held-and-hung-up-on", "operator-holds-and-resumes"));
    from_user("hold", &flows.collect::<Vec<_>>(), Over::Udp, &authority());
}

#[test]
fn either_side_of_a_trunks_call_holds_in_each_form() {
    let flows = caller_holds("operator-calls-and-holds", "user-is-called-and-held");
    let flows = flows.chain(callee_holds("operator-calls-and-is-held", "user-is-called-and-holds"));
    from_trunk("hold", &flows.collect::<Vec<_>>(), Over::Udp, &authority());
}
