//! Who calls, as SIP tells it beside From: P-Asserted-Identity, P-Preferred-Identity, Privacy, Remote-Party-ID.

use super::admission::Source;
use super::forwarding::{Forwarding, hides_history};
use super::leg::Party;
use super::settings::Trunk;
use crate::config::IdentityHeader;
use crate::routing::{Dialled, NumberFormat, NumberPlan};
use crate::sip::message::{HeaderName, NameAddr, Request, Response, Scheme, Typed, Uri};
use crate::types::{E164, HostPort};

/// Where nobody is (RFC 3323 §4.1.1.3).
pub const ANONYMOUS_HOST: &str = "anonymous.invalid";

/// Characters of a name; a phone shows no more.
const LONGEST_NAME: usize = 64;
/// So many digits and no letter are taken for a number, not a name.
const SHORTEST_NUMBER: usize = 6;

/// What a caller says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The number must not be shown to the callee (RFC 3323, RFC 3325 §7).
    pub withheld: bool,
    /// The number its network vouches for; only of callers whose word counts.
    pub asserted: Option<String>,
    /// What it calls itself: a name for people to read.
    pub name: Option<Box<str>>,
    /// A network whose word counts vouches for that name.
    name_asserted: bool,
    /// Which of its numbers a user would like to be vouched for (RFC 3325 §6).
    pub preferred: Option<String>,
    /// What else its Privacy asks for.
    wishes: Wishes,
    /// Who sent the call on before it came here; only from callers whose word counts.
    pub forwarding: Option<Box<Forwarding>>,
    /// What it hid and a call for help tells all the same.
    disclosed: Option<Hidden>,
}

/// What a caller wants to be kept from the callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hidden {
    withheld: bool,
    wishes: Wishes,
}

/// Words of Privacy beside those that hide the caller (RFC 3323 §4.2, RFC 7044 §10.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Wishes {
    none: bool,
    history: bool,
    critical: bool,
}

impl Identity {
    /// Reads what an INVITE of a user says.
    pub fn of_user(request: &Request) -> Identity {
        let preferred = first_address(request, &HeaderName::PPreferredIdentity);
        Identity { preferred: preferred.map(|address| address.uri.subscriber()), ..Identity::of(request) }
    }

    /// Reads what an INVITE of a trunk says. Its word counts where it stands inside our trust domain (RFC 3325 §2.3).
    pub fn of_trunk(request: &Request, trunk: &Trunk, numbers: &NumberPlan) -> Identity {
        let mut identity = Identity::of(request);
        identity.name = identity.name.filter(|_| trunk.config.calling_name);
        if !trunk.config.trusted {
            return identity;
        }
        let asserted = asserted_number(request).or_else(|| calling_party(request));
        let hidden = words(request).any(hides_history);
        let named = asserted.as_ref().and_then(readable).filter(|_| trunk.config.calling_name);
        Identity {
            name_asserted: named.is_some(),
            name: named.or(identity.name),
            asserted: asserted.map(|address| address.uri.subscriber()),
            forwarding: Forwarding::of(&request.headers, numbers, trunk.config.calling_format, hidden),
            ..identity
        }
    }

    /// Reads what an INVITE of this one says.
    pub fn of_source(request: &Request, source: &Source, numbers: &NumberPlan) -> Identity {
        match source {
            Source::User(_) => Identity::of_user(request),
            Source::Trunk(trunk) => Identity::of_trunk(request, trunk, numbers),
        }
    }

