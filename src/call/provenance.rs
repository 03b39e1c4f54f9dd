//! Where a call comes from, signed: what its caller's signature is worth, and what we sign of it ourselves.

use super::event::{Event, Output};
use super::exchange::Exchange;
use super::machine::{Admitted, Plan};
use super::settings::Trunk;
use crate::access::User;
use crate::config::{IdentityHeader, StirVerify};
use crate::routing::NumberFormat;
use crate::sip::message::{HeaderName, Request, Typed};
use crate::stir::{Certificates, Claim, Examined, Lookup, ReplayGuard, Statement, Verdict, date, examine};
use crate::types::{Attestation, CallId, E164, EndCause, HostPort, Now, StirResult};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Signatures remembered so that none serves twice: a thousand calls a second for as long as each is fresh.
const REPLAYS: usize = 65_536;
/// How much later than its time-out a fetch may report.
const LATE: Duration = Duration::from_millis(250);
/// Identity fields that are passed on.
const MOST_PASSED_ON: usize = 8;

/// What all calls share: certificates that are known, and signatures that came already.
#[derive(Debug)]
pub struct Known {
    certificates: Certificates,
    seen: ReplayGuard,
}

impl Default for Known {
    fn default() -> Known {
        Known { certificates: Certificates::default(), seen: ReplayGuard::new(REPLAYS) }
    }
}

/// How far the check of a caller's signed identity has come.
#[derive(Debug, Default)]
pub enum Check {
    /// Nobody asked for one.
    #[default]
    None,
    /// It waits for a certificate.
    Waits {
        examined: Arc<Examined>,
        until: Instant,
        required: bool,
    },
    Done {
        result: StirResult,
        required: bool,
    },
}

/// What a call knows of its origin.
#[derive(Debug, Default)]
pub struct Provenance {
    pub check: Check,
    /// The calling number that had to be signed, as digits.
    checked: String,
    /// The number that is shown, and the caller's own.
    pub calling: Option<E164>,
    pub network: Option<E164>,
    /// Numbers that are known to be the caller's; `None` where the caller is not our customer.
    own: Option<Vec<E164>>,
    /// The caller's Identity fields and its Date, for a trunk that is told more than we know.
    passed_on: Vec<String>,
    date: Option<String>,
    /// The calling number and the called ones that they came with, as digits.
    came: Option<Box<(String, Vec<String>)>>,
}

/// What we sign of a call.
pub struct Signed {
    pub fields: Vec<(HeaderName, String)>,
    /// `None` where another's signature goes on.
    pub attestation: Option<Attestation>,
    /// It had to be signed and could not be: our certificate has ended.
    pub failed: bool,
}

impl Provenance {
    /// Of a user's call: a number among its own is attested in full.
    pub fn of_user(user: &User) -> Provenance {
        Provenance { own: Some(user.caller_ids.clone()), ..Provenance::default() }
    }

    /// Of a trunk's call, which may bring a signature of its own.
    pub fn of_trunk(request: &Request) -> Provenance {
        let fields = request.headers.all(&HeaderName::Identity).take(MOST_PASSED_ON);
        Provenance {
            passed_on: fields.map(str::to_owned).collect(),
            date: request.headers.get(&HeaderName::Date).map(str::to_owned),
            ..Provenance::default()
        }
    }

    /// Of a call that a user has sent on: what its caller's own signature was worth is told on, the signature is not, since
    /// it names another called number. Our customers are the one who sends it on and, where it is one, the caller.
    pub fn sent_on(&self, user: &User, network: Option<E164>) -> Provenance {
        let check = match self.check {
            Check::Done { result, .. } => Check::Done { result, required: false },
            Check::None | Check::Waits { .. } => Check::None,
        };
        let mut own = self.own.clone().unwrap_or_default();
        own.extend_from_slice(&user.caller_ids);
        Provenance {
            check,
            checked: self.checked.clone(),
            calling: self.calling.clone(),
            network,
            own: Some(own),
            ..Provenance::default()
        }
    }

