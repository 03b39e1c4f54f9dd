//! A dialog: what two user agents agreed on for the requests between them (RFC 3261 §12).

use super::message::{CSeq, HeaderError, HeaderName, Method, NameAddr, Request, Response, Typed, Uri};

/// What names a dialog at our end (RFC 3261 §12): the same Call-ID and tags, seen from here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DialogId {
    pub call_id: String,
    pub local_tag: String,
    /// Empty for a peer of RFC 2543 that sends no tag.
    pub remote_tag: String,
}

impl DialogId {
    /// The dialog a far end's request belongs to. `None` outside dialogs: To has no tag.
    pub fn of_request(request: &Request) -> Option<DialogId> {
        Some(DialogId {
            call_id: request.call_id().ok()?.to_owned(),
            local_tag: request.to_tag()?.to_owned(),
            remote_tag: request.from_tag().unwrap_or_default().to_owned(),
        })
    }

    /// The dialog a response to a request of ours belongs to or makes.
    pub fn of_response(response: &Response) -> Option<DialogId> {
        Some(DialogId {
            call_id: response.call_id().ok()?.to_owned(),
            local_tag: response.from_tag()?.to_owned(),
            remote_tag: response.to_tag().unwrap_or_default().to_owned(),
        })
    }
}

/// Why a message makes no dialog.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialogError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Nobody could be reached inside the dialog. Answered 400.
    #[error("no Contact to reach the far end by")]
    NoContact,
    /// RFC 3261 §12.1.1 lets a Contact be `sip:` or `sips:` only.
    #[error("the Contact is no SIP address")]
    ContactScheme,
}

/// A request is not newer than those before it. Answered 500 (RFC 3261 §12.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("CSeq {received} after {highest}")]
pub struct CSeqError {
    pub received: u32,
    pub highest: u32,
}

/// The state of one dialog, early or confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    pub call_id: String,
    pub local_tag: String,
    pub remote_tag: String,
    /// Our address, with our tag, as it is written: From of our requests. Text, since it is kept as long as the call and
    /// never asked for its parts.
    pub local: Box<str>,
    /// The far end's address, with its tag, as it is written: To of our requests.
    pub remote: Box<str>,
    /// The far end's Contact: the Request-URI of our requests.
    pub remote_target: Uri,
    /// Proxies that want to see the dialog's requests, nearest first, as they wrote themselves.
    pub route_set: Vec<String>,
    /// Of our last request.
    pub local_cseq: u32,
    /// Of the far end's last request; `None` before the first.
    pub remote_cseq: Option<u32>,
}

impl Dialog {
    /// The dialog made by answering a far end's request, with the tag our responses have (RFC 3261 §12.1.1).
    pub fn uas(request: &Request, local_tag: &str) -> Result<Dialog, DialogError> {
        let remote = request.from()?;
        // Who speaks RFC 2543 puts no branch into Via, need not say a Contact, and is reached at its From (§6.13).
        let legacy = request.branch().is_none() && remote.uri.is_sip();
        let named = contact(request)?.or_else(|| legacy.then(|| remote.uri.clone()));
        Ok(Dialog {
            call_id: request.call_id()?.to_owned(),
            local_tag: local_tag.to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
            local: request.to()?.with_tag(local_tag).to_string().into(),
            remote: remote.to_string().into(),
            remote_target: named.ok_or(DialogError::NoContact)?,
            route_set: request.headers.list(&HeaderName::RecordRoute).map(str::to_owned).collect(),
            local_cseq: 0,
            remote_cseq: Some(request.cseq()?.number),
        })
    }

    /// The dialog made by a response, provisional or 2xx, to a request of ours (RFC 3261 §12.1.2). `request`
    /// is as it was given to the transaction layer. A response without Contact leaves the Request-URI as
    /// target: some far ends leave it out of their 18x.
    pub fn uac(request: &Request, response: &Response) -> Result<Dialog, DialogError> {
        let target = contact(response)?.unwrap_or_else(|| request.uri.clone());
        Dialog::uac_at(target, request, response)
    }