    fn of(request: &Request) -> Identity {
        let anonymous = request.from().is_ok_and(|from| {
            from.uri.host.host.eq_ignore_ascii_case(ANONYMOUS_HOST)
                || from.uri.user().eq_ignore_ascii_case("anonymous")
        });
        let hidden = calling_party(request).is_some_and(|party| {
            party.params.value("privacy").is_some_and(|privacy| !privacy.eq_ignore_ascii_case("off"))
        });
        let says = |wanted: &str| words(request).any(|word| word.eq_ignore_ascii_case(wanted));
        Identity {
            // The media and the headers of either side stay on its side anyway: `session` asks for nothing more.
            withheld: anonymous || hidden || ["id", "user", "header"].into_iter().any(says),
            wishes: Wishes { none: says("none"), history: says("history"), critical: says("critical") },
            name: request.from().ok().as_ref().and_then(readable),
            ..Identity::default()
        }
    }

    /// The number that a far end which we trust says it has, in a response (RFC 3325 §9.1), written in `format`.
    pub fn of_response(response: &Response, numbers: &NumberPlan, format: NumberFormat) -> Option<E164> {
        let asserted = asserted_number(response)?;
        match numbers.normalise_as(&asserted.uri.subscriber(), Some(format)).ok()? {
            Dialled::International(number) => Some(number),
            // Of another network these mean nothing, or something else.
            Dialled::Short(_) | Dialled::Service(_) => None,
        }
    }

    /// Whether only the trust domain may know who sent a response.
    pub fn is_hidden(response: &Response) -> bool {
        words(response)
            .any(|word| ["id", "user", "header"].iter().any(|hides| word.eq_ignore_ascii_case(hides)))
    }

    /// The caller's name, for a callee that may read it.
    pub fn name_for(&self, party: &Party) -> Option<&str> {
        let told = match party {
            Party::Trunk(trunk) => trunk.config.calling_name,
            Party::User { .. } => true,
        };
        self.name.as_deref().filter(|_| told)
    }

    /// Of a call that moves another one on whose caller said this: it is the same caller, and what it hid there it hides
    /// here. `said` is what it says now.
    pub fn moved_on(&self, said: Identity) -> Identity {
        // Only those who answer a call for help may know what it told.
        let hid = self.disclosed.unwrap_or(Hidden { withheld: self.withheld, wishes: self.wishes });
        let wishes = Wishes {
            none: hid.wishes.none || said.wishes.none,
            history: hid.wishes.history || said.wishes.history,
            critical: hid.wishes.critical || said.wishes.critical,
        };
        let withheld = hid.withheld || said.withheld;
        Identity { withheld, wishes, forwarding: None, disclosed: None, ..self.clone() }
    }

    /// The same of a call for help: who answers it must know who calls.
    pub fn disclosed(&self) -> Identity {
        let hid = Hidden { withheld: self.withheld, wishes: self.wishes };
        Identity { withheld: false, wishes: Wishes::default(), disclosed: Some(hid), ..self.clone() }
    }

    /// The same behind a user who sent the call on: from there on it is the user's number that is vouched for.
    pub fn sent_on(&self, forwarding: Forwarding) -> Identity {
        Identity {
            asserted: None,
            preferred: None,
            name_asserted: false,
            forwarding: Some(Box::new(forwarding)),
            ..self.clone()
        }
    }

    /// The header fields that tell a trunk who calls; `network` is the caller's own number in the trunk's form, `host`
    /// what stands behind it.
    pub fn fields(
        &self,
        trunk: &Trunk,
        network: Option<&str>,
        host: &HostPort,
        numbers: &NumberPlan,
    ) -> Vec<(HeaderName, String)> {
        let mut fields = Vec::new();
        if let Some(privacy) = self.privacy(trunk) {
            fields.push((HeaderName::Privacy, privacy));
        }
        // RFC 3325 §5: outside the trust domain a number that is withheld is not told at all.
        let told = network.filter(|_| trunk.config.knows_hidden_caller() || !self.withheld);
        if let Some(number) = told {
            let mut address = NameAddr::new(Uri::sip(Some(number), host.clone()));
            // What a caller only calls itself is for From: here a name is vouched for (RFC 3325 §5).
            let named = trunk.config.calling_name && self.name_asserted;
            address.display = self.name.as_deref().filter(|_| named).map(str::to_owned);
            let address = address.to_string();
            match trunk.config.identity {
                IdentityHeader::Off => {}
                IdentityHeader::Asserted => fields.push((HeaderName::PAssertedIdentity, address)),
                IdentityHeader::Preferred => fields.push((HeaderName::PPreferredIdentity, address)),
                IdentityHeader::RemoteParty => {
                    let privacy = if self.withheld { "full" } else { "off" };
                    let value = format!("{address};party=calling;screen=yes;privacy={privacy}");
                    fields.push((HeaderName::RemotePartyId, value));
                }
            }
        }
        if let Some(forwarding) = self.forwarding.as_ref().filter(|_| trunk.config.diversion) {
            fields.extend(forwarding.fields(trunk, host, numbers));
        }
        fields
    }

