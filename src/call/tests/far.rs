//! Far ends: one side of a dialog as a phone or an operator keeps it, and the messages it writes.

use super::world::{OFFER, World};
use crate::sip::auth::{ClientAuth, Credentials};
use crate::sip::message::{HeaderName, Message, Method, NameAddr, RAck, Request, Response, Typed, Uri};
use crate::types::Secret;
use std::net::SocketAddr;

/// One far end's side of one dialog.
pub struct Side {
    pub at: SocketAddr,
    pub call_id: String,
    pub own: NameAddr,
    pub other: NameAddr,
    /// Where its requests are addressed to: the gateway's Contact once it is known.
    pub target: Uri,
    pub cseq: u32,
    /// The INVITE that made the dialog, as it was sent or came last.
    pub invite: Request,
    pub auth: Option<ClientAuth>,
    via: &'static str,
    requests: u32,
}

pub fn uri(text: &str) -> Uri {
    Uri::parse(text).unwrap()
}

const REAL_PHONE: &str = "Yard phone Y-31/4.2.1-rc5 (hardware 7; build 20260114.1837; locale nl_BE; line 1 of 6) with \
    firmware of its maker, who likes to say so at length, as makers of phones do, and boot loader 3.0.11";

impl Side {
    /// A caller before its INVITE.
    pub fn caller(at: SocketAddr, user: &str, to: &str, call_id: String, via: &'static str) -> Side {
        let own = NameAddr::new(uri(&format!("sip:{user}@example.org"))).with_tag(&format!("t-{call_id}"));
        Side {
            at,
            own,
            other: NameAddr::new(uri(to)),
            target: uri(to),
            cseq: 0,
            invite: Request::new(Method::Invite, uri(to)),
            auth: None,
            call_id,
            via,
            requests: 0,
        }
    }

    /// The side of whoever got this INVITE.
    pub fn called(at: SocketAddr, invite: Request, tag: &str, via: &'static str) -> Side {
        Side {
            at,
            call_id: invite.call_id().unwrap().to_owned(),
            own: invite.to().unwrap().with_tag(tag),
            other: invite.from().unwrap(),
            target: invite.contact().unwrap().expect("an INVITE has a Contact").uri,
            cseq: 100,
            invite,
            auth: None,
            via,
            requests: 0,
        }
    }

    pub fn with_password(mut self, user: &str, password: &str) -> Side {
        let credentials = Credentials { user: user.to_owned(), password: Secret::new(password) };
        self.auth = Some(ClientAuth::new(credentials));
        self
    }

    /// The next request of this side, in a transaction of its own.
    pub fn request(&mut self, method: Method) -> Request {
        self.cseq += 1;
        let cseq = self.cseq;
        self.numbered(method, cseq)
    }

    fn numbered(&mut self, method: Method, cseq: u32) -> Request {
        self.requests += 1;
        let branch =
            format!("z9hG4bK-{}-{}-{}", self.own.tag().unwrap_or_default(), self.call_id, self.requests);
        let text = format!("{cseq} {method}");
        let mut request = Request::new(method.clone(), self.target.clone());
        if method == Method::Register {
            // As long as a phone's is: a short one gets no more back than a forger deserves.
            request.headers.push(HeaderName::UserAgent, REAL_PHONE);
        }
        request
            .with_header(HeaderName::Via, format!("SIP/2.0/{} {};branch={branch};rport", self.via, self.at))
            .with_header(HeaderName::MaxForwards, "70")
            .with_header(HeaderName::From, self.own.to_string())
            .with_header(HeaderName::To, self.other.to_string())
            .with_header(HeaderName::CallId, self.call_id.clone())
            .with_header(HeaderName::CSeq, text)
            .with_header(HeaderName::Contact, self.contact())
    }

    pub fn contact(&self) -> String {
        match self.via {
            "UDP" => format!("<sip:{}>", self.at),
            _ => format!("<sip:{};transport=tcp>", self.at),
        }
    }

    /// An INVITE or re-INVITE with this description; an empty one leaves the offer to the gateway.
    pub fn invite(&mut self, sdp: &str) -> Request {
        let request = self.request(Method::Invite);
        let request =
            if sdp.is_empty() { request } else { request.with_body("application/sdp", sdp.to_owned()) };
        self.invite = request.clone();
        request
    }