    /// The same for a response that names no usable place: good for nothing but to acknowledge it and to hang up, at the
    /// Request-URI.
    pub fn uac_at_request_uri(request: &Request, response: &Response) -> Result<Dialog, DialogError> {
        Dialog::uac_at(request.uri.clone(), request, response)
    }

    /// True for a response that names its far end, and a place to ask it, as far as it names one.
    pub fn can_follow(response: &Response) -> bool {
        response.to().is_ok() && contact(response).is_ok()
    }

    fn uac_at(remote_target: Uri, request: &Request, response: &Response) -> Result<Dialog, DialogError> {
        let (local, remote) = (request.from()?, response.to()?);
        Ok(Dialog {
            call_id: request.call_id()?.to_owned(),
            local_tag: local.tag().unwrap_or_default().to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
            local: local.to_string().into(),
            remote: remote.to_string().into(),
            remote_target,
            route_set: route_set_of(response),
            local_cseq: request.cseq()?.number,
            remote_cseq: None,
        })
    }

    /// The dialog of an answer to a request of ours that is no longer known: a 2xx to an INVITE that came when its
    /// call was over. All that is needed to acknowledge and to end it stands in the answer; where that names no usable
    /// place, the one that was called has to do.
    pub fn of_answer(answer: &Response) -> Result<Dialog, DialogError> {
        let (local, remote) = (answer.from()?, answer.to()?);
        let called = Some(&remote.uri).filter(|called| called.is_sip());
        let named = contact(answer).ok().flatten().or_else(|| called.cloned());
        Ok(Dialog {
            call_id: answer.call_id()?.to_owned(),
            local_tag: local.tag().unwrap_or_default().to_owned(),
            remote_tag: remote.tag().unwrap_or_default().to_owned(),
            local: local.to_string().into(),
            remote: remote.to_string().into(),
            remote_target: named.ok_or(DialogError::NoContact)?,
            route_set: route_set_of(answer),
            local_cseq: answer.cseq()?.number,
            remote_cseq: None,
        })
    }

    /// Turns an early dialog of ours into a confirmed one: a 2xx decides route set and target anew
    /// (RFC 3261 §13.2.2.4). One that names no usable place leaves the target as it was.
    pub fn confirm(&mut self, response: &Response) -> Result<(), DialogError> {
        self.route_set = route_set_of(response);
        if let Some(target) = contact(response)? {
            self.remote_target = target;
        }
        Ok(())
    }

    pub fn id(&self) -> DialogId {
        DialogId {
            call_id: self.call_id.clone(),
            local_tag: self.local_tag.clone(),
            remote_tag: self.remote_tag.clone(),
        }
    }

    /// Takes a far end's request in its order (RFC 3261 §12.2.2). Retransmissions never get here, so the same
    /// number again is as wrong as a lower one. An ACK has its INVITE's number and is not checked.
    pub fn check_cseq(&mut self, request: &Request) -> Result<(), CSeqError> {
        if request.method == Method::Ack {
            return Ok(());
        }
        let received = request.cseq().map_or(0, |cseq| cseq.number);
        match self.remote_cseq {
            Some(highest) if received <= highest => Err(CSeqError { received, highest }),
            Some(_) | None => {
                self.remote_cseq = Some(received);
                Ok(())
            }
        }
    }

    /// Takes the Contact of a target refresh, re-INVITE or UPDATE, or of the 2xx to one (RFC 3261 §12.2).
    /// Without a Contact, or with one that can't be read, the old target stays.
    pub fn refresh_target(&mut self, message: &impl Typed) {
        if let Ok(Some(target)) = contact(message) {
            self.remote_target = target;
        }
    }