    /// When a call stops waiting for a certificate.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.check {
            Check::Waits { until, .. } => Some(*until),
            Check::None | Check::Done { .. } => None,
        }
    }

    /// What waits for a certificate.
    pub fn waiting(&self) -> Option<Arc<Examined>> {
        match &self.check {
            Check::Waits { examined, .. } => Some(examined.clone()),
            Check::None | Check::Done { .. } => None,
        }
    }

    /// Why the call is refused, where its trunk insists.
    pub fn refusal(&self) -> Option<EndCause> {
        match self.check {
            Check::Done { result, required: true } => end_cause(result),
            Check::Done { required: false, .. } | Check::Waits { .. } | Check::None => None,
        }
    }

    pub fn result(&self) -> Option<StirResult> {
        match self.check {
            Check::Done { result, .. } => Some(result),
            Check::Waits { .. } | Check::None => None,
        }
    }

    /// The fields in which a call to this trunk is signed; `called` is the number as it is sent. `told` is true where
    /// the number that the caller withholds is told all the same.
    pub fn sign(
        &self,
        trunk: &Trunk,
        signer: Option<&crate::stir::Signer>,
        call: CallId,
        now: Now,
        numbers: Numbers<'_>,
    ) -> Option<Signed> {
        if !trunk.config.stir_sign {
            return None;
        }
        // ATIS-1000074 §5.2.1: the number of P-Asserted-Identity where there is one, else that of From. A number that
        // is withheld from the trunk must not stand in a signature either.
        let asserted = match trunk.config.identity {
            IdentityHeader::Asserted if trunk.config.knows_withheld() || !numbers.withheld => {
                self.network.as_ref()
            }
            IdentityHeader::Asserted
            | IdentityHeader::Off
            | IdentityHeader::Preferred
            | IdentityHeader::RemoteParty => None,
        };
        let shown = if numbers.own { &self.network } else { &self.calling };
        let orig = asserted.or(shown.as_ref().filter(|_| !numbers.withheld));
        let dest = match numbers.number {
            Some(number) => number.digits().to_owned(),
            None => digits_of(numbers.called),
        };
        let may_be_read = asserted.is_some() || !numbers.withheld;
        if may_be_read && self.came_with(orig, &dest) {
            // What somebody nearer to the caller has signed says more than we know, and goes on untouched; whoever reads it
            // reads the number in it. Of other numbers it would be no proof, and would tell those that were replaced.
            let fields = self.passed_on.iter().map(|value| (HeaderName::Identity, value.clone()));
            let date = self.date.iter().map(|date| (HeaderName::Date, date.clone()));
            return Some(Signed { fields: fields.chain(date).collect(), attestation: None, failed: false });
        }
        let orig = orig.filter(|_| !dest.is_empty())?;
        let attestation = match &self.own {
            Some(own) if own.contains(orig) => Attestation::A,
            Some(_) => Attestation::B,
            None => Attestation::C,
        };
        let iat = now.unix_ms / 1_000;
        let signed = signer.and_then(|signer| {
            signer.identity(Statement {
                orig: orig.digits(),
                dest: &dest,
                attestation,
                // The call's own id: whoever traces the call back finds its record.
                origid: &call.to_string(),
                iat,
            })
        });
        let Some(field) = signed else {
            return Some(Signed { fields: Vec::new(), attestation: None, failed: true });
        };
        let fields = vec![(HeaderName::Identity, field.to_string()), (HeaderName::Date, date::write(iat))];
        Some(Signed { fields, attestation: Some(attestation), failed: false })
    }

    /// True where the caller brought a signature, and these numbers are those that it came with.
    fn came_with(&self, orig: Option<&E164>, dest: &str) -> bool {
        let Some(came) = self.came.as_deref().filter(|_| !self.passed_on.is_empty()) else { return false };
        // A rule may write the called number in the international form of a network.
        let is_called = |came: &String| came == dest || dest.strip_prefix("00") == Some(came.as_str());
        came.0 == orig.map_or("", E164::digits) && came.1.iter().any(is_called)
    }

    /// What a device of a called user is told of the check. It speaks of the number that the device is shown, and of no
    /// other; `withheld`: it is shown none.
    pub fn told(
        &self,
        host: &HostPort,
        withheld: bool,
        attestation: Option<Attestation>,
    ) -> Vec<(HeaderName, String)> {
        let Some(result) = self.result() else { return Vec::new() };
        let shown = self.calling.as_ref().filter(|_| !withheld);
        if shown.is_some_and(|shown| shown.digits() != self.checked) {
            return Vec::new();
        }
        let mut fields = Vec::new();
        if let Some(number) = shown {
            // 3GPP TS 24.229 §7.2A.20: a parameter of the number, which is the user part here (RFC 3261 §19.1.6).
            let verstat = result.verstat().as_str();
            let asserted = format!("<sip:{number};verstat={verstat}@{host};user=phone>");
            fields.push((HeaderName::PAssertedIdentity, asserted));
        }
        if let Some(attestation) = attestation.filter(|_| result == StirResult::Passed) {
            // 3GPP TS 24.229 §7.2.18.
            fields.push((HeaderName::new("Attestation-Info"), attestation.as_str().to_owned()));
        }
        fields
    }
}