    /// The same request again with credentials, as a challenge asks.
    pub fn with_credentials(&mut self, request: &Request, challenge: &Response) -> Request {
        let auth = self.auth.as_mut().expect("credentials");
        // A person types its password as often as it is asked.
        auth.succeeded();
        auth.challenged(challenge).unwrap();
        let mut again = request.clone();
        self.cseq += 1;
        let fresh = {
            let cseq = self.cseq;
            self.numbered(request.method.clone(), cseq)
        };
        again.headers.set(HeaderName::Via, fresh.headers.get(&HeaderName::Via).unwrap());
        again.headers.set(HeaderName::CSeq, fresh.headers.get(&HeaderName::CSeq).unwrap());
        self.auth.as_mut().unwrap().authorize(&mut again, "cnonce");
        if request.method == Method::Invite {
            self.invite = again.clone();
        }
        again
    }

    /// The ACK of a failure goes the INVITE's way (RFC 3261 §17.1.1.3).
    pub fn ack_failure(&self, answer: &Response) -> Request {
        let mut ack = self.hop_by_hop(Method::Ack);
        ack.headers.set(HeaderName::To, answer.headers.get(&HeaderName::To).unwrap());
        ack
    }

    /// Takes back the last INVITE.
    pub fn cancel(&self) -> Request {
        self.hop_by_hop(Method::Cancel)
    }

    fn hop_by_hop(&self, method: Method) -> Request {
        let mut request = Request::new(method.clone(), self.invite.uri.clone());
        for name in
            [HeaderName::Via, HeaderName::MaxForwards, HeaderName::From, HeaderName::To, HeaderName::CallId]
        {
            request.headers.push(name.clone(), self.invite.headers.get(&name).unwrap());
        }
        let cseq = self.invite.cseq().unwrap().number;
        request.with_header(HeaderName::CSeq, format!("{cseq} {method}"))
    }

    /// Takes up tag and Contact of an answer to this side's INVITE.
    pub fn learn(&mut self, answer: &Response) {
        self.other = answer.to().unwrap();
        if let Some(contact) = answer.contact().unwrap() {
            self.target = contact.uri;
        }
    }

    /// The ACK of a 2xx to this side's last INVITE.
    pub fn ack(&mut self, answer: &Response) -> Request {
        self.learn(answer);
        let cseq = answer.cseq().unwrap().number;
        self.numbered(Method::Ack, cseq)
    }

    /// The PRACK of a reliable response of this number to this side's INVITE (RFC 3262 §7.2); with a description unless
    /// that is empty.
    pub fn prack(&mut self, rseq: u32, sdp: &str) -> Request {
        let cseq = self.invite.cseq().unwrap().number;
        let rack = RAck { rseq, cseq, method: Method::Invite };
        let prack = self.request(Method::Prack).with_header(HeaderName::RAck, rack.to_string());
        if sdp.is_empty() { prack } else { prack.with_body("application/sdp", sdp.to_owned()) }
    }

    /// An answer to a request that came to this side.
    pub fn response(&self, request: &Request, status: u16) -> Response {
        let response = Response::to_request(request, status);
        let response = if status == 100 { response } else { response.with_tag(self.own.tag().unwrap()) };
        response.with_header(HeaderName::Contact, self.contact())
    }
}

/// `INVITE`, `180`, `200 BYE`: the short name of a message.
pub fn name(message: &Message) -> String {
    match message {
        Message::Request(request) => request.method.to_string(),
        Message::Response(response) => match response.cseq().unwrap().method {
            Method::Invite => response.status.to_string(),
            method => format!("{} {method}", response.status),
        },
    }
}

/// Requests and answers as the tests' far ends send them.
impl World {
    /// A registered user's phone calls; the challenge is met on the way.
    pub fn dial(&mut self, user: &str, number: &str) -> Side {
        self.dial_with(user, number, OFFER, |_| {})
    }

    /// The same with another description (empty: none) and a change to the INVITE.
    pub fn dial_with(&mut self, user: &str, number: &str, sdp: &str, shape: impl Fn(&mut Request)) -> Side {
        let at = self.phone_of(user);
        self.inbox(at).clear();
        let mut side = self.side(at, user, &format!("sip:{number}@example.org"));
        side = side.with_password(user, &format!("{user}-secret"));
        let mut invite = side.invite(sdp);
        shape(&mut invite);
        self.send(at, &invite);
        let challenge = self.response(at, 401);
        let ack = side.ack_failure(&challenge);
        self.send(at, &ack);
        let again = side.with_credentials(&invite, &challenge);
        self.send(at, &again);
        side
    }