    /// The next request of ours in this dialog, without Via (RFC 3261 §12.2.1.1). `own_contact` is for
    /// requests that refresh the target.
    pub fn request(&mut self, method: Method, own_contact: Option<&Uri>) -> Request {
        self.local_cseq += 1;
        let mut request = self.build(method, self.local_cseq);
        if let Some(uri) = own_contact {
            request.headers.push(HeaderName::Contact, NameAddr::new(uri.clone()).to_string());
        }
        request
    }

    /// The ACK of a 2xx, with the number of its INVITE (RFC 3261 §13.2.2.4).
    pub fn ack(&self, invite_cseq: u32) -> Request {
        self.build(Method::Ack, invite_cseq)
    }

    /// Where our requests go first: the nearest proxy of the route set, else the far end itself.
    pub fn next_hop(&self) -> Uri {
        self.first_route().unwrap_or_else(|| self.remote_target.clone())
    }

    fn first_route(&self) -> Option<Uri> {
        self.route_set.first().and_then(|route| NameAddr::parse(route).ok()).map(|route| route.uri)
    }

    fn build(&self, method: Method, cseq: u32) -> Request {
        let mut routes: Vec<String> = self.route_set.clone();
        let uri = match self.first_route() {
            // A strict router of RFC 2543 wants itself in the Request-URI, and the target behind all others.
            Some(mut first) if !first.params.has("lr") => {
                routes.remove(0);
                routes.push(format!("<{}>", self.remote_target));
                first.headers = None;
                first.params.remove("method");
                first
            }
            Some(_) | None => self.remote_target.clone(),
        };
        let cseq = CSeq { number: cseq, method: method.clone() };
        let mut request = Request::new(method, uri);
        for route in routes {
            request.headers.push(HeaderName::Route, route);
        }
        request.headers.push(HeaderName::MaxForwards, "70");
        request.headers.push(HeaderName::From, &*self.local);
        request.headers.push(HeaderName::To, &*self.remote);
        request.headers.push(HeaderName::CallId, self.call_id.as_str());
        request.headers.push(HeaderName::CSeq, cseq.to_string());
        request
    }
}

/// A UAC's routes stand in the response farthest first.
fn route_set_of(response: &Response) -> Vec<String> {
    let mut routes: Vec<String> =
        response.headers.list(&HeaderName::RecordRoute).map(str::to_owned).collect();
    routes.reverse();
    routes
}