/// The numbers of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Numbers<'a> {
    pub number: Option<&'a E164>,
    /// As it is sent.
    pub called: &'a str,
    /// The calling number must not be told.
    pub withheld: bool,
    /// The caller's own number is presented, though it calls for somebody.
    pub own: bool,
}

impl Exchange {
    /// Begins the check of a trunk's call, where the trunk's calls are checked; notes what its signature came with.
    pub(super) fn check_identity(
        &mut self,
        now: Now,
        trunk: &Trunk,
        request: &Request,
        admitted: &mut Admitted,
    ) {
        let required = match trunk.config.stir_verify {
            StirVerify::Off => None,
            StirVerify::Mark => Some(false),
            // Whoever calls for help, or answers such a call, is marked at most.
            StirVerify::Require => Some(admitted.emergency.is_none()),
        };
        let unsigned = admitted.provenance.passed_on.is_empty();
        if matches!(admitted.plan, Plan::Refused { .. }) || (required.is_none() && unsigned) {
            return;
        }
        let claim = self.claim(trunk, request, admitted);
        if !unsigned {
            let called = claim.dest.iter().map(|called| digits_of(called)).collect();
            admitted.provenance.came = Some(Box::new((claim.orig.clone(), called)));
        }
        let Some(required) = required else { return };
        admitted.provenance.checked.clone_from(&claim.orig);
        let settings = self.core.settings.clone();
        let policy = &settings.stir_policy;
        let unix = now.unix_ms / 1_000;
        let examined = examine(request.headers.all(&HeaderName::Identity), &claim, policy, unix);
        let verdict = match examined {
            Ok(examined) => match self.advance(now, &trunk.name, admitted.id, &examined) {
                Some(verdict) => Err(verdict),
                None => Ok(examined),
            },
            Err(result) => Err(Verdict::from(result)),
        };
        match verdict {
            Ok(examined) => {
                // RFC 8224 §6.2: a dead server must not hold up a call that goes on anyway.
                let (long, short) = (settings.stir.fetch_timeout + LATE, settings.stir.max_delay);
                let patience = if required { long } else { short };
                let until = now.instant + patience;
                admitted.provenance.check = Check::Waits { examined: Arc::new(examined), until, required };
            }
            Err(verdict) => {
                admitted.provenance.check = Check::Done { result: verdict.result, required };
                admitted.attestation = verdict.attestation;
                self.core.event(Event::StirVerified {
                    call: admitted.id,
                    trunk: trunk.name.clone(),
                    result: verdict.result,
                });
                if let Some(cause) = admitted.provenance.refusal() {
                    admitted.plan = Plan::Refused { cause, status: None };
                }
            }
        }
    }