    /// A trunk calls one of our numbers.
    pub fn call_in(&mut self, at: &str, number: &str) -> Side {
        self.call_in_with(at, number, OFFER, |_| {})
    }

    pub fn call_in_with(&mut self, at: &str, number: &str, sdp: &str, shape: impl Fn(&mut Request)) -> Side {
        let at = at.parse().unwrap();
        let mut side = self.side(at, "+33123456789", &format!("sip:{number}@192.0.2.1"));
        let mut invite = side.invite(sdp);
        shape(&mut invite);
        side.invite = invite.clone();
        self.send(at, &invite);
        side
    }

    /// A caller's side with a Call-ID of its own.
    pub fn side(&mut self, at: SocketAddr, user: &str, to: &str) -> Side {
        let call_id = format!("c{}", self.number());
        Side::caller(at, user, to, call_id, self.via_of(at))
    }

    /// The INVITE that has just come to a far end.
    pub fn invited(&mut self, at: &str) -> Side {
        let at: SocketAddr = at.parse().unwrap();
        let invite = self.request(at, Method::Invite);
        let tag = format!("f{}", self.number());
        Side::called(at, invite, &tag, self.via_of(at))
    }

    /// Answers the INVITE of a side without a body.
    pub fn reply(&mut self, side: &Side, status: u16) {
        let response = side.response(&side.invite, status);
        self.send(side.at, response);
    }

    /// Answers the INVITE of a side with a description.
    pub fn reply_with(&mut self, side: &Side, status: u16, sdp: &str) {
        let response = side.response(&side.invite, status).with_body("application/sdp", sdp.to_owned());
        self.send(side.at, response);
    }

    /// Answers the INVITE of a side with fields and, where it is not empty, a description.
    pub fn reply_saying(&mut self, side: &Side, status: u16, sdp: &str, fields: &[(HeaderName, &str)]) {
        let mut response = side.response(&side.invite, status);
        fields.iter().for_each(|(name, value)| response.headers.push(name.clone(), *value));
        let response =
            if sdp.is_empty() { response } else { response.with_body("application/sdp", sdp.to_owned()) };
        self.send(side.at, response);
    }

    /// Answers the last request of this method that came to a side.
    pub fn ok(&mut self, side: &Side, method: Method) {
        let request = self.last_request(side.at, &method);
        let response = side.response(&request, 200);
        self.send(side.at, response);
    }

    /// Acknowledges the 2xx that a caller's side has just got.
    pub fn ack(&mut self, side: &mut Side) -> Response {
        let answer = self.response(side.at, 200);
        let ack = side.ack(&answer);
        self.send(side.at, &ack);
        answer
    }

    /// Acknowledges the failure that a caller's side has just got.
    pub fn refused(&mut self, side: &Side, status: u16) -> Response {
        let answer = self.response(side.at, status);
        let ack = side.ack_failure(&answer);
        self.send(side.at, &ack);
        answer
    }

    pub fn bye(&mut self, side: &mut Side) {
        let bye = side.request(Method::Bye);
        self.send(side.at, &bye);
    }

    pub fn cancel(&mut self, side: &Side) {
        let cancel = side.cancel();
        self.send(side.at, &cancel);
    }

    /// A device registers; its 200.
    pub fn register(&mut self, user: &str, at: &str) -> Response {
        let mut side = self.registering(user, at);
        self.register_as(&mut side, user, 3_600)
    }

    /// A device before its first REGISTER.
    pub fn registering(&mut self, user: &str, at: &str) -> Side {
        let at: SocketAddr = at.parse().unwrap();
        let mut side = self.side(at, user, "sip:example.org");
        side.other = NameAddr::new(uri(&format!("sip:{user}@example.org")));
        side.with_password(user, &format!("{user}-secret"))
    }

    /// REGISTERs for so many seconds, meets the challenge, and gives the final answer.
    pub fn register_as(&mut self, side: &mut Side, user: &str, seconds: u32) -> Response {
        let mut register = side.request(Method::Register);
        register.headers.set(HeaderName::Contact, format!("<sip:{user}@{}>", side.at));
        register.headers.set(HeaderName::Expires, seconds.to_string());
        self.inbox(side.at).clear();
        self.send(side.at, &register);
        let challenge = self.any_response(side.at);
        assert_eq!(challenge.status, 401);
        let again = side.with_credentials(&register, &challenge);
        self.send(side.at, &again);
        self.any_response(side.at)
    }
}