    /// What is left to ask the next hop for. What was done here is not asked for again (RFC 3323 §5): From, Contact, Via
    /// and the media are ours. The number that is asserted can be hidden at the far end alone, and so can a history that
    /// the trunk may know.
    fn privacy(&self, trunk: &Trunk) -> Option<String> {
        let history = self.wishes.history && trunk.config.diversion && trunk.config.knows_withheld();
        let mut words = Vec::new();
        words.extend(self.withheld.then_some("id"));
        words.extend(history.then_some("history"));
        if words.is_empty() {
            words.extend(self.wishes.none.then_some("none"));
        } else {
            words.extend(self.wishes.critical.then_some("critical"));
        }
        (!words.is_empty()).then(|| words.join(";"))
    }
}

/// The words of Privacy.
fn words(message: &impl Typed) -> impl Iterator<Item = &str> {
    message.headers().list(&HeaderName::Privacy).flat_map(|value| value.split(';')).map(str::trim)
}

/// The identity that a network vouches for. A `tel:` beside a `sip:` is usual (RFC 3325 §9.1): a number tells more than a
/// name.
fn asserted_number(message: &impl Typed) -> Option<NameAddr> {
    let all = message.addresses(&HeaderName::PAssertedIdentity).ok()?;
    let is_number = |address: &&NameAddr| {
        let number = address.uri.subscriber();
        let digits = number.strip_prefix('+').unwrap_or(&number);
        address.uri.scheme == Scheme::Tel
            || (!digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit()))
    };
    let mut chosen = all.iter().find(is_number).or(all.first())?.clone();
    // The name may stand beside the other one.
    chosen.display = chosen.display.or_else(|| all.into_iter().find_map(|address| address.display));
    Some(chosen)
}

/// The name of an address, as a phone may show it; `None` where it only repeats the number, or would be read as another.
fn readable(address: &NameAddr) -> Option<Box<str>> {
    let name = address.display.as_deref()?.trim();
    let digits = name.chars().filter(|c| c.is_numeric()).count();
    let is_number = digits >= SHORTEST_NUMBER && !name.chars().any(char::is_alphabetic);
    let fits = !name.is_empty()
        && name.chars().count() <= LONGEST_NAME
        && !is_number
        && !name.chars().any(char::is_control)
        && name != address.uri.user()
        && !name.eq_ignore_ascii_case("anonymous");
    fits.then(|| name.into())
}

fn first_address(request: &Request, name: &HeaderName) -> Option<NameAddr> {
    request.addresses(name).ok()?.into_iter().next()
}