fn contact(message: &impl Typed) -> Result<Option<Uri>, DialogError> {
    match message.contact()? {
        Some(contact) if contact.uri.is_sip() => Ok(Some(contact.uri)),
        Some(_) => Err(DialogError::ContactScheme),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{Message, parse};
    use super::*;

    fn message(text: &str) -> Message {
        parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    fn invite(extra: &str) -> Request {
        let text = format!(
            "INVITE sip:callee@u2.domain.com SIP/2.0\nVia: SIP/2.0/UDP u1.example.com;branch=z9hG4bK1\n\
             From: \"Caller\" <sip:caller@u1.example.com>;tag=c1\nTo: <sip:callee@domain.com>\n\
             Call-ID: call-1\nCSeq: 17 INVITE\nMax-Forwards: 70\n{extra}Content-Length: 0\n\n"
        );
        match message(&text) {
            Message::Request(request) => request,
            Message::Response(_) => unreachable!(),
        }
    }

    const CONTACT: &str = "Contact: <sip:caller@u1.example.com>\n";

    fn answer(request: &Request, status: u16, tag: &str, fields: &[(HeaderName, &str)]) -> Response {
        let mut response = Response::to_request(request, status).with_tag(tag);
        for (name, value) in fields {
            response.headers.push(name.clone(), *value);
        }
        response
    }

    fn routes(request: &Request) -> Vec<&str> {
        request.headers.all(&HeaderName::Route).collect()
    }

    /// The call of RFC 3261 §16.12.1.1: two loose-routing proxies that record-route.
    #[test]
    fn requests_follow_loose_routers_as_in_rfc_3261_16_12_1_1() {
        let recorded = "Record-Route: <sip:p2.domain.com;lr>, <sip:p1.example.com;lr>\n";
        let received = invite(&format!("{CONTACT}{recorded}"));
        let mut callee = Dialog::uas(&received, "t2").unwrap();
        let bye = callee.request(Method::Bye, None);
        assert_eq!(bye.uri.to_string(), "sip:caller@u1.example.com");
        assert_eq!(routes(&bye), ["<sip:p2.domain.com;lr>", "<sip:p1.example.com;lr>"]);
        assert_eq!(callee.next_hop().to_string(), "sip:p2.domain.com;lr");
        assert_eq!(bye.headers.get(&HeaderName::From), Some("<sip:callee@domain.com>;tag=t2"));
        assert_eq!(bye.headers.get(&HeaderName::To), Some("\"Caller\" <sip:caller@u1.example.com>;tag=c1"));
        assert_eq!(bye.headers.get(&HeaderName::CSeq), Some("1 BYE"));

        let ok = answer(&received, 200, "t2", &[(HeaderName::Contact, "<sip:callee@u2.domain.com>")]);
        let mut caller = Dialog::uac(&received, &ok).unwrap();
        let bye = caller.request(Method::Bye, None);
        assert_eq!(bye.uri.to_string(), "sip:callee@u2.domain.com");
        assert_eq!(routes(&bye), ["<sip:p1.example.com;lr>", "<sip:p2.domain.com;lr>"]);
        assert_eq!((bye.cseq().unwrap().number, bye.max_forwards()), (18, Some(70)));
        assert_eq!(bye.from_tag().zip(bye.to_tag()), Some(("c1", "t2")));
    }

    /// The strict router of RFC 3261 §16.12.1.2.
    #[test]
    fn a_strict_router_gets_itself_in_the_request_uri() {
        let recorded = "Record-Route: <sip:p3.middle.com>, <sip:p1.example.com;lr>\n";
        let mut dialog = Dialog::uas(&invite(&format!("{CONTACT}{recorded}")), "t2").unwrap();
        let bye = dialog.request(Method::Bye, None);
        assert_eq!(bye.uri.to_string(), "sip:p3.middle.com");
        assert_eq!(routes(&bye), ["<sip:p1.example.com;lr>", "<sip:caller@u1.example.com>"]);
    }

    #[test]
    fn both_ends_name_the_dialog_alike() {
        let request = invite(CONTACT);
        let ok = answer(&request, 200, "t2", &[(HeaderName::Contact, "<sip:callee@u2.domain.com>")]);
        let callee = Dialog::uas(&request, "t2").unwrap();
        let mut caller = Dialog::uac(&request, &ok).unwrap();
        assert_eq!(DialogId::of_response(&ok), Some(caller.id()));
        assert_eq!(DialogId::of_request(&request), None, "no To tag, no dialog");
        assert_eq!(DialogId::of_request(&caller.request(Method::Bye, None)), Some(callee.id()));
    }

    #[test]
    fn the_ack_has_the_number_of_its_invite_even_after_other_requests() {
        let request = invite(CONTACT);
        let ok = answer(&request, 200, "t2", &[(HeaderName::Contact, "<sip:callee@u2.domain.com>")]);
        let mut caller = Dialog::uac(&request, &ok).unwrap();
        caller.request(Method::Info, None);
        let ack = caller.ack(17);
        assert_eq!(ack.headers.get(&HeaderName::CSeq), Some("17 ACK"));
        assert_eq!(ack.uri.to_string(), "sip:callee@u2.domain.com");
        assert_eq!(caller.request(Method::Bye, None).cseq().unwrap().number, 19);
    }

    #[test]
    fn each_fork_is_a_dialog_and_its_2xx_decides_the_route_anew() {
        let request = invite(CONTACT);
        let ringing = answer(&request, 180, "f1", &[(HeaderName::RecordRoute, "<sip:early.example;lr>")]);
        let mut first = Dialog::uac(&request, &ringing).unwrap();
        let second = Dialog::uac(&request, &answer(&request, 183, "f2", &[])).unwrap();
        assert_ne!(first.id(), second.id());
        assert_eq!(first.remote_target, request.uri, "no Contact in the 180");

        let contact = (HeaderName::Contact, "<sip:callee@192.0.2.4:5070>");
        let ok = answer(&request, 200, "f1", &[contact]);
        let id = first.id();
        first.confirm(&ok).unwrap();
        assert_eq!(first.id(), id);
        assert_eq!(first.remote_target.to_string(), "sip:callee@192.0.2.4:5070");
        assert_eq!((first.route_set.len(), first.local_cseq), (0, 17));
    }

    #[test]
    fn a_far_ends_requests_come_in_order() {
        let request = invite(CONTACT);
        let mut dialog = Dialog::uas(&request, "t2").unwrap();
        let with = |method: Method, number: u32| {
            let mut request = request.clone();
            request.headers.set(HeaderName::CSeq, format!("{number} {method}"));
            request.method = method;
            request
        };
        assert_eq!(dialog.check_cseq(&with(Method::Ack, 17)), Ok(()));
        assert_eq!(dialog.check_cseq(&with(Method::Bye, 17)), Err(CSeqError { received: 17, highest: 17 }));
        assert_eq!(dialog.check_cseq(&with(Method::Info, 30)), Ok(()), "gaps are allowed");
        assert_eq!(dialog.check_cseq(&with(Method::Bye, 29)), Err(CSeqError { received: 29, highest: 30 }));
        assert_eq!(dialog.check_cseq(&with(Method::Bye, 31)), Ok(()));
    }

    #[test]
    fn a_target_refresh_moves_the_target_and_a_broken_one_does_not() {
        let request = invite(CONTACT);
        let mut dialog = Dialog::uas(&request, "t2").unwrap();
        dialog.refresh_target(&invite("Contact: <sip:caller@192.0.2.77:5062;transport=tcp>\n"));
        assert_eq!(dialog.remote_target.to_string(), "sip:caller@192.0.2.77:5062;transport=tcp");
        dialog.refresh_target(&invite(""));
        dialog.refresh_target(&invite("Contact: <tel:+32>\n"));
        assert_eq!(dialog.remote_target.to_string(), "sip:caller@192.0.2.77:5062;transport=tcp");
    }

    #[test]
    fn our_contact_goes_with_requests_that_refresh_the_target() {
        let mut dialog = Dialog::uas(&invite(CONTACT), "t2").unwrap();
        let own = Uri::parse("sip:gw@198.51.100.1:5060").unwrap();
        let reinvite = dialog.request(Method::Invite, Some(&own));
        assert_eq!(reinvite.headers.get(&HeaderName::Contact), Some("<sip:gw@198.51.100.1:5060>"));
    }

    #[test]
    fn an_invite_without_usable_contact_makes_no_dialog() {
        assert_eq!(Dialog::uas(&invite(""), "t").unwrap_err(), DialogError::NoContact);
        assert_eq!(
            Dialog::uas(&invite("Contact: <tel:+3225550001>\n"), "t").unwrap_err(),
            DialogError::ContactScheme
        );
    }

    #[test]
    fn a_peer_without_tag_still_makes_a_dialog() {
        let text = "INVITE sip:callee@u2.domain.com SIP/2.0\nVia: SIP/2.0/UDP u1.example.com\n\
                    From: <sip:caller@u1.example.com>\nTo: <sip:callee@domain.com>\nCall-ID: call-1\n\
                    CSeq: 1 INVITE\nContact: <sip:caller@u1.example.com>\n\n";
        let Message::Request(request) = message(text) else { unreachable!() };
        let mut dialog = Dialog::uas(&request, "t2").unwrap();
        assert_eq!(dialog.id().remote_tag, "");
        assert_eq!(dialog.request(Method::Bye, None).to_tag(), None);
    }
}
