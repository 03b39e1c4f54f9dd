//! Where the caller of an emergency call is, and how a trunk is told: Geolocation and a PIDF-LO document (RFC 6442,
//! RFC 4119, RFC 5139, RFC 5491). It goes into no log, no trace and no record.

use crate::sip::message::{HeaderName, Request, Typed};
use crate::types::{Place, UnixMillis, WallClock};
use bytes::Bytes;
use std::fmt::{self, Write};

/// A document of a device; one with more says more than where it is.
const LARGEST_DOCUMENT: usize = 16 * 1024;
/// Locations by reference that are passed on.
const MOST_REFERENCES: usize = 4;

/// Where a caller is.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    /// A PIDF-LO document: the device's own, or made of the user's address.
    document: Option<Bytes>,
    /// Geolocation values that name where the location can be had.
    references: Vec<String>,
    /// Whether it may be used to find the right answering point (RFC 6442 §4.2).
    routing: bool,
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Location(…)")
    }
}

impl Location {
    /// What the caller's own INVITE says of where it is.
    pub fn of(request: &Request) -> Option<Location> {
        let document = request.location().filter(|document| document.len() <= LARGEST_DOCUMENT);
        let outside = |value: &&str| {
            let uri = value.trim_start_matches('<').trim_start();
            value.starts_with('<') && !uri.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("cid:"))
        };
        let references: Vec<String> = request
            .headers
            .list(&HeaderName::Geolocation)
            .filter(outside)
            .take(MOST_REFERENCES)
            .map(str::to_owned)
            .collect();
        let routing = request.headers.get(&HeaderName::GeolocationRouting);
        let routing = !routing.is_some_and(|value| value.eq_ignore_ascii_case("no"));
        let known = document.is_some() || !references.is_empty();
        known.then_some(Location { document, references, routing })
    }

    /// A document made of the address that is written down for a user; `entity` is who is there.
    pub fn of_place(place: &Place, entity: &str, now: UnixMillis) -> Option<Location> {
        if place.is_empty() {
            return None;
        }
        let document = Some(Bytes::from(pidf_lo(place, entity, now)));
        Some(Location { document, references: Vec::new(), routing: true })
    }

    /// The header fields that tell a trunk; `id` names the document's part.
    pub fn fields(&self, id: &str) -> Vec<(HeaderName, String)> {
        let own = self.document.as_ref().map(|_| format!("<cid:{id}>"));
        let values: Vec<String> = own.into_iter().chain(self.references.iter().cloned()).collect();
        let routing = if self.routing { "yes" } else { "no" };
        vec![
            (HeaderName::Geolocation, values.join(", ")),
            (HeaderName::GeolocationRouting, routing.to_owned()),
        ]
    }

    /// The body that carries the offer and the document, and its Content-Type (RFC 5621 §3); `None` where there is no
    /// document. Nobody must be able to guess `id`, which also divides the parts.
    pub fn body(&self, offer: &str, id: &str) -> Option<(String, Bytes)> {
        let document = self.document.as_ref()?;
        let boundary: String = id.chars().take_while(char::is_ascii_alphanumeric).collect();
        let head = format!(
            "--{boundary}\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n--{boundary}\r\n\
             Content-Type: application/pidf+xml\r\nContent-ID: <{id}>\r\n\r\n"
        );
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = [head.as_bytes(), document, tail.as_bytes()].concat();
        Some((format!("multipart/mixed;boundary={boundary}"), Bytes::from(body)))
    }
}

/// A presence document with nothing but a location. Of two forms of one place each has a tuple of its own
/// (RFC 5491 §3.2).
fn pidf_lo(place: &Place, entity: &str, now: UnixMillis) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n");
    let _ = write!(
        text,
        "<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" xmlns:gp=\"urn:ietf:params:xml:ns:pidf:geopriv10\" \
         xmlns:gbp=\"urn:ietf:params:xml:ns:pidf:geopriv10:basicPolicy\" \
         xmlns:cl=\"urn:ietf:params:xml:ns:pidf:geopriv10:civicAddr\" xmlns:gml=\"http://www.opengis.net/gml\" \
         entity=\"{}\">\r\n",
        Escaped(entity)
    );
    let mut civic = String::new();
    for (name, value) in place.civic() {
        let _ = write!(civic, "<cl:{name}>{}</cl:{name}>", Escaped(value));
    }
    if !civic.is_empty() {
        tuple(&mut text, "civic", &format!("<cl:civicAddress>{civic}</cl:civicAddress>"), now);
    }
    if let Some(point) = place.point() {
        // RFC 5491 §5.2.1: WGS 84, latitude first.
        let point = format!(
            "<gml:Point srsName=\"urn:ogc:def:crs:EPSG::4326\"><gml:pos>{} {}</gml:pos></gml:Point>",
            Escaped(&point.latitude),
            Escaped(&point.longitude)
        );
        tuple(&mut text, "point", &point, now);
    }
    text.push_str("</presence>\r\n");
    text
}

fn tuple(text: &mut String, id: &str, location: &str, now: UnixMillis) {
    let _ = write!(
        text,
        "<tuple id=\"{id}\"><status><gp:geopriv><gp:location-info>{location}</gp:location-info><gp:usage-rules>\
         <gbp:retransmission-allowed>yes</gbp:retransmission-allowed></gp:usage-rules><gp:method>Manual</gp:method>\
         </gp:geopriv></status><timestamp>{}</timestamp></tuple>\r\n",
        timestamp(now)
    );
}

/// RFC 3339, in UTC and whole seconds.
fn timestamp(now: UnixMillis) -> String {
    let WallClock { year, month, day, hour, minute } = WallClock::of(now);
    let second = now.div_euclid(1_000).rem_euclid(60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Text as it may stand in an element or an attribute of XML; what XML can't hold is left out.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&apos;")?,
                '\t' => f.write_char(' ')?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
