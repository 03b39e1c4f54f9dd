//! Where an app user is: a civic address and a point, as whoever runs the gateway wrote them down.

use std::fmt;

/// The elements of a civic address in the order of their schema (RFC 5139 §3.2), and how RFC 4119 §2.2.1 and RFC 5139
/// name them.
const CIVIC: [&str; 31] = [
    "country", "A1", "A2", "A3", "A4", "A5", "A6", "PRM", "PRD", "RD", "STS", "POD", "POM", "RDSEC", "RDBR",
    "RDSUBBR", "HNO", "HNS", "LMK", "LOC", "FLR", "NAM", "PC", "BLD", "UNIT", "ROOM", "SEAT", "PLC", "PCN",
    "POBOX", "ADDCODE",
];

/// A place. It is nobody's business: it is never printed whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Elements with their texts, in the order of the schema.
    civic: Vec<(&'static str, String)>,
    point: Option<Point>,
}

/// A point on the ground in WGS 84, each figure in degrees as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Point {
    pub latitude: String,
    pub longitude: String,
}

impl Place {
    pub fn is_empty(&self) -> bool {
        self.civic.is_empty() && self.point.is_none()
    }

    /// Elements of the civic address, in the order of the schema.
    pub fn civic(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.civic.iter().map(|(name, text)| (*name, text.as_str()))
    }

    pub fn point(&self) -> Option<&Point> {
        self.point.as_ref()
    }

    pub fn set_point(&mut self, point: Point) {
        self.point = Some(point);
    }

    /// Adds an element of the civic address.
    ///
    /// # Errors
    /// What to write instead.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), String> {
        let Some(element) = CIVIC.iter().find(|element| **element == name) else {
            return Err(format!(
                "\"{name}\" is no element of a civic address (RFC 5139); write country, A1 (region), A3 (town), RD \
                 (street), HNO (house number), PC (postal code), FLR (floor), ROOM or NAM (name of the place)"
            ));
        };
        let country = text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase());
        if *element == "country" && !country {
            return Err(format!(
                "\"{text}\" is no country; write its two capital letters, as country = \"BE\""
            ));
        }
        if text.trim().is_empty() || text.len() > 128 || text.chars().any(char::is_control) {
            return Err(format!("{name} must be one line of at most 128 characters"));
        }
        let place = |name: &str| CIVIC.iter().position(|element| *element == name);
        let at = self.civic.partition_point(|(other, _)| place(other) < place(element));
        self.civic.insert(at, (element, text.to_owned()));
        Ok(())
    }
}

impl std::str::FromStr for Point {
    type Err = String;
    /// `50.8503, 4.3517`: latitude and longitude in degrees.
    fn from_str(text: &str) -> Result<Point, String> {
        let figure = |text: &str, most: f64| {
            let text = text.trim();
            let plain = !text.is_empty()
                && text.len() <= 16
                && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'-'));
            text.parse::<f64>().ok().filter(|degrees| plain && degrees.abs() <= most).map(|_| text.to_owned())
        };
        let wrong = || {
            format!("\"{text}\" is no point; write latitude and longitude in degrees, as \"50.8503, 4.3517\"")
        };
        let (latitude, longitude) = text.split_once(',').ok_or_else(wrong)?;
        Ok(Point {
            latitude: figure(latitude, 90.0).ok_or_else(wrong)?,
            longitude: figure(longitude, 180.0).ok_or_else(wrong)?,
        })
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Place(…)")
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Point(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_in_the_order_of_the_schema_however_they_were_written() {
        let mut place = Place::default();
        for (name, text) in [("PC", "1000"), ("HNO", "16"), ("country", "BE"), ("RD", "Wetstraat")] {
            place.add(name, text).unwrap();
        }
        let names: Vec<_> = place.civic().map(|(name, _)| name).collect();
        assert_eq!(names, ["country", "RD", "HNO", "PC"]);
        assert_eq!(format!("{place:?}"), "Place(…)");
    }

    #[test]
    fn what_is_no_address_is_told() {
        let mut place = Place::default();
        assert!(place.add("street", "Wetstraat").unwrap_err().contains("RD (street)"));
        assert!(place.add("country", "Belgium").unwrap_err().contains("\"BE\""));
        assert!(place.add("RD", " ").is_err() && place.add("RD", "a\nb").is_err());
        assert!(place.is_empty());
    }

    #[test]
    fn points_are_two_figures_in_degrees() {
        let point: Point = "50.8503, -4.3517".parse().unwrap();
        assert_eq!((point.latitude.as_str(), point.longitude.as_str()), ("50.8503", "-4.3517"));
        for bad in ["", "50.8503", "91, 4", "50, 181", "1e1, 4", "50, nan", "50,4,3"] {
            assert!(bad.parse::<Point>().unwrap_err().contains("50.8503, 4.3517"), "{bad}");
        }
    }
}