/// The Remote-Party-ID that is about the caller: there may be others, about the callee or the one who forwarded.
fn calling_party(request: &Request) -> Option<NameAddr> {
    let parties = request.addresses(&HeaderName::RemotePartyId).ok()?;
    parties
        .into_iter()
        .find(|party| party.params.value("party").is_none_or(|which| which.eq_ignore_ascii_case("calling")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::settings::Settings;
    use crate::config::{Config, TrunkConfig};
    use crate::sip::message::{Message, parse};

    fn invite(more: &str) -> Request {
        let text = format!(
            "INVITE sip:+32470123456@gw SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bKx\r\nMax-Forwards: 9\r\n\
             From: <sip:+33123456789@a>;tag=1\r\nTo: <sip:b@gw>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{more}\r\n"
        );
        match parse(text.as_bytes()) {
            Ok(Message::Request(request)) => request,
            other => panic!("{other:?}"),
        }
    }

    fn trunk(shape: impl FnOnce(&mut TrunkConfig)) -> Trunk {
        let mut trunk = TrunkConfig::new("a", Vec::new());
        shape(&mut trunk);
        Settings::trunk(&Config::default(), &trunk)
    }

    fn read(request: &Request, trusted: bool) -> Identity {
        let plan = NumberPlan { country_code: "32".into(), ..NumberPlan::default() };
        Identity::of_trunk(request, &trunk(|trunk| trunk.trusted = trusted), &plan)
    }

    #[test]
    fn the_asserted_number_counts_only_from_those_we_trust() {
        let request = invite("P-Asserted-Identity: \"A\" <sip:+3225550001@a>, <tel:+3225550001>\r\n");
        assert_eq!(read(&request, true).asserted.as_deref(), Some("+3225550001"));
        assert_eq!(read(&request, false).asserted, None);
        let tel = invite("P-Asserted-Identity: <tel:+3225550002>\r\n");
        assert_eq!(read(&tel, true).asserted.as_deref(), Some("+3225550002"));
        let party = invite("Remote-Party-ID: <sip:+3225550003@a>;party=calling;privacy=full\r\n");
        let identity = read(&party, true);
        assert!(identity.withheld && identity.asserted.as_deref() == Some("+3225550003"));
    }

    #[test]
    fn of_several_remote_parties_the_calling_one_counts() {
        let called = "Remote-Party-ID: <sip:+3225550009@a>;party=called;privacy=full\r\n";
        let identity = read(&invite(called), true);
        assert!(!identity.withheld && identity.asserted.is_none());
        let both = format!("{called}Remote-Party-ID: <sip:+3225550003@a>;party=calling;privacy=off\r\n");
        let identity = read(&invite(&both), true);
        assert!(!identity.withheld && identity.asserted.as_deref() == Some("+3225550003"));
    }

    #[test]
    fn a_caller_withholds_its_number_in_each_of_the_ways_there_are() {
        for hides in ["Privacy: id\r\n", "Privacy: header;user\r\n", "Privacy: critical; id\r\n"] {
            assert!(read(&invite(hides), false).withheld, "{hides}");
        }
        for shows in [
            "",
            "Privacy: none\r\n",
            "Privacy: session\r\n",
            "Privacy: history; critical\r\n",
            "Remote-Party-ID: <sip:1@a>;privacy=off\r\n",
        ] {
            assert!(!read(&invite(shows), true).withheld, "{shows}");
        }
        let text = invite("").to_bytes();
        let anonymous =
            String::from_utf8_lossy(&text).replace("+33123456789@a", "anonymous@anonymous.invalid");
        let Ok(Message::Request(request)) = parse(anonymous.as_bytes()) else { panic!("{anonymous}") };
        assert!(read(&request, false).withheld);
    }

    #[test]
    fn the_next_hop_is_asked_for_what_was_not_done_here() {
        for (asked, knows, left) in [
            ("none", false, Some("none")),
            ("id;critical", false, Some("id;critical")),
            ("user;header;session", true, Some("id")),
            ("session;critical", true, None),
            ("history", true, Some("history")),
            ("history;critical", false, None),
            ("id;history", true, Some("id;history")),
        ] {
            let next = trunk(|trunk| (trunk.diversion, trunk.tell_withheld) = (true, Some(knows)));
            let identity = read(&invite(&format!("Privacy: {asked}\r\n")), true);
            assert_eq!(identity.privacy(&next).as_deref(), left, "{asked}");
        }
    }
}