    /// What must have been signed: who is shown as the caller, and the number that the request asks for. To may name
    /// whom the caller meant before the call was sent on (RFC 8224 §6.2); that counts only from a trunk whose word
    /// counts, for anybody could send a signature that was heard elsewhere on to whomever it likes (RFC 8946 §3).
    fn claim(&self, trunk: &Trunk, request: &Request, admitted: &Admitted) -> Claim {
        let numbers = &self.dialplan.numbers;
        let digits = |text: &str, format: NumberFormat| {
            let read = numbers.normalise_as(text, Some(format)).ok();
            read.map(|read| read.text().trim_start_matches('+').to_owned())
        };
        let from = request.from().ok().map(|from| from.uri.subscriber());
        let orig = admitted.identity.asserted.clone().or(from);
        let to = request.to().ok().filter(|_| trunk.config.trusted).map(|to| to.uri.subscriber());
        let called = [Some(admitted.dialled.clone()), to];
        Claim {
            orig: orig.and_then(|orig| digits(&orig, trunk.config.calling_format)).unwrap_or_default(),
            dest: called
                .into_iter()
                .flatten()
                .filter_map(|to| digits(&to, trunk.config.called_format))
                .collect(),
            call_id: request.call_id().unwrap_or_default().to_owned(),
            date: request.headers.get(&HeaderName::Date).and_then(date::read),
        }
    }

    /// Takes a check as far as the certificates that are known lead; `None`: it waits for one.
    fn advance(&mut self, now: Now, trunk: &Arc<str>, call: CallId, examined: &Examined) -> Option<Verdict> {
        let mut known = Vec::new();
        let mut waits = false;
        for url in examined.urls() {
            match self.known.certificates.look_up(now.instant, url, call, trunk) {
                Lookup::Known(Ok(certificate)) => known.push(certificate),
                Lookup::Known(Err(result)) => return Some(result.into()),
                Lookup::Full => return Some(StirResult::Unreachable.into()),
                Lookup::Waits => waits = true,
                Lookup::Fetch => {
                    self.core.emit(Output::FetchCertificate { url: url.to_owned() });
                    waits = true;
                }
            }
        }
        let (policy, unix) = (&self.core.settings.stir_policy, now.unix_ms / 1_000);
        (!waits).then(|| examined.conclude(&known, policy, unix, &mut self.known.seen))
    }

    /// A certificate came, or will not come: the calls that wait for it go on.
    pub(super) fn on_certificate(
        &mut self,
        now: Now,
        url: &str,
        fetched: Result<(Vec<u8>, Option<Duration>), StirResult>,
    ) {
        let (known, max_age) = match fetched {
            Ok((pem, max_age)) => {
                let authorities = &self.core.settings.stir_material.authorities;
                (crate::stir::certificates::judge(&pem, authorities, now.unix_ms / 1_000), max_age)
            }
            Err(result) => (Err(result), None),
        };
        for id in self.known.certificates.fetched(now.instant, url, known, max_age) {
            let waiting = self
                .calls
                .get(&id)
                .and_then(|call| Some((call.caller.party.trunk_name()?, call.provenance.waiting()?)));
            let Some((trunk, examined)) = waiting else { continue };
            if let Some(verdict) = self.advance(now, &trunk, id, &examined) {
                self.with_call(id, |call, core, trunks| {
                    call.on_identity_checked(core, trunks, now, verdict);
                });
            }
        }
    }

    /// Other authorities count: what was judged by the old ones is forgotten.
    pub(super) fn forget_certificates(&mut self) {
        self.known.certificates.forget();
    }
}

fn digits_of(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// RFC 8224 §6.2.2: how a call is refused that does not pass; `None` for one that does.
fn end_cause(result: StirResult) -> Option<EndCause> {
    match result {
        StirResult::Passed => None,
        StirResult::NoIdentity => Some(EndCause::IdentityMissing),
        StirResult::BadInfo | StirResult::Unreachable => Some(EndCause::IdentityUnreachable),
        StirResult::Untrusted | StirResult::Expired | StirResult::NotCovered => {
            Some(EndCause::IdentityUntrusted)
        }
        StirResult::Malformed
        | StirResult::BadSignature
        | StirResult::OrigMismatch
        | StirResult::DestMismatch
        | StirResult::Replayed => Some(EndCause::IdentityInvalid),
        StirResult::Stale => Some(EndCause::IdentityStale),
    }
}
